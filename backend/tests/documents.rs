//! Documents through the whole compiler, and malformed ones.

use ipex_backend::compile::compile;
use ipex_backend::error::Error;
use ipex_runtime::plan::Step;

const SOFTMAX: &str = include_str!("../../tests/golden/softmax.json");

#[test]
fn softmax_is_one_kernel() {
    let program = compile(SOFTMAX.as_bytes()).unwrap();
    assert_eq!(program.plan.steps.len(), 1);
    let Step::Kernel {
        code, extent: 4, ..
    } = &program.plan.steps[0]
    else {
        panic!("not one kernel over four rows");
    };
    let x: Vec<f32> = (0..36).map(|i| (i % 7) as f32).collect();
    let mut y = vec![0f32; 36];
    let args = [x.as_ptr() as *mut u8, y.as_mut_ptr().cast()];
    // SAFETY: both tensors have the document's 4x9 elements.
    unsafe { (code.entry)(args.as_ptr(), 0, 4) };
    for (x, y) in x.chunks(9).zip(y.chunks(9)) {
        let sum: f64 = x.iter().map(|&v| f64::from(v).exp()).sum();
        for (&x, &y) in x.iter().zip(y) {
            assert!((f64::from(y) - f64::from(x).exp() / sum).abs() < 1e-6);
        }
    }
}

#[test]
fn malformed_documents_are_errors() {
    let cases = [
        (r#""protocol": 2"#, r#""protocol": 1"#, "version 1"),
        ("as_bool", "as_colour", "unknown variant"),
        (r#""name": "x"}}],"#, r#""name": "z"}}],"#, "lacks z"),
        (r#""inference""#, r#""training""#, "unknown variant"),
        ("\"cpu\"", "\"cuda\"", "not on the CPU"),
        (
            r#"{"as_int": 9}]"#,
            r#"{"as_expr": {"expr_str": "u0"}}]"#,
            "u0 is known at run time only",
        ),
        (
            r#"{"as_int": 9}]"#,
            r#"{"as_expr": {"expr_str": "s0 +"}}]"#,
            "column 5",
        ),
    ];
    for (from, to, message) in cases {
        let text = SOFTMAX.replacen(from, to, 1);
        let error: Error = compile(text.as_bytes()).err().unwrap();
        assert!(error.to_string().contains(message), "{error}");
    }
    for n in 0..SOFTMAX.trim_end().len() {
        assert!(compile(&SOFTMAX.as_bytes()[..n]).is_err(), "cut at {n}");
    }
}
