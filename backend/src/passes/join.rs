//! Linear layers that share their input (query, key and value; gate and up) become one product: the weights are
//! packed side by side, and each layer's result is a range of columns. Only weights that never change can be
//! packed ahead; what is refused keeps its reason ([`Graph::not_joined`]), which `ipexc explain` prints.

use super::rewrite::Rewrite;
use crate::graph::strided::contiguous;
use crate::graph::{Graph, GraphOutput, Meta, Node, NodeId, Op, ValueId, View};
use cranelift_entity::{EntitySet, SecondaryMap};
use ipex_jit::kernel::{Const, Type};
use ipex_runtime::DType;
use ipex_runtime::plan::{ProductStep, Route};
use std::collections::HashMap;
use thiserror::Error;

/// Name of the calls that this pass makes.
pub const NAME: &str = "ipex.joined";

/// Why a product that shares its left side with another is computed alone.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotJoined {
    /// The weight is no frozen parameter.
    #[error("its matrix may change")]
    Changes,
    /// What is added is no frozen row.
    #[error("what it adds is no row that never changes")]
    Input,
    /// `alpha` or `beta`.
    #[error("it is scaled")]
    Scaled,
    /// ATen computes it, or there is nothing to compute.
    #[error("no kernel of ours for it")]
    Kernel,
    /// The caller gets it.
    #[error("its result is handed out")]
    Returned,
    /// A call that may want it without gaps.
    #[error("{0} reads its result")]
    Reader(String),
    /// Nothing is left to join it with.
    #[error("the others cannot be joined")]
    Alone,
}

/// A product that can be joined.
#[derive(Clone, Copy)]
struct Part {
    node: NodeId,
    bias: Option<ValueId>,
    a: ValueId,
    b: ValueId,
}

/// Joins products. `frozen` are the arguments that never change.
pub fn join(graph: &Graph, frozen: &[u32]) -> Graph {
    let pass = Pass {
        graph,
        frozen,
        readers: readers(graph),
    };
    let mut not_joined = Vec::new();
    let mut groups: HashMap<NodeId, Vec<Part>> = HashMap::new();
    let mut later: EntitySet<NodeId> = EntitySet::new();
    for same in pass.candidates() {
        let mut parts = Vec::new();
        for part in &same {
            match pass.check(part) {
                Ok(()) => parts.push(*part),
                Err(why) => not_joined.push((graph.nodes[part.node].origin, why)),
            }
        }
        if let [alone] = parts.as_slice() {
            not_joined.push((graph.nodes[alone.node].origin, NotJoined::Alone));
        } else if let [first, rest @ ..] = parts.as_slice() {
            later.extend(rest.iter().map(|p| p.node));
            groups.insert(first.node, parts);
        }
    }
    let mut new = Rewrite::new(graph);
    new.graph.not_joined = not_joined;
    for (id, node) in graph.nodes.iter() {
        if let Some(parts) = groups.get(&id) {
            new.product(parts);
        } else if !later.contains(id) && node.results.iter().all(|&r| new.map[r].is_none()) {
            new.copy(node);
        }
    }
    new.finish()
}

/// The nodes that use each value.
fn readers(graph: &Graph) -> SecondaryMap<ValueId, Vec<NodeId>> {
    let mut readers: SecondaryMap<ValueId, Vec<NodeId>> = SecondaryMap::new();
    for (id, node) in graph.nodes.iter() {
        for &v in &node.operands {
            readers[v].push(id);
        }
    }
    readers
}

struct Pass<'a> {
    graph: &'a Graph,
    frozen: &'a [u32],
    readers: SecondaryMap<ValueId, Vec<NodeId>>,
}

