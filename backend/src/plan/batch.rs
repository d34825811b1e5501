//! Groups that one step computes: the same code on different tensors, none of which depends on another (the
//! parameters of an optimizer).

use super::planewise::Follower;
use crate::fusion::cluster::Group;
use crate::graph::{Graph, Op, ValueId};
use ipex_jit::kernel::Access;
use ipex_runtime::plan::KernelCode;
use std::collections::HashSet;

/// The first group of the batch that each group belongs to; most are alone in theirs.
pub fn batches(
    graph: &Graph,
    groups: &[Group],
    code: &[Vec<KernelCode>],
    followers: &[Option<Follower>],
    constant: &[bool],
) -> Vec<usize> {
    let mut firsts: Vec<usize> = Vec::with_capacity(groups.len());
    let mut batch = Batch::default();
    for (k, group) in groups.iter().enumerate() {
        let [code] = code[k].as_slice() else {
            batch = Batch::default();
            firsts.push(k);
            continue;
        };
        let alone = followers[k].is_some() || constant[k] || !is_kernel(graph, group);
        let entry = code.entry as usize;
        let joins = !alone && batch.entry == Some(entry) && batch.is_apart(graph, group);
        if !joins {
            batch = Batch::default();
        }
        batch.add(graph, group);
        batch.entry = (!alone).then_some(entry);
        let first = if joins { firsts[k - 1] } else { k };
        firsts.push(first);
    }
    firsts
}

/// Whether a group is a kernel and nothing before it.
fn is_kernel(graph: &Graph, group: &Group) -> bool {
    let mut ops = group.nodes.iter().map(|&n| &graph.nodes[n].op);
    !ops.any(|op| op.gathers() || matches!(op, Op::External { .. }))
}

/// What the groups of a batch touch.
#[derive(Default)]
struct Batch {
    entry: Option<usize>,
    touched: HashSet<ValueId>,
    written: HashSet<ValueId>,
}

impl Batch {
    fn is_apart(&self, graph: &Graph, group: &Group) -> bool {
        let meets = |(v, written): (ValueId, bool)| {
            self.written.contains(&v) || written && self.touched.contains(&v)
        };
        !tensors(graph, group).any(meets)
    }

    fn add(&mut self, graph: &Graph, group: &Group) {
        for (v, written) in tensors(graph, group) {
            self.touched.insert(v);
            if written {
                self.written.insert(v);
            }
        }
    }
}

/// The tensors of a group's kernel by the value that owns the memory, and whether they are written.
fn tensors<'a>(graph: &'a Graph, group: &'a Group) -> impl Iterator<Item = (ValueId, bool)> + 'a {
    let kernels = group.kernels.iter();
    kernels.flat_map(|lowered| {
        let params = lowered.kernel.params.values();
        lowered.tensors.iter().zip(params).map(|(&v, param)| {
            let node = graph.producer(v);
            let v = if node.op == Op::Assign {
                node.operands[1]
            } else {
                v
            };
            (v, param.access != Access::In)
        })
    })
}
