//! Finds softmax between two batched products.

use super::{NotAttention, unexpanded};
use crate::graph::{Graph, NodeId, Op, ValueId, View};
use crate::passes::uses::Uses;
use cranelift_entity::EntitySet;
use ipex_jit::kernel::{BinaryOp, Const, ReduceOp, UnaryOp};
use ipex_runtime::attention::MaskKind;
use ipex_runtime::plan::Route;

/// An attention.
pub struct Found {
    /// `[batch * heads, queries, depth]`
    pub q: ValueId,
    /// Transposed: `[batch * heads, depth, keys]`
    pub k: ValueId,
    /// `[batch * heads, keys, width]`
    pub v: ValueId,
    /// Factor of the scores.
    pub scale: f64,
    /// What is done to the scaled scores.
    pub mask: Option<Mask>,
    /// Of the weights: one batch dimension, or batch and heads, then queries and keys.
    pub sizes: Vec<i64>,
}

/// A mask, before it is broadcast.
pub struct Mask {
    /// Its value.
    pub value: ValueId,
    /// What it does.
    pub kind: MaskKind,
    /// Whether a bool is true where a score is dropped.
    pub inverted: bool,
}

/// The attention that ends in this node; none if the node is no product of softmax's weights.
pub fn find(graph: &Graph, uses: &Uses, id: NodeId) -> Option<Result<Found, NotAttention>> {
    let [weights, v] = product(graph, id)?;
    let mut walk = Walk {
        graph,
        inner: EntitySet::new(),
    };
    let (input, sizes) = walk.softmax(weights)?;
    Some(walk.attention(uses, id, input, sizes, v))
}

/// The operands of a batched product.
fn product(graph: &Graph, id: NodeId) -> Option<[ValueId; 2]> {
    let node = &graph.nodes[id];
    match (&node.op, node.operands.as_slice()) {
        (
            Op::External {
                name,
                route: Route::OutFunction { .. },
                ..
            },
            &[a, b],
        ) if name == "aten.bmm.default" => Some([a, b]),
        _ => None,
    }
}

/// Where `is` holds for the node of a value: that node's operands.
fn operands(graph: &Graph, v: ValueId, is: impl Fn(&Op) -> bool) -> Option<&[ValueId]> {
    let node = graph.producer(v);
    is(&node.op).then_some(node.operands.as_slice())
}

/// A number that is the same everywhere.
pub(super) fn number(graph: &Graph, mut v: ValueId) -> Option<f64> {
    loop {
        let node = graph.producer(v);
        match node.op {
            Op::Full(Const::F32(bits)) => return Some(f32::from_bits(bits).into()),
            Op::Full(Const::F64(bits)) => return Some(f64::from_bits(bits)),
            Op::View(_) | Op::Convert { .. } => v = node.operands[0],
            _ => return None,
        }
    }
}

struct Walk<'a> {
    graph: &'a Graph,
    /// Nodes that become part of the attention.
    inner: EntitySet<NodeId>,
}

