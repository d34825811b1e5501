//! Time to verify a kernel, to generate code and to run it, for each kernel of `benches/kernels/` through both generators. One thread.
//! Results are compared with the interpreter's before anything is timed.

use criterion::Criterion;
use ipex_jit::interpret::interpret;
use ipex_jit::kernel::{Kernel, parse, verify};
use ipex_jit::wide::{self, Target};
use ipex_jit::{CompileError, CompiledKernel, cranelift};
use ipex_runtime::DType;
use std::time::Duration;

const KERNELS: [(&str, &str); 3] = [
    ("bias_gelu", include_str!("kernels/bias_gelu.ipex")),
    ("rms_norm", include_str!("kernels/rms_norm.ipex")),
    (
        "masked_softmax",
        include_str!("kernels/masked_softmax.ipex"),
    ),
];
/// Elements of each parameter: as many as the largest has.
const ELEMENTS: usize = 128 * 768;

type Generator = Box<dyn Fn(&Kernel) -> Result<CompiledKernel, CompileError>>;

fn by_wide(kernel: &Kernel, target: Target) -> Result<CompiledKernel, CompileError> {
    let code =
        wide::compile_for(kernel, target).map_err(|e| CompileError::Codegen(e.to_string()))?;
    CompiledKernel::new(&code)
}

fn memory(kernel: &Kernel) -> Vec<Vec<u8>> {
    let element = |dtype: DType, i: usize| match dtype {
        DType::Bool => vec![u8::from(!i.is_multiple_of(5))],
        _ => ((i * 37 % 211) as f32 / 50.0 - 2.0).to_le_bytes().to_vec(),
    };
    let fill = |dtype| (0..ELEMENTS).flat_map(|i| element(dtype, i)).collect();
    kernel.params.values().map(|p| fill(p.dtype)).collect()
}

fn run(code: &CompiledKernel, memory: &mut [Vec<u8>], extent: i64) {
    let args: Vec<*mut u8> = memory.iter_mut().map(|m| m.as_mut_ptr()).collect();
    // SAFETY: no kernel addresses more than the elements that every parameter has.
    unsafe { (code.entry())(args.as_ptr(), 0, extent) }
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    let chunks = bytes.chunks_exact(4);
    chunks.map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]]))
}

fn main() {
    let mut criterion = Criterion::default()
        .configure_from_args()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800));
    let mut generators: Vec<(&str, Generator)> = vec![("cranelift", Box::new(cranelift::compile))];
    for target in Target::available() {
        generators.push((target.name(), Box::new(move |k| by_wide(k, target))));
    }
    if generators.len() == 1 {
        eprintln!("SKIPPED: the wide generator, for want of AVX2 or AVX-512");
    }
    for (name, text) in KERNELS {
        let kernel = parse(text).expect("the kernel's text is well-formed");
        verify(&kernel).expect("the kernel is valid");
        criterion.bench_function(&format!("{name}/verify"), |b| b.iter(|| verify(&kernel)));
        let extent = kernel.vars[kernel.root.var].extent;
        let mut want = memory(&kernel);
        interpret(&kernel, &mut want, 0, extent);
        for (generator, compile) in &generators {
            let code = compile(&kernel).expect("the kernel compiles");
            let mut got = memory(&kernel);
            run(&code, &mut got, extent as i64);
            let pairs = floats(&got[2]).zip(floats(&want[2]));
            for (g, w) in pairs {
                // The forms of erf differ by some 6e-8 where GELU multiplies 1 + erf, nearly 0, by 2.
                assert!((g - w).abs() <= 1e-5 * w.abs() + 2e-7, "{name}: {g}, {w}");
            }
            criterion.bench_function(&format!("{name}/{generator}/generate"), |b| {
                b.iter(|| compile(&kernel));
            });
            criterion.bench_function(&format!("{name}/{generator}/run"), |b| {
                b.iter(|| run(&code, &mut got, extent as i64));
            });
        }
    }
    criterion.final_summary();
}
