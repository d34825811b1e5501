//! Runs a plan.

use super::arena::{Arena, Line};
use super::check::check_index;
use super::device::{self, OnDevice, Target};
use super::either::{Either, Way};
use super::kept::Kept;
use super::layout::{addressed, own_layout};
use super::profile::Profile;
use super::sections::{Section, sections};
use super::shared::{Shared, Slot};
use super::unread::unread;
use super::{
    BagStep, Buffer, BufferId, CallArg, Callable, ExternalCall, OnednnStep, Output, Plan, Route,
    Step, TensorRef,
};
use crate::Error;
use crate::ahead::Memory;
use crate::aten::{Aten, Place, Tensor};
use crate::conv::Threads;
use std::borrow::Cow;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

mod gpu;

/// Who carries out calls that ATen's C ABI does not.
pub trait Host {
    /// Calls a callable with these tensors; the results in order.
    fn call(&mut self, callable: &Callable, tensors: Vec<Tensor>) -> Result<Vec<Tensor>, Error>;
}

/// An argument that is a tensor.
pub enum Argument {
    /// The tensor.
    Tensor(Tensor),
    /// Its first element, for plans that are [`addressed`](Executable::addressed): it stays where it is during the call.
    Address(*mut u8),
}

// SAFETY: an address is only followed by the call that gets it.
unsafe impl Send for Argument {}

/// A result.
#[expect(missing_docs, reason = "the names are the kinds of results")]
pub enum Value {
    Tensor(Tensor),
    /// The n-th argument itself.
    Input(u32),
    None,
    Int(i64),
    Float(f64),
    Bool(bool),
}

/// What one call writes; recycled by the next.
struct State {
    arena: Arena,
    /// First byte of each buffer.
    data: Vec<*mut u8>,
    /// Tensors that ATen or the caller owns, by buffer.
    tensors: Vec<Option<Tensor>>,
    args: Vec<*mut u8>,
    device: Option<device::State>,
}

// SAFETY: the pointers are only followed by the call that owns the state.
unsafe impl Send for State {}

/// A plan that can be called from several threads at once.
pub struct Executable {
    plan: Plan,
    aten: &'static Aten,
    constants: Vec<Vec<Line>>,
    idle: Mutex<Vec<State>>,
    profile: Option<Profile>,
    packs: Vec<Slot>,
    ways: Vec<OnceLock<Way>>,
    kept: Arc<Kept>,
    shared: Arc<Shared>,
    /// By buffer.
    own_layout: Vec<bool>,
    /// By step: what threads read in it that never changes.
    reads: Vec<OnceLock<Vec<Memory>>>,
    addressed: bool,
    /// Known as soon as all choices are made.
    sections: OnceLock<Vec<Section>>,
    device: Option<OnDevice>,
}

impl Executable {
    /// Prepares a plan for a GPU.
    pub fn on_device(
        plan: Plan,
        aten: &'static Aten,
        shared: Arc<Shared>,
        target: Target,
    ) -> Result<Executable, Error> {
        let device = OnDevice::new(&plan, target).map_err(device::failed)?;
        Ok(Executable {
            device: Some(device),
            ..Executable::new(plan, aten, shared)
        })
    }

    /// Whether calls need no more of their arguments than where they are.
    pub fn addressed(&self) -> bool {
        self.addressed && self.device.is_none()
    }

    /// The GPU's part, if there is one.
    pub fn device(&self) -> Option<&OnDevice> {
        self.device.as_ref()
    }

