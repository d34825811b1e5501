//! Pointwise work on a concatenation of equal parts is done part by part, and the results are concatenated instead (rotary
//! embeddings): the concatenation itself is never in memory.

use super::rewrite::Rewrite;
use super::uses::Uses;
use crate::graph::strided::contiguous;
use crate::graph::{Graph, Meta, Node, NodeId, Op, ValueId, View};
use std::collections::HashMap;

/// Most parts: their results are written by one loop.
const MOST: usize = 4;

/// Values that lie side by side along a dim.
struct Parts {
    dim: usize,
    values: Vec<ValueId>,
}

/// Splits the work on concatenations.
pub fn parts(graph: &Graph) -> Graph {
    let wanted = Wanted {
        graph,
        uses: Uses::of(graph),
    };
    if !graph.nodes.keys().any(|id| wanted.splits(id)) {
        return graph.clone();
    }
    let mut pass = Pass {
        new: Rewrite::new(graph),
        parts: HashMap::new(),
        uses: &wanted.uses,
    };
    for (id, node) in graph.nodes.iter() {
        if wanted.splits(id) {
            let Op::Cat { dim } = node.op else { continue };
            let values = node.operands.iter().map(|&v| pass.new.at(v)).collect();
            pass.parts.insert(node.results[0], Parts { dim, values });
        } else if let Some((dim, count)) = pass.division(node) {
            pass.split(node, dim, count, wanted.whole(node.results[0]));
        } else {
            node.operands.iter().for_each(|&v| _ = pass.whole(v));
            pass.new.copy(node);
        }
    }
    pass.new.finish()
}

/// Whether a node computes each element from those at the same index.
fn is_pointwise(op: &Op) -> bool {
    matches!(
        op,
        Op::Unary(_) | Op::Binary(_) | Op::Fma | Op::Compare(_) | Op::Select | Op::Convert { .. }
    )
}

/// What is split.
struct Wanted<'a> {
    graph: &'a Graph,
    uses: Uses,
}

impl Wanted<'_> {
    /// Whether somebody wants a value as a whole.
    fn whole(&self, v: ValueId) -> bool {
        let pointwise = |n: NodeId| is_pointwise(&self.graph.nodes[n].op);
        self.uses.outside(v, pointwise)
    }

    /// Whether a node is a concatenation of equal parts that only pointwise work uses.
    fn splits(&self, id: NodeId) -> bool {
        let node = &self.graph.nodes[id];
        let Op::Cat { .. } = node.op else {
            return false;
        };
        let sizes = |v: &ValueId| &self.graph.values[*v].sizes;
        let mut pairs = node.operands.windows(2);
        let equal = pairs.all(|p| sizes(&p[0]) == sizes(&p[1]));
        let used = !self.uses.none(node.results[0]);
        equal && node.operands.len() <= MOST && used && !self.whole(node.results[0])
    }
}

struct Pass<'a> {
    new: Rewrite<'a>,
    /// By value of the old graph.
    parts: HashMap<ValueId, Parts>,
    uses: &'a Uses,
}

