//! Marks the free nodes whose result must be in memory.

use crate::graph::strided::{contiguous, strided};
use crate::graph::{Graph, GraphOutput, Op, ValueId};

/// External calls and the caller need tensors: a view that no strides express, and a constant, are copied.
pub fn force(graph: &mut Graph) {
    let mut wanted: Vec<(ValueId, bool)> = Vec::new();
    for node in graph.nodes.values() {
        match node.op {
            Op::External { .. } => wanted.extend(node.operands.iter().map(|&v| (v, false))),
            _ if node.op.gathers() => wanted.extend(node.operands[1..].iter().map(|&v| (v, false))),
            _ => {}
        }
    }
    for output in &graph.outputs {
        if let GraphOutput::Value(v) = output {
            wanted.push((*v, true));
        }
    }
    for (v, is_output) in wanted {
        let at = strided(graph, v, &|v| !graph.is_free(graph.producers[v]));
        let meta = &graph.values[v];
        let fits = at.is_some_and(|at| {
            let dims = meta.sizes.iter().zip(at.strides.iter().zip(&meta.strides));
            !is_output || dims.clone().all(|(&n, (a, b))| n == 1 || a == b)
        });
        if !fits {
            graph.forced.insert(graph.producers[v]);
            if !graph.values[v].is_dense() {
                graph.values[v].strides = contiguous(&graph.values[v].sizes);
            }
        }
    }
}
