//! Random kernels through the interpreter and both code generators.

mod execute;
mod memory;
mod random;

use execute::execute;
use ipex_jit::interpret::interpret;
use ipex_jit::kernel::*;
use ipex_jit::{CompiledKernel, cranelift, wide};
use memory::{canonical, fill};
use proptest::prelude::*;
use random::random;
use std::io::Write;

/// Runs a kernel through all generators; whether the wide one took it.
fn check(bytes: &[u8]) -> bool {
    let (kernel, sizes) = random(bytes);
    verify(&kernel).unwrap_or_else(|e| panic!("{e}\n{kernel}"));
    let params = kernel.params.values().zip(&sizes).enumerate();
    let memory: Vec<Vec<u8>> = params.map(|(k, (p, &n))| fill(p.dtype, n, k)).collect();
    let extent = kernel.vars[kernel.root.var].extent;
    let mut want = memory.clone();
    interpret(&kernel, &mut want, 0, extent);
    let mut codes = vec![(
        "cranelift",
        cranelift::compile(&kernel).unwrap_or_else(|e| panic!("{e}\n{kernel}")),
    )];
    let wide = wide::compile(&kernel);
    if let Ok(code) = &wide {
        codes.push(("wide", CompiledKernel::new(code).unwrap()));
    }
    // As on processors that do not round to bf16 themselves.
    if let Ok(code) = wide::compile_for(&kernel, false) {
        codes.push(("wide, no bf16", CompiledKernel::new(&code).unwrap()));
    }
    for (name, code) in codes {
        let mut got = memory.clone();
        execute(&code, &mut got, extent, extent / 3);
        for (k, p) in kernel.params.iter() {
            let k = k.as_u32() as usize;
            let (got, want) = (canonical(p.dtype, &got[k]), canonical(p.dtype, &want[k]));
            let size = p.dtype.size();
            let mut pairs = got.chunks(size).zip(want.chunks(size)).enumerate();
            let wrong = pairs.find(|(_, (g, w))| g != w);
            assert!(
                wrong.is_none(),
                "{name}, parameter {k} of {}: {wrong:x?}\n{kernel}",
                p.dtype,
            );
        }
    }
    wide.is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn generators_agree_with_the_interpreter(bytes in prop::collection::vec(any::<u8>(), 40..160)) {
        check(&bytes);
    }
}

#[test]
fn the_wide_generator_takes_its_share() {
    if !wide::available() {
        // Straight to the stream: the test harness keeps what is printed.
        let skipped = b"SKIPPED: random kernels on the wide generator, for want of AVX-512\n";
        std::io::stderr().write_all(skipped).unwrap();
        return;
    }
    let mut state = 1u32;
    let mut draw = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let taken = (0..200)
        .filter(|_| check(&(0..100).map(|_| draw()).collect::<Vec<_>>()))
        .count();
    assert!(taken >= 50, "{taken} of 200");
}
