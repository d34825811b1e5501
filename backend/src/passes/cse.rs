//! Common subexpression elimination.

use crate::graph::{Graph, GraphOutput, NodeId, Op, ValueId};
use cranelift_entity::{EntitySet, SecondaryMap};
use std::collections::HashMap;

/// Keeps the first of nodes that compute the same op on the same operands with the same metadata.
/// External calls never merge: they may draw random numbers. Nor do two nodes that results show: the
/// caller may write into one of them.
pub fn cse(graph: &Graph) -> Graph {
    let mut shown = shown(graph);
    let mut subst: SecondaryMap<ValueId, Option<ValueId>> = SecondaryMap::new();
    let mut dropped: EntitySet<NodeId> = EntitySet::new();
    let mut seen: HashMap<String, ValueId> = HashMap::new();
    for (id, node) in graph.nodes.iter() {
        let &[result] = node.results.as_slice() else {
            continue;
        };
        if matches!(node.op, Op::External { .. }) {
            continue;
        }
        let operands: Vec<ValueId> = node
            .operands
            .iter()
            .map(|&v| subst[v].unwrap_or(v))
            .collect();
        // `Op` has no `Hash` (external calls hold floats); its text is exact for all other ops.
        let key = format!("{:?} {operands:?} {:?}", node.op, graph.values[result]);
        match seen.get(&key) {
            Some(&first) if !(shown.contains(first) && shown.contains(result)) => {
                if shown.contains(result) {
                    shown.insert(first);
                }
                subst[result] = Some(first);
                dropped.insert(id);
            }
            _ => {
                seen.insert(key, result);
            }
        }
    }
    super::rebuild(graph, |id| !dropped.contains(id), &subst)
}

/// The values whose memory the graph's results are, or are views of.
fn shown(graph: &Graph) -> EntitySet<ValueId> {
    let mut found = EntitySet::new();
    for output in &graph.outputs {
        if let GraphOutput::Value(mut v) = *output {
            while let Op::View(_) = graph.producer(v).op {
                v = graph.producer(v).operands[0];
            }
            found.insert(v);
        }
    }
    found
}
