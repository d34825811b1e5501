//! Pointwise work on a concatenation of equal parts is done part by part, and the results are concatenated instead (rotary
//! embeddings): the concatenation itself is never in memory.

use super::rewrite::Rewrite;
use crate::graph::strided::contiguous;
use crate::graph::{Graph, GraphOutput, Meta, Node, NodeId, Op, ValueId, View};
use cranelift_entity::{EntitySet, SecondaryMap};
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
    let wanted = Wanted::new(graph);
    if !graph.nodes.keys().any(|id| wanted.splits(id)) {
        return graph.clone();
    }
    let mut pass = Pass {
        new: Rewrite::new(graph),
        parts: HashMap::new(),
    };
    for (id, node) in graph.nodes.iter() {
        if wanted.splits(id) {
            let Op::Cat { dim } = node.op else { continue };
            let values = node.operands.iter().map(|&v| pass.new.at(v)).collect();
            pass.parts.insert(node.results[0], Parts { dim, values });
        } else if let Some(dim) = pass.dim(node) {
            pass.split(node, dim, wanted.whole(node.results[0]));
        } else {
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

/// Who uses each value, and how.
struct Wanted<'a> {
    graph: &'a Graph,
    users: SecondaryMap<ValueId, Vec<NodeId>>,
    returned: EntitySet<ValueId>,
}

impl Wanted<'_> {
    fn new(graph: &Graph) -> Wanted<'_> {
        let mut users: SecondaryMap<ValueId, Vec<NodeId>> = SecondaryMap::new();
        for (id, node) in graph.nodes.iter() {
            node.operands.iter().for_each(|&v| users[v].push(id));
        }
        let mut returned = EntitySet::new();
        for output in &graph.outputs {
            if let GraphOutput::Value(v) = output {
                returned.insert(*v);
            }
        }
        Wanted {
            graph,
            users,
            returned,
        }
    }

    /// Whether somebody wants a value as a whole.
    fn whole(&self, v: ValueId) -> bool {
        let pointwise = |n: &NodeId| is_pointwise(&self.graph.nodes[*n].op);
        self.returned.contains(v) || !self.users[v].iter().all(pointwise)
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
        let used = !self.users[node.results[0]].is_empty();
        equal && node.operands.len() <= MOST && used && !self.whole(node.results[0])
    }
}

struct Pass<'a> {
    new: Rewrite<'a>,
    /// By value of the old graph.
    parts: HashMap<ValueId, Parts>,
}

impl Pass<'_> {
    /// The dim along which a pointwise node is split, if one of its operands is.
    fn dim(&self, node: &Node) -> Option<usize> {
        let mut split = node.operands.iter().filter_map(|v| self.parts.get(v));
        let dim = split.next()?.dim;
        (is_pointwise(&node.op) && split.all(|p| p.dim == dim)).then_some(dim)
    }

    /// Does a node's work part by part; puts the results together if they are wanted so.
    fn split(&mut self, node: &Node, dim: usize, whole: bool) {
        let found = node.operands.iter().find_map(|v| self.parts.get(v));
        let count = found.map_or(1, |p| p.values.len());
        let result = node.results[0];
        let meta = self.part_of(result, dim, count as i64);
        let mut values = Vec::with_capacity(count);
        for k in 0..count {
            let operands = node.operands.iter();
            let operands = operands.map(|&v| self.part(v, dim, count, k)).collect();
            values.push(self.push(node, node.op.clone(), operands, meta.clone()));
        }
        if whole {
            let meta = self.new.old.values[result].clone();
            let cat = self.push(node, Op::Cat { dim }, values.clone(), meta);
            self.new.map[result] = Some(cat);
        }
        self.parts.insert(result, Parts { dim, values });
    }

    /// One part of a value of the old graph.
    fn part(&mut self, v: ValueId, dim: usize, count: usize, k: usize) -> ValueId {
        if let Some(parts) = self.parts.get(&v) {
            return parts.values[k];
        }
        let old = self.new.old;
        let (node, meta) = (old.producer(v), self.part_of(v, dim, count as i64));
        if let Op::Full(_) = node.op {
            return self.push(node, node.op.clone(), Vec::new(), meta);
        }
        let mut start = vec![0; meta.sizes.len()];
        start[dim] = meta.sizes[dim] * k as i64;
        let step = vec![1; meta.sizes.len()];
        // A view keeps the strides of what it shows.
        let strides = old.values[v].strides.clone();
        let view = Op::View(View::Slice { start, step });
        let whole = self.new.at(v);
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
        let graph = &mut self.new.graph;
        let result = graph.values.push(meta);
        graph.producers.push(graph.nodes.next_key());
        graph.nodes.push(Node {
            op,
            operands,
            results: vec![result],
            origin: like.origin,
        });
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::verify;
    use ipex_jit::kernel::{BinaryOp, UnaryOp};

    fn push(g: &mut Graph, op: Op, operands: &[ValueId], columns: i64) -> ValueId {
        let v = g.values.push(Meta {
            scalar_type: 6,
            sizes: vec![3, columns],
            strides: vec![columns, 1],
        });
        g.producers.push(g.nodes.next_key());
        g.nodes.push(Node {
            op,
            operands: operands.to_vec(),
            results: vec![v],
            origin: 0,
        });
        v
    }

    /// `exp(cat(x, y) + z)`, of parts with so many columns; the sum is returned too if wanted.
    fn graph(columns: [i64; 2], returned: bool) -> Graph {
        let mut g = Graph::default();
        let all = columns[0] + columns[1];
        let x = push(&mut g, Op::Input(0), &[], columns[0]);
        let y = push(&mut g, Op::Input(1), &[], columns[1]);
        let z = push(&mut g, Op::Input(2), &[], all);
        let cat = push(&mut g, Op::Cat { dim: 1 }, &[x, y], all);
        let sum = push(&mut g, Op::Binary(BinaryOp::Add), &[cat, z], all);
        let exp = push(&mut g, Op::Unary(UnaryOp::Exp), &[sum], all);
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
            assert_eq!(count(&new, |op| matches!(op, Op::Unary(_))), 2);
            let last = new.nodes.values().last().unwrap();
            assert!(is_cat(&last.op) && new.values[last.results[0]].sizes == [3, 8]);
        }
    }

    #[test]
    fn other_parts_stay() {
        let g = graph([3, 5], false);
        let new = parts(&g);
        assert_eq!(new.nodes.len(), g.nodes.len());
    }
}
