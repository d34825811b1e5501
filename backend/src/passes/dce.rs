//! Dead code elimination.

use crate::graph::{Graph, GraphOutput, NodeId, Op};
use cranelift_entity::{EntitySet, SecondaryMap};

/// Drops nodes that no output needs. Assignments stay. Calls that return tensors of their own stay: they may draw random numbers
/// or check; those that fill memory of ours are arithmetic.
pub fn dce(graph: &Graph) -> Graph {
    let mut live: EntitySet<NodeId> = EntitySet::new();
    for output in &graph.outputs {
        if let GraphOutput::Value(v) = output {
            live.insert(graph.producers[*v]);
        }
    }
    for (id, node) in graph.nodes.iter().rev() {
        let stays = match &node.op {
            Op::External { route, .. } => route.allocates(),
            op => op.mutates(),
        };
        if stays {
            live.insert(id);
        }
        if live.contains(id) {
            for &v in &node.operands {
                live.insert(graph.producers[v]);
            }
        }
    }
    super::rebuild(graph, |id| live.contains(id), &SecondaryMap::new())
}
