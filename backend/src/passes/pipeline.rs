//! The order of the passes.

use crate::graph::Graph;
use crate::protocol::document::Options;

/// Runs all graph passes.
pub fn run(mut graph: Graph, options: &Options) -> Graph {
    super::empty::empty(&mut graph);
    let graph = super::dce::dce(&super::cse::cse(&graph));
    let mut graph = super::dce::dce(&super::attention::attention(&graph));
    // A GPU has no lanes to fill with columns, and takes one matrix of floats for each product.
    if !options.on_gpu() {
        graph = super::dce::dce(&super::bytes::bytes(&graph));
        graph = super::dce::dce(&super::columns::columns(&graph));
        graph = super::dce::dce(&super::whole::whole(&graph));
        graph = super::join::join(&graph, &options.frozen);
        graph = super::dce::dce(&super::parts::parts(&graph));
    }
    super::force::force(&mut graph);
    graph.gpu = options.on_gpu();
    graph
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{GraphOutput, Meta, Op, ValueId};
    use ipex_jit::kernel::{BinaryOp, UnaryOp};

    fn push(g: &mut Graph, op: Op, operands: &[ValueId]) -> ValueId {
        let meta = Meta {
            scalar_type: 6,
            sizes: vec![4],
            strides: vec![1],
        };
        g.push(op, operands.to_vec(), meta, 0)
    }

    #[test]
    fn merges_equal_nodes_and_drops_dead_ones() {
        let mut g = Graph::default();
        let x = push(&mut g, Op::Input(0), &[]);
        let a = push(&mut g, Op::Unary(UnaryOp::Exp), &[x]);
        let b = push(&mut g, Op::Unary(UnaryOp::Exp), &[x]);
        let a2 = push(&mut g, Op::Unary(UnaryOp::Neg), &[a]);
        let b2 = push(&mut g, Op::Unary(UnaryOp::Neg), &[b]);
        push(&mut g, Op::Unary(UnaryOp::Sin), &[x]);
        let sum = push(&mut g, Op::Binary(BinaryOp::Add), &[a2, b2]);
        g.outputs.push(GraphOutput::Value(sum));
        let new = run(g, &Options::default());
        let ops: Vec<&Op> = new.nodes.values().map(|n| &n.op).collect();
        assert_eq!(
            ops,
            [
                &Op::Input(0),
                &Op::Unary(UnaryOp::Exp),
                &Op::Unary(UnaryOp::Neg),
                &Op::Binary(BinaryOp::Add)
            ]
        );
        let add = new.nodes.values().last().unwrap();
        assert_eq!(add.operands[0], add.operands[1]);
        assert_eq!(new.outputs, [GraphOutput::Value(add.results[0])]);
    }
}
