//! Groups to a runtime plan: buffers, lifetimes, steps.

use super::batch::batches;
use super::constant::constant;
use super::offsets::{Interval, assign};
use super::planewise::{Follower, Planewise, Way, followers};
use super::post_ops;
use crate::fusion::cluster::{Clusters, Group};
use crate::graph::strided::{Strided, strided};
use crate::graph::{Graph, GraphOutput, Node, Op, ValueId};
use crate::lower::kernel::Lowered;
use crate::protocol::document::{Document, Options};
use cranelift_entity::{EntitySet, SecondaryMap};
use ipex_jit::kernel::{Kernel, Stmt};
use ipex_runtime::conv::Order;
use ipex_runtime::plan::device::Tail;
use ipex_runtime::plan::{
    AttentionStep, BagStep, BatchStep, Buffer, BufferId, CallArg, ConvolutionStep, Either,
    ExternalCall, IndexRule, KernelCode, OnednnStep, Output, Plan, ProductStep, Route, Step,
    TensorRef, Then,
};

/// Scalar operations that are worth a second thread.
const GRAIN_WORK: i64 = 40_000;

/// Builds the plan. `code` holds the compiled kernels of every group, in order.
pub fn build(
    graph: &Graph,
    clusters: &Clusters,
    code: &[Vec<KernelCode>],
    document: &Document,
) -> Result<Plan, String> {
    let followers = followers(graph, &clusters.groups, document.options.on_gpu());
    let constant = constant(graph, &clusters.groups, &document.options.frozen);
    let batches = match document.options.on_gpu() {
        false => batches(graph, &clusters.groups, code, &followers, &constant),
        true => (0..clusters.groups.len()).collect(),
    };
    let mut planner = Planner {
        batches,
        graph,
        buffer_of: SecondaryMap::new(),
        plan: Plan {
            num_inputs: graph.num_inputs,
            ..Plan::default()
        },
        once_as_text: String::new(),
        lifetimes: Vec::new(),
        followers,
        constant,
        options: &document.options,
        torch: document.producer.get("torch").map_or("", String::as_str),
        used: used(graph),
    };
    planner.buffers(clusters)?;
    for (k, (group, code)) in clusters.groups.iter().zip(code).enumerate() {
        planner.step(k, group, code)?;
    }
    planner.outputs()?;
    planner.plan.once_as_text = planner.once_as_text.into();
    Ok(planner.plan)
}

struct Planner<'a> {
    graph: &'a Graph,
    buffer_of: SecondaryMap<ValueId, Option<BufferId>>,
    plan: Plan,
    /// See [`Plan::once_as_text`].
    once_as_text: String,
    /// First and last group that touches each buffer.
    lifetimes: Vec<(u32, u32)>,
    /// By group, the first one of its batch.
    batches: Vec<usize>,
    /// By group.
    followers: Vec<Option<Follower>>,
    /// By group.
    constant: Vec<bool>,
    options: &'a Options,
    /// PyTorch's version, if it wrote the document.
    torch: &'a str,
    used: EntitySet<ValueId>,
}

/// Values that another node takes or that are returned.
fn used(graph: &Graph) -> EntitySet<ValueId> {
    let operands = graph.nodes.values().flat_map(|n| &n.operands).copied();
    let returned = graph.outputs.iter().filter_map(|o| match o {
        GraphOutput::Value(v) => Some(*v),
        _ => None,
    });
    let mut used = EntitySet::new();
    for value in operands.chain(returned) {
        used.insert(value);
    }
    used
}