impl Pass<'_> {
    /// Along which dim a pointwise node is split, and into how many parts, if operands are, all of them alike.
    fn division(&self, node: &Node) -> Option<(usize, usize)> {
        let split = node.operands.iter().filter_map(|v| self.parts.get(v));
        let mut divisions = split.map(|p| (p.dim, p.values.len()));
        let first = divisions.next()?;
        (is_pointwise(&node.op) && divisions.all(|d| d == first)).then_some(first)
    }

    /// A value of the old graph as a whole.
    fn whole(&mut self, v: ValueId) -> ValueId {
        if let (None, Some(parts)) = (self.new.map[v], self.parts.get(&v)) {
            let (op, values) = (Op::Cat { dim: parts.dim }, parts.values.clone());
            let (node, meta) = (self.new.old.producer(v), self.new.old.values[v].clone());
            let cat = self.push(node, op, values, meta);
            self.new.map[v] = Some(cat);
        }
        self.new.at(v)
    }

    /// Does a node's work part by part; puts the results together if they are wanted so.
    fn split(&mut self, node: &Node, dim: usize, count: usize, whole: bool) {
        let result = node.results[0];
        let meta = self.part_of(result, dim, count as i64);
        let mut values = Vec::with_capacity(count);
        for k in 0..count {
            values.push(self.piece(node, &meta, dim, count, k));
        }
        self.parts.insert(result, Parts { dim, values });
        if whole {
            self.whole(result);
        }
    }

    /// One part of a node's work.
    fn piece(&mut self, node: &Node, meta: &Meta, dim: usize, count: usize, k: usize) -> ValueId {
        let operands = node.operands.iter();
        let operands = operands.map(|&v| self.part(v, dim, count, k)).collect();
        self.push(node, node.op.clone(), operands, meta.clone())
    }

    /// One part of a value of the old graph.
    fn part(&mut self, v: ValueId, dim: usize, count: usize, k: usize) -> ValueId {
        let known = self.parts.get(&v);
        if let Some(parts) = known.filter(|p| (p.dim, p.values.len()) == (dim, count)) {
            return parts.values[k];
        }
        let old = self.new.old;
        let (node, meta) = (old.producer(v), self.part_of(v, dim, count as i64));
        // What nobody else reads is done in parts from the start.
        if known.is_none() && is_pointwise(&node.op) && self.uses.single(v).is_some() {
            let mut values = Vec::with_capacity(count);
            for n in 0..count {
                values.push(self.piece(node, &meta, dim, count, n));
            }
            let part = values[k];
            self.parts.insert(v, Parts { dim, values });
            return part;
        }
        if let Op::Full(_) = node.op {
            return self.push(node, node.op.clone(), Vec::new(), meta);
        }
        let mut start = vec![0; meta.sizes.len()];
        start[dim] = meta.sizes[dim] * k as i64;
        let step = vec![1; meta.sizes.len()];
        // A view keeps the strides of what it shows.
        let strides = old.values[v].strides.clone();
        let view = Op::View(View::Slice { start, step });
        let whole = self.whole(v);
        self.push(node, view, vec![whole], Meta { strides, ..meta })
    }

    fn part_of(&self, v: ValueId, dim: usize, count: i64) -> Meta {
        let meta = &self.new.old.values[v];
        let mut sizes = meta.sizes.clone();
        sizes[dim] /= count;
        Meta {
            scalar_type: meta.scalar_type,
            strides: contiguous(&sizes),
            sizes,
        }
    }

    fn push(&mut self, like: &Node, op: Op, operands: Vec<ValueId>, meta: Meta) -> ValueId {
        self.new.graph.push(op, operands, meta, like.origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{GraphOutput, verify};
    use ipex_jit::kernel::{BinaryOp, UnaryOp};

    fn push(g: &mut Graph, op: Op, operands: &[ValueId], columns: i64) -> ValueId {
        let meta = Meta {
            scalar_type: 6,
            sizes: vec![3, columns],
            strides: vec![columns, 1],
        };
        g.push(op, operands.to_vec(), meta, 0)
    }

    /// `-z * exp(cat(x, y) + z)`, of parts with so many columns; the sum is returned too if wanted.
    fn graph(columns: [i64; 2], returned: bool) -> Graph {
        let mut g = Graph::default();
        let all = columns[0] + columns[1];
        let x = push(&mut g, Op::Input(0), &[], columns[0]);
        let y = push(&mut g, Op::Input(1), &[], columns[1]);
        let z = push(&mut g, Op::Input(2), &[], all);
        let cat = push(&mut g, Op::Cat { dim: 1 }, &[x, y], all);
        let sum = push(&mut g, Op::Binary(BinaryOp::Add), &[cat, z], all);
        let exp = push(&mut g, Op::Unary(UnaryOp::Exp), &[sum], all);
        let z = push(&mut g, Op::Unary(UnaryOp::Neg), &[z], all);
        let exp = push(&mut g, Op::Binary(BinaryOp::Mul), &[z, exp], all);
        g.outputs.push(GraphOutput::Value(exp));
        if returned {
            g.outputs.push(GraphOutput::Value(sum));
        }
        g.origins.push(crate::graph::Origin::default());
        g.num_inputs = 3;
        verify(&g).unwrap();
        g
    }

    fn count(g: &Graph, is: fn(&Op) -> bool) -> usize {
        verify(g).unwrap();
        g.nodes.values().filter(|n| is(&n.op)).count()
    }

    #[test]
    fn work_on_equal_parts_is_split_until_the_whole_is_wanted() {
        let is_cat = |op: &Op| matches!(op, Op::Cat { .. });
        for (returned, cats) in [(false, 1), (true, 2)] {
            let new = parts(&graph([4, 4], returned));
            assert_eq!(count(&new, is_cat), cats);
            // The negation, which nothing else reads, too.
            let new = crate::passes::dce::dce(&new);
            assert_eq!(count(&new, |op| matches!(op, Op::Unary(_))), 4);
            let last = new.nodes.values().last().unwrap();
            assert!(is_cat(&last.op) && new.values[last.results[0]].sizes == [3, 8]);
        }
    }

    #[test]
    fn concatenations_along_other_dims_or_of_more_parts_meet_as_wholes() {
        let mut g = Graph::default();
        let [x, y] = [0, 1].map(|n| push(&mut g, Op::Input(n), &[], 6));
        let z = push(&mut g, Op::Input(2), &[], 4);
        let two = push(&mut g, Op::Cat { dim: 1 }, &[x, y], 12);
        let three = push(&mut g, Op::Cat { dim: 1 }, &[z, z, z], 12);
        let product = push(&mut g, Op::Binary(BinaryOp::Mul), &[two, two], 12);
        let sum = push(&mut g, Op::Binary(BinaryOp::Add), &[product, three], 12);
        g.outputs.push(GraphOutput::Value(sum));
        g.origins.push(crate::graph::Origin::default());
        g.num_inputs = 3;
        let new = parts(&g);
        assert_eq!(count(&new, |op| matches!(op, Op::Cat { .. })), 2);
        assert_eq!(count(&new, |op| *op == Op::Binary(BinaryOp::Add)), 1);
    }

    /// Adds what is done with `operands`, in a graph of `[4, 4]` values where all parts are of one size along either dim.
    fn square(g: &mut Graph, op: Op, operands: &[ValueId], sizes: [i64; 2]) -> ValueId {
        let v = push(g, op, operands, sizes[1]);
        g.values[v].sizes = sizes.to_vec();
        v
    }

    fn finish(g: &mut Graph, outputs: &[ValueId]) -> Graph {
        let outputs = outputs.iter();
        g.outputs = outputs.map(|&v| GraphOutput::Value(v)).collect();
        g.origins.push(crate::graph::Origin::default());
        g.num_inputs = 3;
        verify(g).unwrap();
        crate::passes::dce::dce(&parts(g))
    }

    #[test]
    fn as_many_parts_along_another_dim_meet_as_wholes() {
        let mut g = Graph::default();
        let rows = [0, 1].map(|n| square(&mut g, Op::Input(n), &[], [2, 4]));
        let column = square(&mut g, Op::Input(2), &[], [4, 2]);
        let below = square(&mut g, Op::Cat { dim: 0 }, &rows, [4, 4]);
        let beside = square(&mut g, Op::Cat { dim: 1 }, &[column, column], [4, 4]);
        let add = Op::Binary(BinaryOp::Add);
        let inner = square(&mut g, add.clone(), &[below, beside], [4, 4]);
        let sum = square(&mut g, add.clone(), &[below, inner], [4, 4]);
        let new = finish(&mut g, &[sum]);
        // The inner sum is done by rows, of slices of what lies side by side.
        assert_eq!(count(&new, |op| *op == Op::Binary(BinaryOp::Add)), 4);
        assert_eq!(count(&new, |op| matches!(op, Op::Cat { .. })), 2);
        let new = finish(&mut g, &[inner]);
        assert_eq!(count(&new, |op| *op == Op::Binary(BinaryOp::Add)), 1);
    }

    #[test]
    fn what_others_read_is_computed_once() {
        let neg = |op: &Op| *op == Op::Unary(UnaryOp::Neg);
        for returned in [false, true] {
            let mut g = Graph::default();
            let x = push(&mut g, Op::Input(0), &[], 4);
            let z = push(&mut g, Op::Input(1), &[], 8);
            let cat = push(&mut g, Op::Cat { dim: 1 }, &[x, x], 8);
            let z = push(&mut g, Op::Unary(UnaryOp::Neg), &[z], 8);
            let sum = push(&mut g, Op::Binary(BinaryOp::Add), &[cat, z], 8);
            // A second reader, or the caller.
            let outputs = if returned {
                vec![sum, z]
            } else {
                vec![sum, push(&mut g, Op::Unary(UnaryOp::Exp), &[z], 8)]
            };
            assert_eq!(count(&finish(&mut g, &outputs), neg), 1);
        }
    }

    #[test]
    fn constants_are_made_in_parts_and_wholes_once() {
        let mut g = Graph::default();
        let x = push(&mut g, Op::Input(0), &[], 4);
        let cat = push(&mut g, Op::Cat { dim: 1 }, &[x, x], 8);
        let one = Op::Full(ipex_jit::kernel::Const::F32(1.0f32.to_bits()));
        let one = push(&mut g, one, &[], 8);
        let sum = push(&mut g, Op::Binary(BinaryOp::Add), &[cat, one], 8);
        let flip = |g: &mut Graph| {
            let (start, step) = (vec![2, 0], vec![-1, 1]);
            push(g, Op::View(View::Slice { start, step }), &[sum], 8)
        };
        let flips = [flip(&mut g), flip(&mut g)];
        let new = finish(&mut g, &flips);
        assert_eq!(count(&new, |op| matches!(op, Op::View(_))), 2);
        assert_eq!(count(&new, |op| matches!(op, Op::Cat { .. })), 1);
    }

    #[test]
    fn many_parts_and_wholes_that_others_read_stay() {
        for (count, read) in [(4, false), (5, false), (4, true)] {
            let mut g = Graph::default();
            let x = push(&mut g, Op::Input(0), &[], 4);
            let all = 4 * count;
            let cat = push(&mut g, Op::Cat { dim: 1 }, &vec![x; count as usize], all);
            let exp = push(&mut g, Op::Unary(UnaryOp::Exp), &[cat], all);
            let (start, step) = (vec![2, 0], vec![-1, 1]);
            let flip = Op::View(View::Slice { start, step });
            let flip = read.then(|| push(&mut g, flip, &[cat], all));
            let outputs: Vec<ValueId> = [Some(exp), flip].into_iter().flatten().collect();
            let new = finish(&mut g, &outputs);
            let split = (count, read) == (4, false);
            let exps = new.nodes.values().filter(|n| matches!(n.op, Op::Unary(_)));
            assert_eq!(exps.count(), if split { 4 } else { 1 });
        }
    }

    #[test]
    fn other_parts_stay() {
        let g = graph([3, 5], false);
        let new = parts(&g);
        assert_eq!(new.nodes.len(), g.nodes.len());
    }
}