impl Walk<'_> {
    fn sizes(&self, v: ValueId) -> &[i64] {
        &self.graph.values[v].sizes
    }

    fn take(&mut self, v: ValueId) -> ValueId {
        self.inner.insert(self.graph.producers[v]);
        v
    }

    /// The value behind reshapes and roundings: an attention keeps f32.
    fn strip(&mut self, mut v: ValueId) -> ValueId {
        loop {
            let node = self.graph.producer(v);
            let &[from] = node.operands.as_slice() else {
                return v;
            };
            let float = |v: ValueId| self.graph.values[v].dtype().is_some_and(|d| d.is_float());
            let through = match &node.op {
                Op::View(View::Reshape) => true,
                Op::View(View::Expand) => self.sizes(v) == self.sizes(from),
                Op::Convert { .. } => float(v) && float(from),
                _ => false,
            };
            if !through {
                return v;
            }
            self.take(v);
            v = from;
        }
    }

    /// What a number for each row is, behind the views that repeat it along the row.
    fn of_row(&mut self, v: ValueId, sizes: &[i64]) -> Option<ValueId> {
        let mut at = v;
        if let Some(&[from]) = operands(self.graph, v, |op| matches!(op, Op::View(View::Expand))) {
            self.take(v);
            at = from;
        }
        let &[row] = operands(self.graph, at, |op| matches!(op, Op::View(View::Reshape)))? else {
            return None;
        };
        let (last, lead) = sizes.split_last()?;
        let fits = self.sizes(v) == sizes
            && self.sizes(at) == [lead, &[1.min(*last)]].concat()
            && self.sizes(row) == lead;
        self.take(at);
        fits.then_some(row)
    }

    /// The operand of a reduction over the last dimension.
    fn reduced(&mut self, v: ValueId, wanted: ReduceOp) -> Option<ValueId> {
        let node = self.graph.producer(v);
        let (Op::Reduce { op, dims }, &[from]) = (&node.op, node.operands.as_slice()) else {
            return None;
        };
        let last = self.sizes(from).len().checked_sub(1)?;
        (*op == wanted && *dims == [last]).then_some(from)
    }

    /// The operand of a softmax over the last dimension whose result `v` is a reshape of, and its sizes.
    fn softmax(&mut self, v: ValueId) -> Option<(ValueId, Vec<i64>)> {
        let product = self.sizes(v).to_vec();
        let v = self.strip(v);
        let sizes = self.sizes(v).to_vec();
        if sizes.len() < 2 || sizes[sizes.len() - 2..] != product[product.len() - 2..] {
            return None;
        }
        let is = |wanted: BinaryOp| move |op: &Op| *op == Op::Binary(wanted);
        let &[e, inverse] = operands(self.graph, v, is(BinaryOp::Mul))? else {
            return None;
        };
        self.take(v);
        let &[shifted] = operands(self.graph, e, |op| *op == Op::Unary(UnaryOp::Exp))? else {
            return None;
        };
        self.take(e);
        let inverse = self.of_row(inverse, &sizes)?;
        let &[one, sum] = operands(self.graph, inverse, is(BinaryOp::Div))? else {
            return None;
        };
        self.take(inverse);
        if number(self.graph, one) != Some(1.0) || self.reduced(sum, ReduceOp::Sum)? != e {
            return None;
        }
        self.take(sum);
        let &[x, max] = operands(self.graph, shifted, is(BinaryOp::Sub))? else {
            return None;
        };
        self.take(shifted);
        let max = self.of_row(max, &sizes)?;
        if self.reduced(max, ReduceOp::Max)? != x {
            return None;
        }
        self.take(max);
        Some((x, sizes))
    }

    /// From the softmax's operand back to the first product.
    fn attention(
        mut self,
        uses: &Uses,
        id: NodeId,
        input: ValueId,
        sizes: Vec<i64>,
        values: ValueId,
    ) -> Result<Found, NotAttention> {
        let (mut scale, mut mask) = (1.0, None);
        let mut v = input;
        let (q, k) = loop {
            v = self.strip(v);
            let node = self.graph.producer(v);
            if let Some([q, k]) = product(self.graph, self.graph.producers[v]) {
                self.take(v);
                break (q, k);
            }
            if *self.sizes(v) != *sizes {
                return Err(NotAttention::Dimensions);
            }
            let found = match (&node.op, node.operands.as_slice()) {
                (Op::Binary(op), &[a, b]) => self.binary(*op, a, b),
                (Op::Select, &[c, a, b]) => self.select(c, a, b),
                _ => None,
            };
            let (next, step) = found.ok_or_else(|| NotAttention::Between(node.op.to_string()))?;
            match step {
                Step::Scale(by) => scale *= by,
                Step::Mask(_) if mask.is_some() => return Err(NotAttention::TwoMasks),
                Step::Mask(_) if scale != 1.0 => return Err(NotAttention::ScaledMask),
                Step::Mask(found) => mask = Some(found),
            }
            self.take(v);
            v = next;
        };
        let scores = self.sizes(v);
        if scores[scores.len() - 2..] != sizes[sizes.len() - 2..] {
            return Err(NotAttention::Dimensions);
        }
        let mut readers = self.inner.clone();
        readers.insert(id);
        // `keys` counts up to the last one.
        for inner in self.inner.keys().filter(|&n| self.inner.contains(n)) {
            let mut results = self.graph.nodes[inner].results.iter();
            if results.any(|&r| !uses.only(r, &readers)) {
                return Err(NotAttention::Used);
            }
        }
        Ok(Found {
            q,
            k,
            v: values,
            scale,
            mask,
            sizes,
        })
    }

    /// Scores by a number, or plus a mask.
    fn binary(&self, op: BinaryOp, a: ValueId, b: ValueId) -> Option<(ValueId, Step)> {
        let by = |v| number(self.graph, v);
        match op {
            BinaryOp::Mul => {
                let (v, by) = by(b).map(|x| (a, x)).or_else(|| by(a).map(|x| (b, x)))?;
                Some((v, Step::Scale(by)))
            }
            BinaryOp::Div => Some((a, Step::Scale(1.0 / by(b)?))),
            BinaryOp::Add => {
                let (v, other) = if self.leads(a) {
                    (a, b)
                } else if self.leads(b) {
                    (b, a)
                } else {
                    return None;
                };
                let mask = Mask {
                    value: unexpanded(self.graph, other),
                    kind: MaskKind::Add,
                    inverted: false,
                };
                Some((v, Step::Mask(mask)))
            }
            _ => None,
        }
    }

    /// Scores where a bool says so, and a number elsewhere.
    fn select(&self, c: ValueId, a: ValueId, b: ValueId) -> Option<(ValueId, Step)> {
        let (v, other, inverted) = match (number(self.graph, a), number(self.graph, b)) {
            (None, Some(other)) => (a, other, false),
            (Some(other), None) => (b, other, true),
            _ => return None,
        };
        let mask = Mask {
            value: unexpanded(self.graph, c),
            kind: MaskKind::Keep(other as f32),
            inverted,
        };
        Some((v, Step::Mask(mask)))
    }

    /// Whether a product's result becomes this value through what attention may do to scores.
    fn leads(&self, mut v: ValueId) -> bool {
        loop {
            let node = self.graph.producer(v);
            let back = match (&node.op, node.operands.as_slice()) {
                (Op::View(View::Reshape | View::Expand) | Op::Convert { .. }, &[from]) => from,
                (Op::Binary(BinaryOp::Mul | BinaryOp::Div), &[a, b]) => {
                    match (number(self.graph, a), number(self.graph, b)) {
                        (None, Some(_)) => a,
                        (Some(_), None) => b,
                        _ => return false,
                    }
                }
                (Op::Binary(BinaryOp::Add), &[a, b]) => return self.leads(a) || self.leads(b),
                (Op::Select, &[_, a, b]) => return self.leads(a) || self.leads(b),
                _ => return product(self.graph, self.graph.producers[v]).is_some(),
            };
            v = back;
        }
    }
}

/// What happens to scores on the way to the softmax.
enum Step {
    Scale(f64),
    Mask(Mask),
}