impl Pass<'_> {
    /// Products of the same left side with nothing between them that may change it, two and more.
    fn candidates(&self) -> Vec<Vec<Part>> {
        let mut found: Vec<Vec<Part>> = Vec::new();
        let mut open: HashMap<ValueId, usize> = HashMap::new();
        for (id, node) in self.graph.nodes.iter() {
            if node.op.calls_mutation() {
                open.clear();
            }
            if let Some(part) = self.product(id) {
                let place = *open.entry(part.a).or_insert(found.len());
                if place == found.len() {
                    found.push(Vec::new());
                }
                found[place].push(part);
            }
        }
        found.retain(|same| same.len() > 1);
        found
    }

    fn product(&self, node: NodeId) -> Option<Part> {
        let Node { op, operands, .. } = &self.graph.nodes[node];
        let Op::External {
            route: Route::OutFunction { .. },
            ..
        } = op
        else {
            return None;
        };
        let (bias, a, b) = match *operands.as_slice() {
            [a, b] => (None, a, b),
            [bias, a, b] => (Some(bias), a, b),
            _ => return None,
        };
        let plain = self.graph.values[a].sizes.len() == 2 && self.graph.values[b].sizes.len() == 2;
        plain.then_some(Part { node, bias, a, b })
    }

    fn check(&self, part: &Part) -> Result<(), NotJoined> {
        let values = &self.graph.values;
        let (a, b) = (&values[part.a], &values[part.b]);
        if !self.is_constant(part.b) {
            return Err(NotJoined::Changes);
        }
        let row = |v: ValueId| values[v].sizes == [b.sizes[1]] && self.is_constant(v);
        if !part.bias.is_none_or(row) {
            return Err(NotJoined::Input);
        }
        if let Op::External { args, .. } = &self.graph.nodes[part.node].op
            && !ProductStep::is_unscaled(args)
        {
            return Err(NotJoined::Scaled);
        }
        let types = [Some(part.a), Some(part.b), part.bias]
            .into_iter()
            .flatten();
        let mut types = types.map(|v| values[v].scalar_type);
        let ours = |t: DType| {
            t.is_float() && ProductStep::is_ours(t, [a.sizes[0], b.sizes[1], a.sizes[1]])
        };
        if !types.all(|t| t == a.scalar_type) || !a.dtype().is_some_and(ours) {
            return Err(NotJoined::Kernel);
        }
        self.check_readers(self.graph.nodes[part.node].results[0])
    }

    /// Refuses a result that somebody reads who may mind what lies between its rows.
    fn check_readers(&self, value: ValueId) -> Result<(), NotJoined> {
        let shown = |o: &GraphOutput| *o == GraphOutput::Value(value);
        if self.graph.outputs.iter().any(shown) {
            return Err(NotJoined::Returned);
        }
        for &reader in &self.readers[value] {
            let node = &self.graph.nodes[reader];
            match &node.op {
                Op::View(_) => self.check_readers(node.results[0])?,
                Op::External { name, route, .. } => match route {
                    Route::OutFunction { .. } | Route::Attention(_) | Route::Joined { .. } => {}
                    _ => return Err(NotJoined::Reader(name.clone())),
                },
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether a value is a view of a frozen argument, or of its conversion that only products read: what else reads
    /// that might compute it in each call.
    fn is_constant(&self, value: ValueId) -> bool {
        let owner = self.graph.owner(value);
        let node = self.graph.producer(owner);
        match node.op {
            Op::Input(n) => self.frozen.contains(&n),
            Op::Convert { .. } => {
                let from = self.graph.owner(node.operands[0]);
                matches!(self.graph.producer(from).op, Op::Input(n) if self.frozen.contains(&n))
                    && self.only_products(owner)
            }
            _ => false,
        }
    }

    fn only_products(&self, value: ValueId) -> bool {
        let shown = |o: &GraphOutput| *o == GraphOutput::Value(value);
        let mut readers = self.readers[value].iter();
        let product = |&n: &NodeId| match &self.graph.nodes[n].op {
            Op::View(_) => self.only_products(self.graph.nodes[n].results[0]),
            Op::External { route, .. } => matches!(route, Route::OutFunction { .. }),
            _ => false,
        };
        !self.graph.outputs.iter().any(shown) && readers.all(product)
    }
}

impl Rewrite<'_> {
    /// A value that follows from arguments alone, in front of where it was.
    fn early(&mut self, old: ValueId) -> ValueId {
        if let Some(v) = self.map[old] {
            return v;
        }
        let node = self.old.producer(old);
        node.operands.iter().for_each(|&v| {
            self.early(v);
        });
        self.copy(node);
        self.at(old)
    }

    /// One product in the place of the first of these, and each one's columns of it.
    fn product(&mut self, parts: &[Part]) {
        let [rows, columns] = [0, 1].map(|d| move |v: &Meta| v.sizes[d]);
        let old = self.old;
        let first = &old.nodes[parts[0].node];
        let dtype = old.values[parts[0].a].scalar_type;
        let meta = |sizes: &[i64]| Meta {
            scalar_type: dtype,
            sizes: sizes.to_vec(),
            strides: contiguous(sizes),
        };
        let m = rows(&old.values[parts[0].a]);
        let widths = parts.iter().map(|p| columns(&old.values[p.b]));
        let widths: Vec<i64> = widths.collect();
        let n = widths.iter().sum();
        let bias = parts.iter().any(|p| p.bias.is_some());
        let mut operands = Vec::new();
        if bias {
            let biases = parts.iter().zip(&widths).map(|(p, &n)| match p.bias {
                Some(bias) => self.early(bias),
                None => self.zeros(first.origin, meta(&[n])),
            });
            let biases: Vec<ValueId> = biases.collect();
            operands.push(
                self.builder(first.origin)
                    .push(Op::Cat { dim: 0 }, &biases, meta(&[n])),
            );
        }
        operands.push(self.at(parts[0].a));
        for part in parts {
            let b = self.early(part.b);
            operands.push(b);
        }
        let call = Op::External {
            name: NAME.into(),
            route: Route::Joined { bias },
            args: self.graph.tensor_arguments(&operands),
        };
        let whole = self
            .builder(first.origin)
            .push(call, &operands, meta(&[m, n]));
        let mut start = 0;
        for (part, &n) in parts.iter().zip(&widths) {
            let node = &old.nodes[part.node];
            let slice = Op::View(View::Slice {
                start: vec![0, start],
                step: vec![1, 1],
            });
            let of = self
                .builder(node.origin)
                .push(slice, &[whole], meta(&[m, n]));
            self.map[node.results[0]] = Some(of);
            start += n;
        }
        let origins = parts.iter().map(|p| old.nodes[p.node].origin);
        self.graph.joined.push(origins.collect());
    }

    fn zeros(&mut self, origin: u32, meta: Meta) -> ValueId {
        let zero = match meta.ty() {
            Some(Type::F64) => Const::F64(0),
            _ => Const::F32(0),
        };
        self.builder(origin).push(Op::Full(zero), &[], meta)
    }
}
