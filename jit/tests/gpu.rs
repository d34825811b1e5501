//! Kernels as SPIR-V, on `ze_cpu`, against the interpreter: the random ones of `agree.rs`, and those of the text files.

mod memory;
mod random;
mod values;

use ipex_jit::interpret::interpret;
use ipex_jit::kernel::*;
use ipex_jit::spirv::{self, ENTRY, Program, Refused};
use ipex_runtime::level_zero::{Argument, Device, Source, devices};
use memory::{canonical, fill};
use random::random;
use values::{Run, agree};
use ze_cpu::tiers;

/// A device of each kind; the kernels need no matrix instructions. Intel's OpenCL runtime (2026.2) computes `!min(x * x, x)` of i64 wrong in
/// code that it does not vectorize (LLVM 15 compiles the same SPIR-V right): four lanes cover all items. Its code is not kept on disk here.
const DEVICES: &[(&str, &[(&str, &str)])] = &[
    (
        "hpg",
        &[
            ("CL_CONFIG_CPU_VECTORIZER_MODE", "4"),
            ("IPEX_CACHE_DIR", ""),
        ],
    ),
    (
        "hpc",
        &[
            ("CL_CONFIG_CPU_VECTORIZER_MODE", "4"),
            ("IPEX_CACHE_DIR", ""),
            ("ZE_CPU_API", "7"),
        ],
    ),
];

#[test]
fn on_every_device() {
    tiers::run("fused kernels on ze_cpu", DEVICES);
}

/// Runs a program; memory holds the bytes of each parameter.
fn execute(device: &Device, program: &Program, memory: &mut [Vec<u8>]) {
    let source = Source {
        name: "fused",
        spirv: &program.spirv,
        large_registers: false,
        constants: &[],
    };
    let mut kernel = device.module(&source).unwrap().kernel(ENTRY).unwrap();
    let mut stream = device.stream().unwrap();
    let buffers: Vec<_> = memory
        .iter()
        .map(|m| device.buffer(m.len()).unwrap())
        .collect();
    for (buffer, bytes) in buffers.iter().zip(memory.iter()) {
        stream.write(buffer, bytes).unwrap();
    }
    let arguments: Vec<_> = buffers.iter().map(|b| Argument::Memory(b, 0)).collect();
    // SAFETY: every parameter has the elements that the kernel addresses.
    unsafe { stream.launch(&mut kernel, [program.groups, 1, 1], &arguments, None) }.unwrap();
    for (buffer, bytes) in buffers.iter().zip(memory.iter_mut()) {
        stream.read(buffer, bytes).unwrap();
    }
}

/// Compares a kernel on the device with the interpreter; whether it runs there at all.
fn check(kernel: &Kernel, memory: &[Vec<u8>]) -> bool {
    let program = match spirv::compile(kernel) {
        Ok(program) => program,
        Err(Refused::Writer(e)) => panic!("{e}\n{kernel}"),
        Err(_) => return false,
    };
    if program.f64 && !devices().unwrap()[0].has_f64() {
        return false;
    }
    let (mut want, mut got) = (memory.to_vec(), memory.to_vec());
    interpret(kernel, &mut want, 0, kernel.vars[kernel.root.var].extent);
    execute(&devices().unwrap()[0], &program, &mut got);
    for (k, p) in kernel.params.iter() {
        let k = k.as_u32() as usize;
        let (got, want) = (canonical(p.dtype, &got[k]), canonical(p.dtype, &want[k]));
        let size = p.dtype.size();
        let wrong = got
            .chunks(size)
            .zip(want.chunks(size))
            .enumerate()
            .find(|(_, (g, w))| g != w);
        assert!(
            wrong.is_none(),
            "parameter {k} of {}: {wrong:x?}\n{kernel}",
            p.dtype
        );
    }
    true
}

#[test]
#[ignore = "needs a device"]
fn random_kernels_agree_with_the_interpreter() {
    let mut state = 1u32;
    let mut draw = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let cases: usize = std::env::var("IPEX_CASES").map_or(60, |n| n.parse().unwrap());
    let taken = (0..cases).filter(|_| {
        let bytes: Vec<u8> = (0..100).map(|_| draw()).collect();
        let (kernel, sizes) = random(&bytes);
        let params = kernel.params.values().zip(&sizes).enumerate();
        let memory: Vec<Vec<u8>> = params.map(|(k, (p, &n))| fill(p.dtype, n, k)).collect();
        check(&kernel, &memory)
    });
    let (taken, f64) = (taken.count(), devices().unwrap()[0].has_f64());
    assert!(
        taken == cases || !f64 && taken > cases / 10,
        "{taken} of {cases}"
    );
}

#[test]
#[ignore = "needs a device"]
fn kernels_in_files() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kernels");
    let files = std::fs::read_dir(folder).unwrap();
    let texts = files.map(|f| std::fs::read_to_string(f.unwrap().path()).unwrap());
    let (mut ran, mut refused) = (0, Vec::new());
    for text in texts {
        for case in text.split("---\n") {
            let runs = case.lines().filter_map(|l| l.strip_prefix("; run"));
            for run in runs.map(|r| Run::read(r).unwrap()) {
                let kernel = parse(case).unwrap();
                match spirv::compile(&kernel) {
                    Ok(program) if program.f64 && !devices().unwrap()[0].has_f64() => {}
                    Ok(program) => {
                        ran += 1;
                        run_case(&kernel, &program, &run);
                    }
                    Err(why) => refused.push(why.to_string()),
                }
            }
        }
    }
    refused.sort();
    refused.dedup();
    let expected: [&str; 0] = [];
    assert_eq!(refused, expected, "{ran} ran");
    assert!(ran >= 15, "{ran}");
}

fn run_case(kernel: &Kernel, program: &Program, run: &Run) {
    let mut memory = run.memory(kernel).unwrap();
    execute(&devices().unwrap()[0], program, &mut memory);
    let written = kernel.params.iter().filter(|(_, p)| p.access != Access::In);
    for ((id, p), want) in written.zip(&run.outputs) {
        let got = &memory[id.as_u32() as usize];
        agree(p.dtype, got, want, run.ulp).unwrap_or_else(|e| panic!("{id}{e}\n{kernel}"));
    }
}
