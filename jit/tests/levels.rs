//! Code for an instruction set has no instruction beyond it: the processor that the tests run on may have more.

mod random;

use iced_x86::{Code, CpuidFeature, Decoder, DecoderOptions};
use ipex_jit::kernel::{Kernel, parse};
use ipex_jit::wide::{Target, compile_for};
use random::random;
use std::collections::BTreeSet;

/// The features of a function's instructions, by name.
fn features(code: &[u8]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for instruction in &mut Decoder::new(64, code, DecoderOptions::NONE) {
        let of = |f: &CpuidFeature| format!("{f:?}");
        found.extend(instruction.cpuid_features().iter().map(of));
        match instruction.code() {
            Code::Retnq => break,
            Code::INVALID => panic!("no instruction at {:#x}: {code:02x?}", instruction.ip()),
            _ => {}
        }
    }
    found
}

/// Every operator of f32 that a generator has a form of its own of, and narrow elements.
fn functions() -> impl Iterator<Item = Kernel> {
    let names = [
        "exp", "exp2", "expm1", "sigmoid", "log", "tanh", "erf", "sin", "cos",
    ];
    names.into_iter().flat_map(|name| {
        ["f32", "bf16", "f16"].map(|dtype| {
            let text = format!(
                "kernel (p0: in f32, p1: out {dtype}) {{
    loop i0 < 3 {{
        loop i1 < 100 vector {{
            v0: f32 = load p0[i1]
            v1: f32 = {name} v0
            store p1[i1] = v1
        }}
    }}
}}"
            );
            parse(&text).unwrap()
        })
    })
}

fn randoms() -> impl Iterator<Item = Kernel> {
    let mut state = 1u32;
    let mut draw = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..2000).map(move |_| random(&(0..100).map(|_| draw()).collect::<Vec<_>>()).0)
}

/// What code for a target uses beyond the general instructions and these.
fn beyond(target: Target, allowed: &[&str]) -> BTreeSet<String> {
    let general = ["INTEL8086", "INTEL386", "X64", "SSE"];
    let kernels = functions().chain(randoms());
    let codes = kernels.filter_map(|k| compile_for(&k, target).ok());
    let mut found: BTreeSet<String> = codes.flat_map(|code| features(&code)).collect();
    assert!(!found.is_empty());
    found.retain(|f| !allowed.contains(&f.as_str()) && !general.contains(&f.as_str()));
    found
}

#[test]
fn code_for_avx2_uses_avx2_fma_and_f16c() {
    let found = beyond(Target::Avx2, &["AVX", "AVX2", "FMA", "F16C"]);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn code_for_avx512_uses_what_its_level_names() {
    let allowed = ["AVX512F", "AVX512BW", "AVX512DQ", "AVX512VL", "AVX", "BMI2"];
    let found = beyond(Target::Avx512 { bf16: false }, &allowed);
    assert!(found.is_empty(), "{found:?}");
    let found = beyond(Target::Avx512 { bf16: true }, &allowed);
    assert!(found.iter().eq(["AVX512_BF16"].iter()), "{found:?}");
}
