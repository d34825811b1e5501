//! Measures and prints.

use super::by_hand;
use ipex_jit::kernel::{parse, verify};
use ipex_jit::{CompiledKernel, wide};
use libloading::Library;
use std::arch::x86_64::{__m512, _mm512_loadu_ps, _mm512_storeu_ps};
use std::hint::black_box;
use std::time::Instant;

/// 16 KiB read and 16 written.
const ELEMENTS: usize = 4096;
const ROUNDS: usize = 41;
/// Calls in a round.
const CALLS: usize = 100;

struct Function {
    name: &'static str,
    /// As PyTorch calls it.
    sleef: &'static str,
    by_hand: by_hand::Loop,
    exact: fn(f64) -> f64,
    range: f32,
}

const FUNCTIONS: [Function; 4] = [
    Function {
        name: "exp",
        sleef: "Sleef_expf16_u10",
        by_hand: by_hand::exp,
        exact: libm::exp,
        range: 10.0,
    },
    Function {
        name: "tanh",
        sleef: "Sleef_tanhf16_u10",
        by_hand: by_hand::tanh,
        exact: libm::tanh,
        range: 4.0,
    },
    Function {
        name: "erf",
        sleef: "Sleef_erff16_u10",
        by_hand: by_hand::erf,
        exact: libm::erf,
        range: 4.0,
    },
    Function {
        name: "sin",
        sleef: "Sleef_sinf16_u35",
        by_hand: by_hand::sin,
        exact: libm::sin,
        range: 20.0,
    },
];

#[expect(
    improper_ctypes_definitions,
    reason = "Sleef is compiled with AVX-512, whose vectors are passed in registers"
)]
type Vector = unsafe extern "C" fn(__m512) -> __m512;

/// A function on all elements.
type Run<'a> = Box<dyn Fn(&[f32], &mut [f32]) + 'a>;

/// # Safety
/// The processor has AVX-512 F.
#[target_feature(enable = "avx512f")]
unsafe fn over(f: Vector, x: &[f32], y: &mut [f32]) {
    for (x, y) in x.chunks_exact(16).zip(y.chunks_exact_mut(16)) {
        // SAFETY: chunks of 16 elements.
        unsafe { _mm512_storeu_ps(y.as_mut_ptr(), f(_mm512_loadu_ps(x.as_ptr()))) };
    }
}

fn generated(name: &str) -> CompiledKernel {
    let text = format!(
        "kernel (p0: in f32, p1: out f32) {{
    loop i0 < 1 {{
        loop i1 < {ELEMENTS} vector {{
            v0: f32 = load p0[i1]
            v1: f32 = {name} v0
            store p1[i1] = v1
        }}
    }}
}}"
    );
    let kernel = parse(&text).expect("the kernel's text is well-formed");
    verify(&kernel).expect("the kernel is valid");
    let code = wide::compile(&kernel).expect("the wide generator covers it");
    CompiledKernel::new(&code).expect("the code is mapped")
}

/// Cycles in a nanosecond.
fn clock() -> f64 {
    let mut best = f64::MAX;
    for _ in 0..20 {
        let start = Instant::now();
        let mut x = black_box(1u64);
        for _ in 0..100_000 {
            // SAFETY: ten additions that wait for each other.
            unsafe {
                std::arch::asm!(
                    "add {0}, 1", "add {0}, 1", "add {0}, 1", "add {0}, 1", "add {0}, 1",
                    "add {0}, 1", "add {0}, 1", "add {0}, 1", "add {0}, 1", "add {0}, 1",
                    inout(reg) x
                );
            }
        }
        black_box(x);
        best = best.min(start.elapsed().as_nanos() as f64);
    }
    1e6 / best
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

pub fn main() {
    let path = std::env::var("IPEX_LIBTORCH").ok();
    // SAFETY: libtorch's initialisers are those that Python runs.
    let sleef = path.map(|p| unsafe { Library::new(p) }.expect("libtorch opens"));
    if sleef.is_none() {
        eprintln!("SKIPPED: Sleef, for want of IPEX_LIBTORCH");
    }
    let cycles = clock();
    println!("{cycles:.2} cycles in a nanosecond; cycles for each element:");
    for f in &FUNCTIONS {
        measure(f, sleef.as_ref(), cycles);
    }
}

fn measure(f: &Function, library: Option<&Library>, cycles: f64) {
    let step = 2.0 * f.range / ELEMENTS as f32;
    let x: Vec<f32> = (0..ELEMENTS)
        .map(|i| (i * 1237 % ELEMENTS) as f32 * step - f.range)
        .collect();
    let code = generated(f.name);
    let ours = |x: &[f32], y: &mut [f32]| {
        let args = [x.as_ptr().cast_mut().cast::<u8>(), y.as_mut_ptr().cast()];
        // SAFETY: both parameters have the elements that the kernel addresses.
        unsafe { (code.entry())(args.as_ptr(), 0, 1) };
    };
    // SAFETY: AVX-512 was asked for; F and DQ.
    let hand = |x: &[f32], y: &mut [f32]| unsafe { (f.by_hand)(x, y) };
    let mut rivals: Vec<(&str, Run)> = vec![("ipex", Box::new(ours)), ("by hand", Box::new(hand))];
    if let Some(library) = library {
        // SAFETY: the symbol has this type.
        let call = unsafe { library.get::<Vector>(f.sleef.as_bytes()) };
        let call = *call.expect("libtorch has Sleef");
        // SAFETY: AVX-512 F was asked for.
        rivals.push(("Sleef", Box::new(move |x, y| unsafe { over(call, x, y) })));
    }
    let mut y = vec![0f32; ELEMENTS];
    for (rival, run) in &rivals {
        run(&x, &mut y);
        for (&x, &y) in x.iter().zip(&y) {
            let want = (f.exact)(f64::from(x));
            let error = (f64::from(y) - want).abs();
            assert!(
                error <= 1e-6 * want.abs().max(1e-3),
                "{rival}: {}({x}) = {y}",
                f.name
            );
        }
    }
    let mut times = vec![Vec::new(); rivals.len()];
    for _ in 0..ROUNDS {
        for (times, (_, run)) in times.iter_mut().zip(&rivals) {
            let start = Instant::now();
            for _ in 0..CALLS {
                run(black_box(&x), black_box(&mut y));
            }
            times.push(start.elapsed().as_nanos() as f64);
        }
    }
    let per = |t: Vec<f64>| median(t) * cycles / (CALLS * ELEMENTS) as f64;
    let all: Vec<f64> = times.into_iter().map(per).collect();
    let best = all[1..].iter().copied().fold(f64::MAX, f64::min);
    let texts = rivals
        .iter()
        .zip(&all)
        .map(|((n, _), c)| format!("{n} {c:.3}"));
    let texts: Vec<String> = texts.collect();
    println!(
        "{:5} {}, ipex/best {:.2}",
        f.name,
        texts.join(", "),
        all[0] / best
    );
}