    /// Prepares a plan, which finds in `shared` what others of its document have made of frozen arguments.
    pub fn new(plan: Plan, aten: &'static Aten, shared: Arc<Shared>) -> Executable {
        let constants = plan.buffers.iter().map(|b| match b {
            Buffer::Constant(bytes) => bytes
                .chunks(64)
                .map(|c| {
                    let mut line = Line([0; 64]);
                    line.0[..c.len()].copy_from_slice(c);
                    line
                })
                .collect(),
            _ => Vec::new(),
        });
        let constants = constants.collect();
        Executable {
            own_layout: own_layout(&plan),
            reads: plan.steps.iter().map(|_| OnceLock::new()).collect(),
            addressed: addressed(&plan),
            profile: Profile::from_environment(&plan),
            packs: shared.packs(&plan, aten),
            ways: (0..plan.eithers).map(|_| OnceLock::new()).collect(),
            kept: shared.kept(&plan),
            shared,
            sections: OnceLock::new(),
            device: None,
            plan,
            aten,
            constants,
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Runs the plan. `inputs` are the arguments that are tensors.
    pub fn call(
        &self,
        inputs: Vec<Option<Argument>>,
        host: &mut dyn Host,
    ) -> Result<Vec<Value>, Error> {
        if inputs.len() != self.plan.num_inputs as usize {
            return Err(Error::Arguments {
                expected: self.plan.num_inputs as usize,
                found: inputs.len(),
            });
        }
        let idle = self.idle.lock().ok().and_then(|mut idle| idle.pop());
        let mut state = match idle {
            Some(state) => state,
            None => self.new_state()?,
        };
        // `mm_out` and its like refuse to record gradients.
        let result = self
            .aten
            .without_grad(|| self.run(&mut state, inputs, host));
        state.tensors.fill_with(|| None);
        state.arena.release();
        if let (Some(on_device), Some(mine)) = (&self.device, &mut state.device) {
            on_device.end(mine);
        }
        if let Ok(mut idle) = self.idle.lock() {
            idle.push(state);
        }
        result
    }

    fn new_state(&self) -> Result<State, Error> {
        let n = self.plan.buffers.len();
        let device = self.device.as_ref().map(|d| d.new_state(&self.plan));
        Ok(State {
            device: device.transpose()?,
            arena: Arena::new(self.plan.arena_bytes as usize),
            data: vec![std::ptr::null_mut(); n],
            tensors: std::iter::repeat_with(|| None).take(n).collect(),
            args: Vec::new(),
        })
    }

    fn run(
        &self,
        state: &mut State,
        mut inputs: Vec<Option<Argument>>,
        host: &mut dyn Host,
    ) -> Result<Vec<Value>, Error> {
        let base = state.arena.acquire()?;
        if let (Some(on_device), Some(mine)) = (&self.device, &mut state.device) {
            on_device.begin(&self.plan, mine);
        }
        for (k, buffer) in self.plan.buffers.iter().enumerate() {
            let tensor = match buffer {
                Buffer::Input(n) => match inputs[*n as usize].take() {
                    Some(Argument::Tensor(tensor)) => Some(tensor),
                    Some(Argument::Address(data)) if self.addressed => {
                        state.data[k] = data;
                        continue;
                    }
                    Some(Argument::Address(_)) | None => None,
                },
                Buffer::Output {
                    sizes,
                    strides,
                    scalar_type,
                    bytes,
                } => Some(match self.device.as_ref().and_then(OnDevice::home) {
                    Some(home) => Tensor::empty_at(self.aten, home, sizes, strides, *scalar_type)?,
                    None => {
                        let bytes = *bytes as usize;
                        Tensor::result(self.aten, sizes, strides, *scalar_type, bytes)?
                    }
                }),
                _ => None,
            };
            let tensor = match (tensor, &self.device, &mut state.device) {
                (Some(tensor), Some(on_device), Some(mine)) => {
                    let given = on_device.take(mine, k, tensor, buffer)?;
                    if given.is_none() {
                        state.data[k] = std::ptr::null_mut();
                        continue;
                    }
                    given
                }
                (tensor, ..) => tensor,
            };
            state.data[k] = match (buffer, &tensor) {
                (Buffer::Arena { offset, .. }, _) => base.wrapping_add(*offset as usize),
                (Buffer::Constant(_), _) => self.constants[k].as_ptr().cast_mut().cast(),
                (Buffer::Kept { .. }, _) => self.kept.data(k),
                (_, Some(tensor)) => tensor.data()?,
                (Buffer::Input(n), None) => {
                    return Err(Error::Plan(format!("argument {n} is no tensor")));
                }
                _ => std::ptr::null_mut(),
            };
            state.tensors[k] = tensor;
        }
        if let Some(on_device) = &self.device {
            self.on_gpu(on_device, state, host)?;
            let outputs = self.plan.outputs.iter();
            return outputs.map(|o| self.output(o, state)).collect();
        }
        self.kept
            .fill(|| self.steps(&self.plan.once, state, host))?;
        match &self.profile {
            None => self.in_sections(state, host, |_| {})?,
            Some(profile) => self.profiled(profile, state, host)?,
        }
        let outputs = self.plan.outputs.iter();
        outputs.map(|o| self.output(o, state)).collect()
    }

    fn steps(&self, steps: &[Step], state: &mut State, host: &mut dyn Host) -> Result<(), Error> {
        steps.iter().try_for_each(|s| self.step(s, state, host))
    }

    /// All steps but those of the first call, each section's on one team of threads where that pays. `done` is
    /// called after each.
    fn in_sections(
        &self,
        state: &mut State,
        host: &mut dyn Host,
        mut done: impl FnMut(Duration),
    ) -> Result<(), Error> {
        for section in self.sections().iter() {
            let mut steps = section.steps.clone();
            let mut run = || {
                steps.try_for_each(|n| {
                    let start = self.profile.as_ref().map(|_| Instant::now());
                    self.look_ahead(n, section);
                    self.step(&self.plan.steps[n], state, host)?;
                    done(start.map_or(Duration::ZERO, |s| s.elapsed()));
                    Ok(())
                })
            };
            if section.team {
                self.aten.team(run)??;
            } else {
                run()?;
            }
        }
        Ok(())
    }

    /// Lets threads that wait in a step fetch what the section's next product reads.
    fn look_ahead(&self, n: usize, section: &Section) {
        if !section.team {
            return;
        }
        let mut after = n + 1..section.steps.end;
        let next = after.find_map(|k| match &self.plan.steps[k] {
            Step::Product(p) => Some((&self.reads[k], p)),
            _ => None,
        });
        let found = next.and_then(|(reads, p)| match reads.get() {
            None => {
                let found = p.reads(self.aten.count(), &self.packs)?;
                Some(reads.get_or_init(|| found))
            }
            found => found,
        });
        // SAFETY: the region of threads is this call's, and what is found is kept.
        unsafe { self.aten.look_ahead(found) };
    }

    fn sections(&self) -> Cow<'_, [Section]> {
        if let Some(sections) = self.sections.get() {
            return Cow::Borrowed(sections);
        }
        let settled = self.ways.iter().all(|way| way.get().is_some());
        let sections = sections(&self.plan.steps, |slot| {
            self.ways[slot as usize].get().copied()
        });
        match settled {
            true => Cow::Borrowed(self.sections.get_or_init(|| sections)),
            false => Cow::Owned(sections),
        }
    }

    fn profiled(
        &self,
        profile: &Profile,
        state: &mut State,
        host: &mut dyn Host,
    ) -> Result<(), Error> {
        let mut times = Vec::with_capacity(self.plan.steps.len());
        self.in_sections(state, host, |time| times.push(time))?;
        profile.add(&self.plan, &times);
        Ok(())
    }

    fn step(&self, step: &Step, state: &mut State, host: &mut dyn Host) -> Result<(), Error> {
        match step {
            Step::Kernel {
                code,
                args,
                extent,
                grain,
                ..
            } => {
                if *extent == 0 {
                    return Ok(());
                }
                self.bind(args, state);
                let args = state.args.as_ptr() as usize;
                let run = |begin, end| {
                    // SAFETY: the plan passes what the kernel addresses, for this range of it.
                    unsafe { (code.entry)(args as *const *mut u8, begin, end) }
                };
                if *extent <= *grain {
                    run(0, *extent);
                    return Ok(());
                }
                self.aten.parallel(*extent, *grain, &run)
            }
            Step::Batch(step) => {
                self.bind(&step.args, state);
                let args = state.args.as_ptr() as usize;
                self.aten.split(
                    step.extent() as usize,
                    step.grain as usize,
                    &|begin, end| {
                        // SAFETY: the plan passes what the kernel addresses, for this range of it.
                        unsafe { step.run(args as *const *mut u8, begin as i64, end as i64) }
                    },
                )
            }
            Step::External(call) => self.external(call, state, host),
            Step::Convolution(step) => {
                self.bind(step.then.as_ref().map_or(&[], |then| &then.args), state);
                // SAFETY: the plan's tensors lie in their buffers.
                unsafe { step.run(&state.data, &state.args, self.aten, &self.packs) }
            }
            Step::Onednn(step) => self.onednn(step, state),
            Step::CheckIndex {
                index,
                dim,
                size,
                rule,
            } => {
                let data = state.data[index.buffer.0 as usize];
                // SAFETY: the plan keeps views inside their buffer, and gathers by i64 alone.
                unsafe { check_index(data, index, (*dim, *size), *rule) }
            }
            Step::Product(step) => {
                self.bind(step.then.as_ref().map_or(&[], |then| &then.args), state);
                // SAFETY: the plan's tensors lie in their buffers.
                unsafe { step.run(&state.data, &state.args, self.aten, &self.packs) }
            }
            Step::Attention(step) => {
                // SAFETY: the plan's tensors lie in their buffers.
                unsafe { step.run(&state.data, self.aten) }
            }
            Step::Either(either) => {
                let way = self.way(either, state, host)?;
                self.go(either, way, state, host)
            }
            Step::Bag(step) => self.bag(step, state, host),
            Step::Release(BufferId(b)) => {
                state.tensors[*b as usize] = None;
                Ok(())
            }
        }
    }

    /// The way that is taken, which the first call finds out unless an earlier process did.
    fn way(&self, either: &Either, state: &mut State, host: &mut dyn Host) -> Result<Way, Error> {
        let slot = &self.ways[either.slot as usize];
        if let Some(way) = slot.get() {
            return Ok(*way);
        }
        let threads = self.aten.count();
        let known = either.timed.then(|| either.known(threads)).flatten();
        let way = match known {
            Some(way) => way,
            None if either.timed => {
                either.measure(threads, |way| self.go(either, way, state, host))?
            }
            // PyTorch may lack the function, or the processor what it needs.
            None => match self.go(either, Way::Own, state, host) {
                Ok(()) => Way::Own,
                Err(_) => Way::Aten,
            },
        };
        Ok(*slot.get_or_init(|| way))
    }

    fn go(
        &self,
        either: &Either,
        way: Way,
        state: &mut State,
        host: &mut dyn Host,
    ) -> Result<(), Error> {
        match way {
            Way::Own => self.step(&either.own, state, host),
            Way::Aten => self.steps(&either.aten, state, host),
        }
    }

    /// Points the state's arguments at a kernel's parameters.
    fn bind(&self, args: &[(BufferId, i64)], state: &mut State) {
        let data = &state.data;
        let pointers = args
            .iter()
            .map(|&(b, at)| data[b.0 as usize].wrapping_offset(at as isize));
        state.args.clear();
        state.args.extend(pointers);
    }

    /// Bytes of weights that were packed, and of what else is kept from call to call, by all plans of the document.
    pub fn packed_bytes(&self) -> usize {
        self.shared.bytes()
    }

    /// Places of the arguments that never change and that no further call reads, since their packed form is kept.
    pub fn unread(&self) -> Vec<u32> {
        if self.device.is_some() {
            return Vec::new();
        }
        let packed = |slot: u32| {
            let made = self.packs.get(slot as usize).and_then(|slot| slot.get());
            made.is_some_and(|p| p.bytes() > 0)
        };
        let own = |slot: u32| self.ways[slot as usize].get() == Some(&Way::Own);
        unread(&self.plan, packed, own)
    }

    /// A tensor of a buffer's memory.
    fn tensor(&self, t: &TensorRef, state: &State) -> Result<Tensor, Error> {
        let k = t.buffer.0 as usize;
        match &state.tensors[k] {
            Some(owner) => self.part(owner, t),
            // SAFETY: the plan keeps views inside their buffer, and calls do not outlive the state.
            None => unsafe { Tensor::over(self.aten, Place::Cpu, state.data[k], t) },
        }
    }

    /// A tensor of what belongs to another one.
    fn part(&self, owner: &Tensor, t: &TensorRef) -> Result<Tensor, Error> {
        if self.own_layout[t.buffer.0 as usize] {
            return owner.share();
        }
        let (sizes, strides) = owner.layout()?;
        if t.offset == 0 && sizes == t.sizes && strides == t.strides {
            owner.share()
        } else {
            owner.view(&t.sizes, &t.strides, t.offset)
        }
    }

    fn external(
        &self,
        call: &ExternalCall,
        state: &mut State,
        host: &mut dyn Host,
    ) -> Result<(), Error> {
        let results = match &call.route {
            Route::Python(_) | Route::Dispatcher { .. } => {
                self.in_pytorch(call, host, &mut || self.tensors(call, state))?
            }
            Route::Convolution(..)
            | Route::Joined { .. }
            | Route::Bytes(_)
            | Route::Attention(_)
            | Route::Bag(..) => {
                return Err(Error::Plan(format!("{} as a call", call.name)));
            }
            Route::OutFunction { symbol } => {
                let Some(Some(out)) = call.outputs.first() else {
                    return Err(Error::Plan(format!("{} has no result", call.name)));
                };
                let out = self.tensor(out, state)?;
                let tensors = self.tensors(call, state)?;
                let floats: Vec<f64> = call
                    .args
                    .iter()
                    .filter_map(|a| {
                        if let CallArg::Float(x) = a {
                            Some(*x)
                        } else {
                            None
                        }
                    })
                    .collect();
                return self.out_function(call, symbol, &out, &tensors, &floats);
            }
        };
        self.take_over(call, results, state)
    }

    /// Has PyTorch carry out a call with these tensors, which are asked for again if only Python can.
    fn in_pytorch(
        &self,
        call: &ExternalCall,
        host: &mut dyn Host,
        tensors: &mut dyn FnMut() -> Result<Vec<Tensor>, Error>,
    ) -> Result<Vec<Tensor>, Error> {
        let (operator, callable) = match &call.route {
            Route::Python(callable) => (None, callable),
            Route::Dispatcher { operator, callable } => (Some(operator), callable),
            _ => return Err(Error::Plan(format!("{} as a call", call.name))),
        };
        if let Some(operator) = operator
            && let Ok(results) = operator.call(self.aten, tensors()?)
        {
            return Ok(results);
        }
        host.call(callable, tensors()?)
    }

    /// Takes the results of a call.
    fn take_over(
        &self,
        call: &ExternalCall,
        results: Vec<Tensor>,
        state: &mut State,
    ) -> Result<(), Error> {
        if results.len() < call.outputs.len() {
            return Err(Error::Plan(format!(
                "{} returned too few tensors",
                call.name
            )));
        }
        for (out, result) in call.outputs.iter().zip(results) {
            if let Some(out) = out {
                self.adopt(out, result, state)?;
            }
        }
        Ok(())
    }

    fn onednn(&self, step: &OnednnStep, state: &mut State) -> Result<(), Error> {
        let tensor = |t: &TensorRef| self.tensor(t, state);
        let result = step.run(self.aten, &self.packs, &tensor)?;
        self.adopt(&step.out, result, state)
    }

    fn bag(&self, step: &BagStep, state: &mut State, host: &mut dyn Host) -> Result<(), Error> {
        // SAFETY: the plan's tensors lie in their buffers.
        let result = match unsafe { step.run(&state.data, self.aten) }? {
            Some(result) => result,
            None => {
                let given = [&step.table, &step.indices, &step.offsets];
                let tensors = given.into_iter().chain(&step.weights);
                let tensors = tensors
                    .map(|t| self.tensor(t, state))
                    .collect::<Result<_, _>>()?;
                let mut results = host.call(&step.callable, tensors)?;
                results.truncate(1);
                let missing = || Error::Plan("an embedding bag returned nothing".into());
                results.pop().ok_or_else(missing)?
            }
        };
        self.adopt(&step.out, result, state)
    }

    /// The tensors among a call's arguments.
    fn tensors(&self, call: &ExternalCall, state: &State) -> Result<Vec<Tensor>, Error> {
        let tensors = call.args.iter().filter_map(|a| match a {
            CallArg::Tensor(t) if call.keeps && state.tensors[t.buffer.0 as usize].is_none() => {
                let lent = self.tensor(t, state);
                Some(lent.and_then(|lent| lent.copied(&t.strides, t.scalar_type)))
            }
            CallArg::Tensor(t) => Some(self.tensor(t, state)),
            CallArg::Float(_) => None,
        });
        tensors.collect()
    }

    fn out_function(
        &self,
        call: &ExternalCall,
        symbol: &str,
        out: &Tensor,
        t: &[Tensor],
        x: &[f64],
    ) -> Result<(), Error> {
        let (a, out) = (self.aten, out.handle());
        // SAFETY: all handles are valid during the call.
        let status = unsafe {
            match (symbol, t, x) {
                ("aoti_torch_cpu_mm_out", [p, q], []) => {
                    (a.aoti_torch_cpu_mm_out)(out, p.handle(), q.handle())
                }
                ("aoti_torch_cpu_bmm_out", [p, q], []) => {
                    (a.aoti_torch_cpu_bmm_out)(out, p.handle(), q.handle())
                }
                ("aoti_torch_cpu__int_mm_out", [p, q], []) => {
                    let Some(int_mm) = a.aoti_torch_cpu__int_mm_out else {
                        return Err(Error::Symbol(symbol.into()));
                    };
                    int_mm(out, p.handle(), q.handle())
                }
                ("aoti_torch_cpu_addmm_out", [p, q, r], &[beta, alpha]) => (a
                    .aoti_torch_cpu_addmm_out)(
                    out,
                    p.handle(),
                    q.handle(),
                    r.handle(),
                    beta,
                    alpha,
                ),
                ("aoti_torch_cpu_baddbmm_out", [p, q, r], &[beta, alpha]) => (a
                    .aoti_torch_cpu_baddbmm_out)(
                    out,
                    p.handle(),
                    q.handle(),
                    r.handle(),
                    beta,
                    alpha,
                ),
                _ => return Err(Error::Plan(format!("{symbol} with these arguments"))),
            }
        };
        a.check(&call.name, status)
    }

    /// Takes an external result in the layout (unless it keeps its own) and dtype that the plan expects. One that lies in the
    /// plan's own memory (a view of an operand) is copied; any other keeps its identity, by which a
    /// collective's result is awaited.
    fn adopt(&self, out: &TensorRef, result: Tensor, state: &mut State) -> Result<(), Error> {
        let (sizes, strides) = result.layout()?;
        if sizes != out.sizes {
            return Err(Error::Plan(format!(
                "a result of {sizes:?} instead of {:?}",
                out.sizes
            )));
        }
        let k = out.buffer.0 as usize;
        let mut dims = sizes.iter().zip(strides.iter().zip(&out.strides));
        let differs = !self.own_layout[k] && dims.any(|(&n, (a, b))| n > 1 && a != b);
        let data = result.data()?.cast_const();
        let mut constants = self.constants.iter().map(|c| c.as_ptr_range());
        let lent = state.arena.contains(data)
            || self.kept.range().contains(&data)
            || constants.any(|c| c.contains(&data.cast()));
        let tensor = if differs || lent || result.scalar_type()? != out.scalar_type {
            result.copied(&out.strides, out.scalar_type)?
        } else {
            result
        };
        state.data[k] = tensor.data()?;
        state.tensors[k] = Some(tensor);
        Ok(())
    }

    fn output(&self, output: &Output, state: &mut State) -> Result<Value, Error> {
        if let Some(on_device) = self.device.as_ref().filter(|d| d.home().is_some())
            && let Output::Tensor(_) | Output::View(_) | Output::Whole(_) = output
        {
            return self.at_home(output, on_device, state).map(Value::Tensor);
        }
        Ok(match output {
            Output::Whole(BufferId(b)) => match state.tensors[*b as usize].take() {
                Some(tensor) => Value::Tensor(tensor),
                None => return Err(Error::Plan(format!("result {b} is gone"))),
            },
            Output::Tensor(t) => Value::Tensor(self.tensor(t, state)?),
            Output::View(t) => Value::Tensor(match &state.tensors[t.buffer.0 as usize] {
                Some(owner) => owner.view(&t.sizes, &t.strides, t.offset)?,
                None => self.tensor(t, state)?,
            }),
            Output::Input(n) => Value::Input(*n),
            Output::None => Value::None,
            Output::Int(i) => Value::Int(*i),
            Output::Float(x) => Value::Float(*x),
            Output::Bool(b) => Value::Bool(*b),
        })
    }
}
