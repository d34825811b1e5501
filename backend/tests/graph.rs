//! What the graph verifier refuses.

use cranelift_entity::{EntityRef, PrimaryMap};
use ipex_backend::graph::{Graph, GraphOutput, NodeId, Op, ValueId, View, build, verify};
use ipex_backend::protocol::{self, expr::Symbols};
use ipex_jit::kernel::{CmpOp, Const};
use ipex_runtime::plan::IndexRule;
use std::collections::HashSet;

const SOFTMAX: &str = include_str!("../../tests/golden/softmax.json");

fn graph() -> Graph {
    let document = protocol::decode(SOFTMAX.as_bytes()).unwrap();
    build::build(&document, &Symbols::new(), &HashSet::new()).unwrap()
}

/// The first node that does this, and its result.
fn find(graph: &Graph, is: impl Fn(&Op) -> bool) -> (NodeId, ValueId) {
    let found = graph.nodes.iter().find(|(_, n)| is(&n.op));
    let (id, node) = found.expect("the softmax has such a node");
    (id, node.results[0])
}

/// The verifier's message for a damaged softmax.
fn message(damage: impl Fn(&mut Graph)) -> String {
    let mut graph = graph();
    verify(&graph).unwrap();
    damage(&mut graph);
    verify(&graph)
        .expect_err("the graph is damaged")
        .to_string()
}

fn is_sub(op: &Op) -> bool {
    op.to_string() == "sub"
}

fn is_reduce(op: &Op) -> bool {
    matches!(op, Op::Reduce { .. })
}

fn is_expand(op: &Op) -> bool {
    matches!(op, Op::View(View::Expand))
}

#[test]
fn a_graph_says_what_it_is() {
    let text = graph().to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "t0: f32[4, 9] = input 0");
    assert_eq!(
        lines[1],
        format!(
            "{:<60} ; y = aten._softmax.default",
            "t1: f32[4] = max over [1] t0"
        )
    );
    assert!(text.contains("t3: f32[4, 9] = expand t2"), "{text}");
    assert!(text.ends_with("\nreturn t11\n"), "{text}");
}

#[test]
fn damaged_graphs_are_refused() {
    let use_before = message(|g| {
        let (id, result) = find(g, is_sub);
        g.nodes[id].operands[0] = result;
    });
    assert!(
        use_before.ends_with("is used before its definition"),
        "{use_before}"
    );

    let operands = message(|g| {
        let id = find(g, is_sub).0;
        g.nodes[id].operands.pop();
    });
    assert!(operands.ends_with("1 operands instead of 2"), "{operands}");

    let sizes = message(|g| {
        let v = find(g, is_sub).1;
        g.values[v].sizes[1] = 8;
        g.values[v].strides[0] = 8;
    });
    assert!(sizes.ends_with("sizes [4, 8] instead of [4, 9]"), "{sizes}");

    let types = message(|g| {
        let v = find(g, is_sub).1;
        g.values[v].scalar_type = 7;
    });
    assert!(
        types.ends_with("takes f32[4, 9], f32[4, 9] and gives f64[4, 9]"),
        "{types}"
    );

    let compare = message(|g| {
        let id = find(g, is_sub).0;
        g.nodes[id].op = Op::Compare(CmpOp::Lt);
    });
    assert!(compare.ends_with("gives f32[4, 9]"), "{compare}");

    let strides = message(|g| {
        let v = find(g, is_sub).1;
        g.values[v].strides.pop();
    });
    assert!(strides.contains("is no tensor"), "{strides}");

    let gaps = message(|g| {
        let v = find(g, is_sub).1;
        g.values[v].strides[0] = 96;
    });
    assert!(gaps.contains("does not fill its memory"), "{gaps}");

    let forced = message(|g| {
        let id = find(g, is_sub).0;
        g.forced.insert(id);
    });
    assert!(
        forced.ends_with("is forced into memory, but not free"),
        "{forced}"
    );

    let input = message(|g| g.num_inputs = 0);
    assert_eq!(input, "n0 (): input 0 is in no table");

    let output = message(|g| g.outputs[0] = GraphOutput::Value(ValueId::new(99)));
    assert!(output.ends_with("t99 is in no table"), "{output}");

    let producer = message(|g| {
        let own = g.producers.values().copied().rev();
        g.producers = own.collect::<PrimaryMap<ValueId, NodeId>>();
    });
    assert!(
        producer.ends_with("says that another node defines it"),
        "{producer}"
    );
}

#[test]
fn damaged_attributes_are_refused() {
    let dims = message(|g| {
        let id = find(g, is_reduce).0;
        if let Op::Reduce { dims, .. } = &mut g.nodes[id].op {
            *dims = vec![2];
        }
    });
    assert!(dims.ends_with("[2] does not fit f32[4, 9]"), "{dims}");

    let kept = message(|g| {
        let id = find(g, is_reduce).0;
        if let Op::Reduce { dims, .. } = &mut g.nodes[id].op {
            *dims = vec![0];
        }
    });
    assert!(kept.ends_with("sizes [4] instead of [9]"), "{kept}");

    let with_view = |view: View| {
        message(move |g| {
            let id = find(g, is_expand).0;
            g.nodes[id].op = Op::View(view.clone());
        })
    };
    let reshape = with_view(View::Reshape);
    assert!(
        reshape.ends_with("sizes [4, 9] instead of [4, 1]"),
        "{reshape}"
    );
    let permute = with_view(View::Permute(vec![0, 0]));
    assert!(
        permute.ends_with("[0, 0] does not fit f32[4, 1]"),
        "{permute}"
    );
    let slice = with_view(View::Slice {
        start: vec![0, 0],
        step: vec![1, 1],
    });
    assert!(slice.contains("does not fit f32[4, 1]"), "{slice}");

    let with_op = |op: Op| {
        message(move |g| {
            let id = find(g, is_expand).0;
            g.nodes[id].op = op.clone();
        })
    };
    let cat = with_op(Op::Cat { dim: 1 });
    assert!(cat.ends_with("sizes [4, 9] instead of [4, 1]"), "{cat}");
    let pad = with_op(Op::Pad {
        before: vec![0, 4],
        after: vec![0, 3],
        value: Const::F32(0),
    });
    assert!(pad.ends_with("sizes [4, 9] instead of [4, 8]"), "{pad}");
    let pad = with_op(Op::Pad {
        before: vec![0, 4],
        after: vec![0, 4],
        value: Const::I32(0),
    });
    assert!(
        pad.ends_with("takes f32[4, 1] and gives f32[4, 9]"),
        "{pad}"
    );
    let gather = with_op(Op::Gather {
        dim: 0,
        rule: IndexRule::Gather,
    });
    assert!(gather.ends_with("1 operands instead of 2"), "{gather}");
    let iota = with_op(Op::Iota {
        dim: 2,
        start: 0,
        step: 1,
    });
    assert!(iota.ends_with("2 does not fit f32[4, 9]"), "{iota}");
}