impl Planner<'_> {
    fn locate(&self, value: ValueId) -> Result<Strided, String> {
        strided(self.graph, value, &|v| self.buffer_of[v].is_some())
            .ok_or_else(|| format!("{value} is not in memory"))
    }

    fn reference(&self, value: ValueId) -> Result<TensorRef, String> {
        let at = self.locate(value)?;
        let buffer = self.buffer_of[at.base].ok_or("a view of nothing")?;
        Ok(TensorRef {
            buffer,
            scalar_type: self.graph.values[value].scalar_type,
            sizes: at.sizes,
            strides: at.strides,
            offset: at.offset,
        })
    }

    fn add(&mut self, value: ValueId, buffer: Buffer, born: u32) {
        self.buffer_of[value] = Some(BufferId(self.plan.buffers.len() as u32));
        self.plan.buffers.push(buffer);
        self.lifetimes.push((born, born));
    }

    /// When a group runs: inside of the group in front of it, or after it; all of a batch at once.
    fn time(&self, group: usize) -> u32 {
        self.batches[group] as u32 - u32::from(self.followers[group].is_some())
    }

    /// A buffer for each value in memory, and the offsets of those in the arena.
    fn buffers(&mut self, clusters: &Clusters) -> Result<(), String> {
        let graph = self.graph;
        for node in graph.nodes.values() {
            if let Op::Input(n) = node.op {
                self.add(node.results[0], Buffer::Input(n), 0);
            }
        }
        for (k, group) in clusters.groups.iter().enumerate() {
            for &n in &group.nodes {
                let node = &graph.nodes[n];
                if node.op == Op::Assign {
                    self.buffer_of[node.results[0]] = self.buffer_of[node.operands[1]];
                }
            }
            let next = self.followers.get(k + 1).and_then(Option::as_ref);
            let next = next.filter(|f| f.in_place.is_some()).map(|f| f.result);
            for &root in &group.roots {
                if graph.producer(root).op == Op::Assign || next == Some(root) {
                    continue;
                }
                let meta = &graph.values[root];
                let buffer = match &graph.producer(root).op {
                    Op::External { route, .. } if route.allocates() => Buffer::External,
                    _ => {
                        let dtype = meta
                            .dtype()
                            .ok_or("a kernel's result has no element type")?;
                        let bytes = (meta.numel() * dtype.size() as i64) as u64;
                        if self.constant[k] {
                            Buffer::Kept { bytes }
                        } else {
                            Buffer::Arena { offset: 0, bytes }
                        }
                    }
                };
                self.add(root, buffer, self.time(k));
            }
            if let Some(f) = &self.followers[k]
                && let Some(into) = f.in_place
            {
                self.buffer_of[f.result] = self.buffer_of[into];
            }
        }
        for output in &graph.outputs {
            if let GraphOutput::Value(v) = output {
                let base = self.locate(*v)?.base;
                let Some(BufferId(b)) = self.buffer_of[base] else {
                    continue;
                };
                let meta = &graph.values[base];
                if let Buffer::Arena { bytes, .. } = self.plan.buffers[b as usize] {
                    self.plan.buffers[b as usize] = Buffer::Output {
                        sizes: meta.sizes.clone(),
                        strides: meta.strides.clone(),
                        scalar_type: meta.scalar_type,
                        bytes,
                    };
                }
            }
        }
        for (k, group) in clusters.groups.iter().enumerate() {
            let time = self.time(k);
            for used in self.uses(group)? {
                let (_, last) = &mut self.lifetimes[used.0 as usize];
                *last = (*last).max(time);
            }
        }
        self.place();
        Ok(())
    }

    fn uses(&self, group: &Group) -> Result<Vec<BufferId>, String> {
        let kernels = group.kernels.iter().flat_map(|k| &k.tensors).copied();
        let mut values: Vec<ValueId> = kernels.collect();
        for &n in &group.nodes {
            let node = &self.graph.nodes[n];
            match &node.op {
                Op::External { .. } => values.extend(&node.operands),
                _ if node.op.gathers() => values.extend(&node.operands[1..]),
                _ => {}
            }
        }
        let in_memory = values.iter().filter_map(|&v| self.locate(v).ok());
        Ok(in_memory.filter_map(|at| self.buffer_of[at.base]).collect())
    }

    fn place(&mut self) {
        let mut slots = Vec::new();
        let mut intervals = Vec::new();
        for (k, buffer) in self.plan.buffers.iter().enumerate() {
            if let Buffer::Arena { bytes, .. } = buffer {
                let (first, last) = self.lifetimes[k];
                slots.push(k);
                intervals.push(Interval {
                    first,
                    last,
                    bytes: *bytes,
                });
            }
        }
        let (offsets, total) = assign(&intervals);
        for (&k, &at) in slots.iter().zip(&offsets) {
            if let Buffer::Arena { offset, .. } = &mut self.plan.buffers[k] {
                *offset = at;
            }
        }
        self.plan.arena_bytes = total;
    }

    fn step(&mut self, k: usize, group: &Group, code: &[KernelCode]) -> Result<(), String> {
        let graph = self.graph;
        for &n in &group.nodes {
            let node = &graph.nodes[n];
            match &node.op {
                Op::External {
                    route: Route::Convolution(order, operation, shape),
                    ..
                } => {
                    let tensor = |n: usize| {
                        let v = node.operands.get(n);
                        v.map(|&v| self.reference(v)).transpose()
                    };
                    let (weight, bias) = (tensor(1)?, tensor(2)?);
                    let convolution = ConvolutionStep {
                        operation: *operation,
                        last: *order == Order::Pixels,
                        shape: *shape,
                        image: self.reference(node.operands[0])?,
                        pack: weight.as_ref().and_then(|w| self.pack(&[w])),
                        weight,
                        bias,
                        result: self.reference(node.results[0])?.buffer,
                        then: None,
                    };
                    let rival = convolution.rival(self.reference(node.results[0])?);
                    let rival = rival.into_iter().collect();
                    let problem = convolution.problem();
                    self.own(Step::Convolution(Box::new(convolution)), problem, rival);
                }
                Op::External { name, route, args } => {
                    // What nobody uses is not taken: it may differ from what its meta function
                    // says (offsets of an embedding bag).
                    let taken = |r: ValueId| !route.allocates() || self.used.contains(r);
                    let outputs = node.results.iter();
                    let outputs = outputs.map(|&r| taken(r).then(|| self.reference(r)).transpose());
                    let call = ExternalCall {
                        name: name.clone(),
                        route: route.clone(),
                        keeps: name.starts_with("_c10d_functional."),
                        args: args
                            .iter()
                            .map(|a| self.argument(a, &node.operands))
                            .collect::<Result<_, _>>()?,
                        outputs: outputs.collect::<Result<_, _>>()?,
                    };
                    let (precision, on_gpu) = (self.options.products, self.options.on_gpu());
                    if let Some(attention) = AttentionStep::of(&call) {
                        self.plan.steps.push(Step::Attention(Box::new(attention)));
                    } else if let Some(bag) = BagStep::of(&call) {
                        self.plan.steps.push(Step::Bag(Box::new(bag)));
                    } else if let Some(product) =
                        ProductStep::of(&call, precision, on_gpu, |b| self.pack(&[b]))
                    {
                        let problem = product.problem();
                        self.own(Step::Product(Box::new(product)), problem, vec![call]);
                    } else if let Some(product) =
                        ProductStep::joined(&call, precision, |b| self.pack(b))
                    {
                        let (problem, rivals) = (product.problem(), product.separate());
                        self.own(Step::Product(Box::new(product)), problem, rivals);
                    } else if let Some(product) =
                        ProductStep::bytes(&call, precision, |b| self.pack(&[b]))
                    {
                        self.plan.steps.push(Step::Product(Box::new(product)));
                    } else if let Some(convolution) = self.onednn(k, node)? {
                        let problem = convolution.problem();
                        self.choose(Step::Onednn(Box::new(convolution)), problem, vec![call]);
                    } else {
                        self.plan.steps.push(Step::External(Box::new(call)));
                    }
                }
                Op::IndexSelect { dims, rule } => self.checks(node, dims, *rule)?,
                Op::Gather { dim, rule } => self.checks(node, &[*dim], *rule)?,
                _ => {}
            }
        }
        for (lowered, code) in group.kernels.iter().zip(code) {
            let kernel_step = self.kernel(group, lowered, code)?;
            if self.constant[k] {
                self.once(kernel_step, lowered);
            } else if self.batches[k] < k || self.goes_on(k) {
                self.batch(kernel_step, self.batches[k] == k);
            } else {
                self.attach(kernel_step, self.followers[k].clone());
            }
        }
        if self.goes_on(k) {
            return Ok(());
        }
        let time = self.time(k);
        for (b, buffer) in self.plan.buffers.iter().enumerate() {
            if self.lifetimes[b].1 == time && *buffer == Buffer::External && !self.is_result(b) {
                self.plan.steps.push(Step::Release(BufferId(b as u32)));
            }
        }
        Ok(())
    }

    /// A step of the first call.
    fn once(&mut self, step: Step, lowered: &Lowered) {
        if let Step::Kernel { args, .. } = &step {
            let text = &mut self.once_as_text;
            text.push_str(&lowered.kernel.to_string());
            for (buffer, at) in args {
                let n = buffer.0 as usize;
                text.push_str(&match &self.plan.buffers[n] {
                    Buffer::Input(n) => format!("argument {n} + {at}\n"),
                    _ => {
                        let is_kept = |b: &&Buffer| matches!(b, Buffer::Kept { .. });
                        let before = self.plan.buffers[..n].iter().filter(is_kept).count();
                        format!("kept {before} + {at}\n")
                    }
                });
            }
        }
        self.plan.once.push(step);
    }

    /// Whether the next group belongs to the same batch.
    fn goes_on(&self, k: usize) -> bool {
        self.batches.get(k + 1) == Some(&self.batches[k])
    }

    /// A kernel as a call of the batch that the last step is, or as a batch's first.
    fn batch(&mut self, step: Step, first: bool) {
        let Step::Kernel {
            name,
            code,
            args,
            extent,
            grain,
        } = step
        else {
            return;
        };
        match self.plan.steps.last_mut() {
            Some(Step::Batch(batch)) if !first => {
                let end = batch.extent() + extent;
                batch.ends.push(end);
                batch.args.extend(args);
            }
            _ => self.plan.steps.push(Step::Batch(Box::new(BatchStep {
                name,
                code,
                args,
                ends: vec![extent],
                grain,
            }))),
        }
    }

    /// A step of ours; with ATen's calls as its rival if the person wants the faster one found out.
    fn own(&mut self, own: Step, problem: String, rival: Vec<ExternalCall>) {
        if rival.is_empty() || !self.options.autotune || self.options.on_gpu() {
            self.plan.steps.push(own);
            return;
        }
        self.choose(own, problem, rival);
    }

    /// A step of ours, and ATen's calls where it fails, or is slower if the person wants that found out.
    fn choose(&mut self, own: Step, problem: String, rival: Vec<ExternalCall>) {
        let calls = rival.into_iter().map(|c| Step::External(Box::new(c)));
        self.plan.steps.push(Step::Either(Box::new(Either {
            own,
            aten: calls.collect(),
            problem: format!("torch {}, {problem}", self.torch),
            timed: self.options.autotune,
            slot: self.plan.eithers,
        })));
        self.plan.eithers += 1;
    }

    /// A convolution of ATen's, and the next group, by oneDNN, where that pays.
    fn onednn(&mut self, k: usize, node: &Node) -> Result<Option<OnednnStep>, String> {
        let Ok(mut step) = post_ops::convolution(self.graph, node) else {
            return Ok(None);
        };
        if self.options.on_gpu() || self.options.without_onednn {
            return Ok(None);
        }
        let operand = |n: usize| node.operands.get(n).map(|&v| self.reference(v));
        let missing = || "a convolution without operands".to_string();
        step.image = operand(0).ok_or_else(missing)??;
        step.weight = operand(1).ok_or_else(missing)??;
        step.bias = operand(2).transpose()?;
        step.out = self.reference(node.results[0])?;
        if let Some(Follower {
            way: Way::PostOp(function, result),
            ..
        }) = self.followers.get(k + 1).cloned().flatten()
        {
            step.then = function;
            step.out = self.reference(result)?;
        }
        if step.packs() {
            step.pack = self.pack(&[&step.weight]);
        }
        Ok(step.pays().then_some(step))
    }

    /// Checks of a gather's indices along `dims`.
    fn checks(&mut self, node: &Node, dims: &[usize], rule: IndexRule) -> Result<(), String> {
        for (n, &dim) in dims.iter().enumerate() {
            let mut index = self.reference(node.operands[1 + n])?;
            // What broadcasting repeats is looked at once.
            for (size, &stride) in index.sizes.iter_mut().zip(&index.strides) {
                *size = if stride == 0 { (*size).min(1) } else { *size };
            }
            self.plan.steps.push(Step::CheckIndex {
                index,
                // ATen moves the indexed dimensions to the front.
                dim: if rule == IndexRule::Wrapping { n } else { dim },
                size: self.graph.values[node.operands[0]].sizes[dim],
                rule,
            });
        }
        Ok(())
    }

    /// A kernel as a step of its own, or as what follows the step in front of it: it may read what is
    /// released after that step.
    fn attach(&mut self, step: Step, follower: Option<Follower>) {
        let Some(f) = follower else {
            self.plan.steps.push(step);
            return;
        };
        let is_release = |s: &Step| matches!(s, Step::Release(_));
        let at = self.plan.steps.iter().rposition(|s| !is_release(s));
        let at = at.map_or(0, |n| n + 1);
        let before = self.plan.steps[..at].last_mut();
        let then = match (f.way, before) {
            (Way::PostOp(..), Some(Step::Either(either))) => return either.apart(step),
            (Way::Walk(walk, tail), _) => then(&step, walk, tail),
            (Way::PostOp(..), _) => None,
        };
        let Some(then) = then else {
            self.plan.steps.insert(at, step);
            return;
        };
        match self.plan.steps[..at].last_mut() {
            Some(Step::Convolution(c)) => c.then = Some(then),
            Some(Step::Product(p)) => p.then = Some(then),
            Some(Step::Either(either)) => either.follow(then, step),
            _ => self.plan.steps.insert(at, step),
        }
    }

    /// Where the packed form of weights, side by side, is kept, if none ever changes.
    fn pack(&mut self, weights: &[&TensorRef]) -> Option<u32> {
        let fixed = |w: &&TensorRef| match self.plan.buffers[w.buffer.0 as usize] {
            Buffer::Input(n) => self.options.frozen.contains(&n),
            Buffer::Kept { .. } => true,
            _ => false,
        };
        weights.iter().all(fixed).then(|| {
            self.plan.packs += 1;
            self.plan.packs - 1
        })
    }

    fn is_result(&self, buffer: usize) -> bool {
        self.graph.outputs.iter().any(|o| match o {
            GraphOutput::Value(v) => {
                let base = self.locate(*v).ok().and_then(|at| self.buffer_of[at.base]);
                base == Some(BufferId(buffer as u32))
            }
            _ => false,
        })
    }

    fn argument(&self, arg: &CallArg, operands: &[ValueId]) -> Result<CallArg, String> {
        Ok(match arg {
            CallArg::Tensor(t) => CallArg::Tensor(self.reference(operands[t.buffer.0 as usize])?),
            CallArg::Float(x) => CallArg::Float(*x),
        })
    }

    fn kernel(&self, group: &Group, lowered: &Lowered, code: &KernelCode) -> Result<Step, String> {
        let args = lowered.tensors.iter().map(|&v| {
            self.buffer_of[v]
                .map(|b| (b, 0))
                .ok_or_else(|| format!("{v} has no memory"))
        });
        let extent = lowered.kernel.vars[lowered.kernel.root.var].extent as i64;
        let work = work(&lowered.kernel, &lowered.kernel.root.body).max(1);
        Ok(Step::Kernel {
            name: self.name(group).into(),
            code: code.clone(),
            args: args.collect::<Result<_, _>>()?,
            extent,
            grain: (GRAIN_WORK / work).max(1),
        })
    }

    /// The operators of a group: `add, relu`.
    fn name(&self, group: &Group) -> String {
        let mut origins: Vec<u32> = Vec::new();
        origins.extend(group.nodes.iter().map(|&n| self.graph.nodes[n].origin));
        origins.sort_unstable();
        origins.dedup();
        let op = |&origin: &u32| {
            let node = &self.graph.origins[origin as usize].node;
            node.split('.').nth(1).unwrap_or(node).to_string()
        };
        origins.iter().map(op).collect::<Vec<_>>().join(", ")
    }

    /// The argument that a value was assigned to.
    fn assigned(&self, v: ValueId) -> Output {
        let target = self.graph.producer(v).operands[1];
        match self.graph.producer(target).op {
            Op::Input(n) => Output::Input(n),
            _ => Output::None,
        }
    }

    fn outputs(&mut self) -> Result<(), String> {
        let mut shown = vec![0; self.plan.buffers.len()];
        for output in &self.graph.outputs {
            let output = match output {
                GraphOutput::Value(v) => match self.graph.producer(*v).op {
                    Op::Input(n) => Output::Input(n),
                    Op::Assign => self.assigned(*v),
                    _ => Output::Tensor(self.reference(*v)?),
                },
                GraphOutput::None => Output::None,
                GraphOutput::Int(i) => Output::Int(*i),
                GraphOutput::Float(x) => Output::Float(*x),
                GraphOutput::Bool(b) => Output::Bool(*b),
            };
            if let Output::Tensor(t) = &output {
                shown[t.buffer.0 as usize] += 1;
            }
            self.plan.outputs.push(output);
        }
        for (output, of) in self.plan.outputs.iter_mut().zip(&self.graph.outputs) {
            let is_view =
                |v| matches!(self.graph.producer(v).op, Op::View(_)) && self.buffer_of[v].is_none();
            let is_whole = |t: &TensorRef| match &self.plan.buffers[t.buffer.0 as usize] {
                Buffer::Output { sizes, strides, .. } => {
                    (&t.sizes, &t.strides, t.offset) == (sizes, strides, 0)
                }
                Buffer::External => match *of {
                    GraphOutput::Value(v) => {
                        matches!(self.graph.producer(v).op, Op::External { .. })
                    }
                    _ => false,
                },
                _ => false,
            };
            if let Output::Tensor(t) = output
                && shown[t.buffer.0 as usize] == 1
                && is_whole(t)
            {
                *output = Output::Whole(t.buffer);
            } else if let (Output::Tensor(t), GraphOutput::Value(v)) = (&*output, of)
                && is_view(*v)
            {
                *output = Output::View(t.clone());
            }
        }
        Ok(())
    }
}

/// A kernel as what follows a convolution or product.
fn then(step: &Step, walk: Planewise, tail: Option<Tail>) -> Option<Then> {
    let Step::Kernel {
        name,
        code,
        args,
        grain,
        ..
    } = step
    else {
        return None;
    };
    Some(Then {
        name: name.clone(),
        code: code.clone(),
        args: args.clone(),
        planes: walk.planes,
        iterations: walk.iterations,
        grain: *grain,
        tail,
    })
}

/// Scalar operations in one run of a loop body.
fn work(kernel: &Kernel, body: &[Stmt]) -> i64 {
    body.iter()
        .map(|s| match s {
            Stmt::Loop(l) => {
                (kernel.vars[l.var].extent as i64).saturating_mul(work(kernel, &l.body))
            }
            _ => 1,
        })
        .fold(0, i64::saturating_add)
}
