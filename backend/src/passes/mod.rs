//! Graph to graph passes.

pub mod attention;
pub mod bytes;
pub mod columns;
pub mod cse;
pub mod dce;
pub mod empty;
pub mod force;
pub mod join;
pub mod parts;
pub mod pipeline;
mod rewrite;
mod uses;
pub mod whole;

use crate::graph::{Graph, GraphOutput, Node, NodeId, ValueId};
use cranelift_entity::SecondaryMap;

/// Copies the nodes that `keep` accepts, with every use of `v` replaced by `subst[v]` if set.
/// A replacement must be defined by a kept node that precedes the uses.
fn rebuild(
    graph: &Graph,
    keep: impl Fn(NodeId) -> bool,
    subst: &SecondaryMap<ValueId, Option<ValueId>>,
) -> Graph {
    let mut new = Graph {
        num_inputs: graph.num_inputs,
        origins: graph.origins.clone(),
        not_attention: graph.not_attention.clone(),
        not_joined: graph.not_joined.clone(),
        joined: graph.joined.clone(),
        of_bytes: graph.of_bytes.clone(),
        not_bytes: graph.not_bytes.clone(),
        rounds_each: graph.rounds_each,
        ..Graph::default()
    };
    let mut map: SecondaryMap<ValueId, Option<ValueId>> = SecondaryMap::new();
    let resolve = |map: &SecondaryMap<ValueId, Option<ValueId>>, v: ValueId| {
        map[subst[v].unwrap_or(v)].expect("a use of a dropped value")
    };
    for (id, node) in graph.nodes.iter() {
        if !keep(id) {
            continue;
        }
        let operands = node.operands.iter().map(|&v| resolve(&map, v)).collect();
        let new_id = new.nodes.next_key();
        let mut results = Vec::with_capacity(node.results.len());
        for &r in &node.results {
            let v = new.values.push(graph.values[r].clone());
            new.producers.push(new_id);
            map[r] = Some(v);
            results.push(v);
        }
        new.nodes.push(Node {
            op: node.op.clone(),
            operands,
            results,
            origin: node.origin,
        });
    }
    new.outputs = graph
        .outputs
        .iter()
        .map(|o| match o {
            GraphOutput::Value(v) => GraphOutput::Value(resolve(&map, *v)),
            other => other.clone(),
        })
        .collect();
    new
}
