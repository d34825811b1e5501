//! Sums along columns: reductions of leading dims, whose lanes are the elements that they keep.
//!
//! A kernel of rows cannot hold them, so that what they add up would go through memory only for them. Where it is
//! cheap arithmetic on tensors that are in memory anyway, they get a copy of that arithmetic. Many rows are
//! reduced in two stages: parts of neighbouring rows, which threads share and whose lines come from memory in
//! order, then the parts.

use super::rewrite::Rewrite;
use crate::graph::builder::Builder;
use crate::graph::strided::contiguous;
use crate::graph::{Graph, Meta, Node, NodeId, Op, ValueId, View};
use crate::lower::eval::is_expensive;
use ipex_jit::kernel::ReduceOp;
use std::collections::HashMap;

/// Most and fewest rows of a part: few enough pages for the first-level TLB, and so many that the parts, which
/// are written and read once more, do not count.
const PART: std::ops::RangeInclusive<i64> = 8..=32;
/// Rows that are reduced in one stage.
const ONE_STAGE: i64 = 64;
/// Most tensors of full size that a copy of arithmetic reads: each is one more than the sum would read.
const LEAVES: usize = 3;

/// Gives every reduction along columns its own arithmetic and two stages, where that pays.
pub fn columns(graph: &Graph) -> Graph {
    let mut new = Rewrite::new(graph);
    for node in graph.nodes.values() {
        match &node.op {
            Op::Reduce { op, dims } if is_along_columns(graph, node.operands[0], dims) => {
                new.reduce(node, *op, dims);
            }
            _ => new.copy(node),
        }
    }
    new.finish()
}

/// Whether neighbouring dims, but not the last ones, are reduced of what lies row by row.
fn is_along_columns(graph: &Graph, operand: ValueId, dims: &[usize]) -> bool {
    let meta = &graph.values[operand];
    let neighbours = dims.windows(2).all(|pair| pair[0] + 1 == pair[1]);
    let kept: i64 = match dims.last() {
        Some(&last) => meta.sizes[last + 1..].iter().product(),
        None => 1,
    };
    neighbours && kept > 1 && meta.numel() > 0 && meta.strides == contiguous(&meta.sizes)
}

impl Rewrite<'_> {
    fn reduce(&mut self, node: &Node, op: ReduceOp, dims: &[usize]) {
        let (operand, result) = (node.operands[0], node.results[0]);
        let mut value = match cheap(self.old, operand) {
            Some(nodes) => self.again(&nodes, operand),
            None => self.at(operand),
        };
        let kept = self.old.values[result].clone();
        let (first, last) = (dims[0], dims[dims.len() - 1]);
        let sizes = &self.old.values[operand].sizes;
        let (before, after) = (&sizes[..first], &sizes[last + 1..]);
        let mut rows: i64 = sizes[first..=last].iter().product();
        let mut b = self.builder(node.origin);
        let reduce = |b: &mut Builder, value, dims: Vec<usize>, sizes: Vec<i64>| {
            let meta = Meta {
                strides: contiguous(&sizes),
                sizes,
                scalar_type: kept.scalar_type,
            };
            b.push(Op::Reduce { op, dims }, &[value], meta)
        };
        let mut dims = dims.to_vec();
        while let Some(part) = part(rows) {
            let parted = [before, &[rows / part, part], after].concat();
            value = b.reshape(value, &parted);
            rows /= part;
            let left = [before, &[rows], after].concat();
            value = reduce(&mut b, value, vec![first + 1], left);
            dims = vec![first];
        }
        let total = reduce(&mut b, value, dims, kept.sizes.clone());
        self.graph.values[total].strides = kept.strides.clone();
        self.map[result] = Some(total);
    }

    /// `value` by nodes of its own, in the graph's order.
    pub(super) fn again(&mut self, nodes: &[NodeId], value: ValueId) -> ValueId {
        let mut own: HashMap<ValueId, ValueId> = HashMap::new();
        for &id in nodes {
            let node = &self.old.nodes[id];
            let operands = node.operands.iter();
            let operands = operands.map(|v| own.get(v).copied().unwrap_or_else(|| self.at(*v)));
            let operands = operands.collect();
            let results = self.push(node, operands);
            own.insert(node.results[0], results[0]);
        }
        own.get(&value).copied().unwrap_or_else(|| self.at(value))
    }
}

/// Rows of a part, if there are so many rows that parts pay.
fn part(rows: i64) -> Option<i64> {
    let fits = |part: &i64| rows % part == 0;
    match rows {
        ..=ONE_STAGE => None,
        _ => PART.rev().find(fits),
    }
}

