//! Programs saved by torch.export.save. `tests/golden/export.py` wrote the archive.

use ipex_backend::compile;
use ipex_backend::graph::Op;
use ipex_backend::protocol::{self, archive, export};
use ipex_jit::kernel::UnaryOp;

const ARCHIVE: &[u8] = include_bytes!("../../tests/golden/bias_gelu.pt2");

fn json() -> String {
    String::from_utf8(archive::program(ARCHIVE).unwrap().1).unwrap()
}

/// The message of a program in which `from` was replaced.
fn error(from: &str, to: &str) -> String {
    let json = json();
    assert!(json.contains(from), "{from}");
    let decoded = export::decode(json.replacen(from, to, 1).as_bytes());
    decoded.err().map_or("no error".into(), |e| e.to_string())
}

#[test]
fn a_saved_program_is_one_kernel() {
    let file = protocol::read(ARCHIVE).unwrap();
    assert_eq!(file.program.as_deref(), Some("bias_gelu/models/model.json"));
    let sizes: Vec<_> = file.specialised.iter().collect();
    assert_eq!(sizes[1], (&"s77".to_string(), &4));
    let (graph, clusters) = compile::fuse(&file.document, &file.symbols).unwrap();
    assert_eq!(graph.num_inputs, 2);
    // The default of `approximate`, "none", makes it the exact form.
    let erf = |op: &Op| *op == Op::Unary(UnaryOp::Erf);
    assert!(graph.nodes.values().any(|n| erf(&n.op)), "{graph}");
    assert_eq!(clusters.groups.len(), 1, "{graph}");
    assert_eq!(clusters.groups[0].kernels.len(), 1);
}

#[test]
fn what_cannot_be_read_is_named() {
    let cases = [
        (
            r#""schema_version": {"major": 8"#,
            r#""schema_version": {"major": 9"#,
            "schema version 9.20 of torch.export instead of 8.x",
        ),
        (
            r#""as_tensor": {"name": "x"}"#,
            r#""as_colour": 3"#,
            "unknown variant `as_colour`",
        ),
        (
            r#""graph_module""#,
            r#""graph""#,
            "missing field `graph_module` at line 1 column",
        ),
        (
            r#"{"name": "self", "arg": {"as_tensor": {"name": "add"}}, "kind": 1}"#,
            r#"{"name": "self", "arg": {"as_graph": {"name": "add"}}, "kind": 1}"#,
            "aten.gelu.default, self: an argument of kind as_graph",
        ),
        (
            r#""name": "self", "arg": {"as_tensor": {"name": "add"}"#,
            r#""name": "me", "arg": {"as_tensor": {"name": "add"}"#,
            "aten.gelu.default lacks its argument self",
        ),
        (
            r#"[{"as_name": "mul"}]"#,
            r#"[{"as_name": "mal"}]"#,
            "aten.view.default, size: sym_int_values lacks mal",
        ),
        (
            r#", "hint": {"as_int": 12}"#,
            "",
            "the symbolic size Mul(Integer(3), Symbol('s77', positive=True, integer=True)) has no hint",
        ),
    ];
    for (from, to, message) in cases {
        let error = error(from, to);
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn an_argument_too_many_is_named() {
    let call = r#""target": "torch.ops.aten.gelu.default", "inputs": ["#;
    let extra = r#"{"name": "colour", "arg": {"as_int": 1}, "kind": 2}, "#;
    assert_eq!(
        error(call, &format!("{call}{extra}")),
        "invalid document: aten.gelu.default has no argument colour"
    );
}

#[test]
fn damaged_archives_are_errors() {
    for n in 0..ARCHIVE.len() {
        assert!(protocol::read(&ARCHIVE[..n]).is_err(), "cut at {n}");
    }
    let mut damaged = ARCHIVE.to_vec();
    let json = json();
    let at = ARCHIVE
        .windows(20)
        .position(|w| w == &json.as_bytes()[..20]);
    damaged[at.unwrap() + 100] ^= 1;
    let error = protocol::read(&damaged).err().unwrap().to_string();
    assert!(error.contains("bias_gelu/models/model.json"), "{error}");
    let error = protocol::read(b"PK\x05\x06 nothing").err().unwrap();
    assert!(error.to_string().contains("archive"), "{error}");
}
