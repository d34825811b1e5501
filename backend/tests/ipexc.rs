//! The command-line program. `IPEX_BLESS=1` rewrites the expected output.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn golden(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    root.join(name)
}

fn ipexc(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ipexc"));
    command.args(args).output().unwrap()
}

fn explain(file: &str, args: &[&str]) -> String {
    let path = golden(file);
    let file = path.to_str().unwrap();
    let output = ipexc(&[&["explain", file], args].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{:?}", output.stderr);
    text
}

#[test]
fn a_document_is_explained() {
    let stages = [
        "--stage", "graph", "--stage", "groups", "--stage", "kernels",
    ];
    for (file, expected) in [
        ("softmax.json", "softmax.txt"),
        ("bias_gelu.pt2", "bias_gelu.txt"),
    ] {
        let text = explain(file, &stages);
        let path = golden(expected);
        if std::env::var_os("IPEX_BLESS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let want = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, want, "IPEX_BLESS=1 takes this over");
    }
}

#[test]
fn attention_written_by_hand_is_explained() {
    let text = explain("attention.json", &[]);
    let (calls, reasons) = text.split_once("not attention:\n").unwrap();
    assert!(reasons.contains(": tanh between the products\n"), "{text}");
    let ours = calls.matches("= call ipex.attention by ipex").count();
    if ipex_runtime::cpu::Isa::detect() >= ipex_runtime::cpu::Isa::Avx2 {
        assert_eq!(ours, 1, "{text}");
        assert_eq!(calls.matches("call aten.bmm.default").count(), 2, "{text}");
    } else {
        assert_eq!(ours, 0, "{text}");
        assert!(reasons.contains(": no kernel for"), "{text}");
    }
}

#[test]
fn joined_layers_are_explained() {
    let text = explain("joined.json", &[]);
    if ipex_runtime::cpu::Isa::detect() < ipex_runtime::cpu::Isa::Avx2 {
        assert_eq!(text.matches(": no kernel of ours").count(), 4, "{text}");
        return;
    }
    assert_eq!(
        text.matches("= call ipex.joined by ipex").count(),
        1,
        "{text}"
    );
    let (_, joins) = text.split_once("\njoined: ").unwrap();
    let want = "addmm = aten.addmm.default | mm = aten.mm.default\n\
                not joined:\n    \
                addmm_1 = aten.addmm.default: its result is handed out\n    \
                addmm_2 = aten.addmm.default: aten.sort.default reads its result\n";
    assert_eq!(joins, want);
}

#[test]
fn products_of_bytes_are_explained() {
    let text = explain("bytes.json", &[]);
    if ipex_runtime::cpu::Isa::detect() < ipex_runtime::cpu::Isa::Avx2 {
        assert_eq!(text.matches("call ipex.bytes").count(), 0, "{text}");
        assert!(
            text.contains("addmm = aten.addmm.default: no kernel of ours"),
            "{text}"
        );
        return;
    }
    assert_eq!(
        text.matches("= call ipex.bytes by ipex").count(),
        2,
        "{text}"
    );
    let (_, found) = text.split_once("\nmultiplied as bytes: ").unwrap();
    let (found, _) = found.split_once("not joined:").unwrap();
    let want = "addmm = aten.addmm.default\n\
                multiplied as bytes: mm = aten.mm.default\n\
                bytes multiplied as floats:\n    \
                mm_1 = aten.mm.default: its scale or zero point changes along the dimension that is summed, and not by groups of neighbours\n    \
                mm_2 = aten.mm.default: its bytes are computed in the graph\n    \
                addmm_1 = aten.addmm.default: the product is scaled\n    \
                mm_4 = aten.mm.default: mul = aten.mul.Tensor between the bytes and the product\n";
    assert_eq!(found, want);
}

#[test]
fn what_a_gpu_leaves_to_the_cpu_is_explained() {
    let title = "left to the CPU by a GPU, of 1 steps:\n";
    let text = explain("softmax.json", &["--stage", "gpu"]);
    assert_eq!(text, title);
    let text = explain("sort.json", &["--stage", "gpu"]);
    let title = "left to the CPU by a GPU, of 2 steps:\n";
    let step = "    step 0: aten.sort.default: no GPU kernel\n";
    assert_eq!(text, [title, step].concat());
}

#[test]
fn the_code_is_that_of_the_generator_that_is_used() {
    let text = explain("softmax.json", &["--code"]);
    if let Some(target) = ipex_jit::wide::Target::detect() {
        let title = format!("kernel 0: wide generator for {}, ", target.name());
        assert!(text.contains(&title), "{text}");
        let largest = ["vmaxps ymm", "vmaxps zmm"][usize::from(target.bytes() == 64)];
        assert!(text.contains(largest), "{text}");
        assert!(text.contains("\n   ") && text.contains("  ret\n"), "{text}");
        assert!(!text.contains("(bad)"), "{text}");
    } else {
        assert!(text.contains("kernel 0: Cranelift"), "{text}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    let output = ipexc(&["explain", "no such file"]);
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.starts_with("ipexc: no such file: "), "{message}");
    let output = ipexc(&["explain", golden("export.py").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("line 1 column"), "{message}");
}