/// The nodes that compute a value from tensors that are in memory anyway, if they are cheap.
pub(super) fn cheap(graph: &Graph, value: ValueId) -> Option<Vec<NodeId>> {
    let full = graph.values[value].numel();
    let (mut nodes, mut leaves) = (Vec::new(), Vec::new());
    let mut todo = vec![value];
    while let Some(v) = todo.pop() {
        let id = graph.producers[v];
        let node = &graph.nodes[id];
        if nodes.contains(&id) || leaves.contains(&v) {
            continue;
        }
        match &node.op {
            Op::Full(_) | Op::Iota { .. } => {}
            Op::View(View::Permute(_)) => return None,
            Op::View(_) => {}
            Op::Input(_) | Op::External { .. } => {
                leaves.push(v);
                continue;
            }
            _ if graph.values[v].numel() < full => {
                leaves.push(v);
                continue;
            }
            Op::Unary(_)
            | Op::Binary(_)
            | Op::Fma
            | Op::Compare(_)
            | Op::Select
            | Op::Convert { .. }
                if !is_expensive(&node.op) => {}
            _ => return None,
        }
        nodes.push(id);
        todo.extend(&node.operands);
    }
    nodes.sort();
    let is_full = |v: &&ValueId| graph.values[**v].numel() == full;
    (leaves.iter().filter(is_full).count() <= LEAVES).then_some(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fusion::cluster::cluster;
    use crate::graph::GraphOutput;
    use ipex_jit::kernel::BinaryOp;

    fn push(g: &mut Graph, op: Op, operands: &[ValueId], sizes: &[i64]) -> ValueId {
        let mut b = Builder {
            graph: g,
            origin: 0,
        };
        let meta = Meta {
            scalar_type: 6,
            sizes: sizes.to_vec(),
            strides: contiguous(sizes),
        };
        b.push(op, operands, meta)
    }

    fn sum(dims: &[usize]) -> Op {
        Op::Reduce {
            op: ReduceOp::Sum,
            dims: dims.to_vec(),
        }
    }

    fn sizes_of_sums(g: &Graph) -> Vec<Vec<i64>> {
        let sums = g.nodes.values();
        let sums = sums.filter(|n| matches!(n.op, Op::Reduce { .. }));
        sums.map(|n| g.values[n.results[0]].sizes.clone()).collect()
    }

    #[test]
    fn rows_are_summed_in_parts_of_up_to_32() {
        let of = |sizes: &[i64], dims: &[usize], left: &[i64]| {
            let mut g = Graph::default();
            let x = push(&mut g, Op::Input(0), &[], sizes);
            let s = push(&mut g, sum(dims), &[x], left);
            g.outputs.push(GraphOutput::Value(s));
            sizes_of_sums(&columns(&g))
        };
        let none: &[i64] = &[];
        assert_eq!(of(&[128, 40], &[0], &[40]), [vec![4, 40], vec![40]]);
        assert_eq!(of(&[64, 40], &[0], &[40]), [[40]]);
        assert_eq!(of(&[197, 40], &[0], &[40]), [[40]], "a prime number");
        assert_eq!(of(&[40, 128], &[1], &[40]), [[40]], "along rows");
        assert_eq!(of(&[128, 1], &[0, 1], none), [none]);
        let parts = [vec![2, 128, 40], vec![2, 4, 40], vec![2, 40]];
        assert_eq!(of(&[2, 4096, 40], &[1], &[2, 40]), parts);
        let parts = [vec![6, 40], vec![40]];
        assert_eq!(of(&[4, 48, 40], &[0, 1], &[40]), parts);
    }

    /// A square, so that the sizes do not tell rows from columns.
    #[test]
    fn sums_along_columns_share_a_kernel_of_their_own() {
        let (mut g, n) = (Graph::default(), 128);
        let full = [n, n];
        let x = push(&mut g, Op::Input(0), &[], &full);
        let y = push(&mut g, Op::Input(1), &[], &full);
        let product = push(&mut g, Op::Binary(BinaryOp::Mul), &[x, y], &full);
        let along_rows = push(&mut g, sum(&[1]), &[product], &[n]);
        let along_columns = push(&mut g, sum(&[0]), &[product], &[n]);
        let of_x = push(&mut g, sum(&[0]), &[x], &[n]);
        for v in [product, along_rows, along_columns, of_x] {
            g.outputs.push(GraphOutput::Value(v));
        }
        let g = columns(&g);
        let clusters = cluster(&g).unwrap();
        let roots = clusters.groups.iter().map(|group| {
            let sizes = group.roots.iter().map(|&v| g.values[v].sizes.clone());
            sizes.collect::<Vec<_>>()
        });
        let roots: Vec<_> = roots.collect();
        let expected = [
            vec![vec![n, n], vec![n]],
            vec![vec![4, n], vec![4, n]],
            vec![vec![n]],
            vec![vec![n]],
        ];
        assert_eq!(roots, expected);
        let kernel = &clusters.groups[1].kernels[0];
        assert_eq!(kernel.tensors.len(), 4, "x, y and the results: no product");
    }

    #[test]
    fn what_is_not_in_memory_is_not_computed_twice() {
        let mut g = Graph::default();
        let x = push(&mut g, Op::Input(0), &[], &[128, 40]);
        let e = push(
            &mut g,
            Op::Unary(ipex_jit::kernel::UnaryOp::Exp),
            &[x],
            &[128, 40],
        );
        let s = push(&mut g, sum(&[0]), &[e], &[40]);
        g.outputs.extend([e, s].map(GraphOutput::Value));
        let exps = |g: &Graph| {
            let ops = g.nodes.values().map(|n| &n.op);
            ops.filter(|op| matches!(op, Op::Unary(_))).count()
        };
        assert_eq!(exps(&columns(&g)), 1);
    }
}
