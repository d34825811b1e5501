//! Measures and prints.

use super::by_hand;
use ipex_jit::kernel::{parse, verify};
use ipex_jit::{CompiledKernel, wide};
use libloading::Library;
use std::arch::x86_64::*;
use std::hint::black_box;
use std::time::Instant;

/// 16 KiB read and 16 written.
const ELEMENTS: usize = 4096;
const ROUNDS: usize = 41;
/// Calls in a round.
const CALLS: usize = 100;

/// How PyTorch computes it.
enum Rival {
    /// By Sleef's function of one vector.
    One(&'static str),
    /// Of two.
    Two(&'static str),
    /// As `1 / (1 + e^-x)` around Sleef's exponential.
    Sigmoid,
}

struct Function {
    name: &'static str,
    rival: Rival,
    by_hand: Option<by_hand::Loop>,
    exact: fn(f64, f64) -> f64,
    /// Arguments lie between; the second ones are up to 10 away from 0.
    range: (f32, f32),
}

const fn function(
    name: &'static str,
    sleef: &'static str,
    by_hand: Option<by_hand::Loop>,
    exact: fn(f64, f64) -> f64,
    range: (f32, f32),
) -> Function {
    let rival = Rival::One(sleef);
    Function {
        name,
        rival,
        by_hand,
        exact,
        range,
    }
}

const FUNCTIONS: [Function; 10] = [
    function(
        "exp",
        "Sleef_expf16_u10",
        Some(by_hand::exp),
        |x, _| libm::exp(x),
        (-10.0, 10.0),
    ),
    function(
        "tanh",
        "Sleef_tanhf16_u10",
        Some(by_hand::tanh),
        |x, _| libm::tanh(x),
        (-4.0, 4.0),
    ),
    function(
        "erf",
        "Sleef_erff16_u10",
        Some(by_hand::erf),
        |x, _| libm::erf(x),
        (-4.0, 4.0),
    ),
    function(
        "sin",
        "Sleef_sinf16_u35",
        Some(by_hand::sin),
        |x, _| libm::sin(x),
        (-20.0, 20.0),
    ),
    function(
        "cos",
        "Sleef_cosf16_u35",
        None,
        |x, _| libm::cos(x),
        (-20.0, 20.0),
    ),
    function(
        "log",
        "Sleef_logf16_u10",
        None,
        |x, _| libm::log(x),
        (0.01, 100.0),
    ),
    function(
        "log1p",
        "Sleef_log1pf16_u10",
        None,
        |x, _| libm::log1p(x),
        (-0.9, 10.0),
    ),
    function(
        "expm1",
        "Sleef_expm1f16_u10",
        None,
        |x, _| libm::expm1(x),
        (-10.0, 10.0),
    ),
    Function {
        name: "sigmoid",
        rival: Rival::Sigmoid,
        by_hand: None,
        exact: |x, _| 1.0 / (1.0 + libm::exp(-x)),
        range: (-10.0, 10.0),
    },
    Function {
        name: "pow",
        rival: Rival::Two("Sleef_powf16_u10"),
        by_hand: None,
        exact: libm::pow,
        range: (0.01, 10.0),
    },
];

#[expect(
    improper_ctypes_definitions,
    reason = "Sleef is compiled with AVX-512, whose vectors are passed in registers"
)]
type Vector = unsafe extern "C" fn(__m512) -> __m512;
#[expect(
    improper_ctypes_definitions,
    reason = "Sleef is compiled with AVX-512, whose vectors are passed in registers"
)]
type OfTwo = unsafe extern "C" fn(__m512, __m512) -> __m512;

/// A function of the first arguments, or both, on all elements.
type Run<'a> = Box<dyn Fn(&[f32], &[f32], &mut [f32]) + 'a>;

/// # Safety
/// The processor has AVX-512 F.
#[target_feature(enable = "avx512f")]
unsafe fn over(f: Vector, x: &[f32], y: &mut [f32]) {
    for (x, y) in x.chunks_exact(16).zip(y.chunks_exact_mut(16)) {
        // SAFETY: chunks of 16 elements.
        unsafe { _mm512_storeu_ps(y.as_mut_ptr(), f(_mm512_loadu_ps(x.as_ptr()))) };
    }
}

/// # Safety
/// The processor has AVX-512 F.
#[target_feature(enable = "avx512f")]
unsafe fn over_two(f: OfTwo, x: &[f32], z: &[f32], y: &mut [f32]) {
    let both = x.chunks_exact(16).zip(z.chunks_exact(16));
    for ((x, z), y) in both.zip(y.chunks_exact_mut(16)) {
        // SAFETY: chunks of 16 elements.
        unsafe {
            let (x, z) = (_mm512_loadu_ps(x.as_ptr()), _mm512_loadu_ps(z.as_ptr()));
            _mm512_storeu_ps(y.as_mut_ptr(), f(x, z));
        }
    }
}

/// # Safety
/// The processor has AVX-512 F.
#[target_feature(enable = "avx512f")]
unsafe fn sigmoid_over(exp: Vector, x: &[f32], y: &mut [f32]) {
    let (zero, one) = (_mm512_setzero_ps(), _mm512_set1_ps(1.0));
    for (x, y) in x.chunks_exact(16).zip(y.chunks_exact_mut(16)) {
        // SAFETY: chunks of 16 elements.
        unsafe {
            let z = exp(_mm512_sub_ps(zero, _mm512_loadu_ps(x.as_ptr())));
            _mm512_storeu_ps(y.as_mut_ptr(), _mm512_div_ps(one, _mm512_add_ps(one, z)));
        }
    }
}

/// PyTorch's way, from its library.
fn theirs(library: &Library, rival: &Rival) -> Run<'static> {
    match rival {
        Rival::One(name) => {
            // SAFETY: the symbol has this type.
            let call = unsafe { library.get::<Vector>(name.as_bytes()) };
            let call = *call.expect("libtorch has Sleef");
            // SAFETY: AVX-512 F was asked for.
            Box::new(move |x, _, y| unsafe { over(call, x, y) })
        }
        Rival::Two(name) => {
            // SAFETY: the symbol has this type.
            let call = unsafe { library.get::<OfTwo>(name.as_bytes()) };
            let call = *call.expect("libtorch has Sleef");
            // SAFETY: AVX-512 F was asked for.
            Box::new(move |x, z, y| unsafe { over_two(call, x, z, y) })
        }
        Rival::Sigmoid => {
            // SAFETY: the symbol has this type.
            let call = unsafe { library.get::<Vector>(b"Sleef_expf16_u10") };
            let call = *call.expect("libtorch has Sleef");
            // SAFETY: AVX-512 F was asked for.
            Box::new(move |x, _, y| unsafe { sigmoid_over(call, x, y) })
        }
    }
}

fn generated(f: &Function) -> CompiledKernel {
    let operands = match f.rival {
        Rival::Two(_) => "v0, v1",
        _ => "v0",
    };
    let text = format!(
        "kernel (p0: in f32, p1: in f32, p2: out f32) {{
    loop i0 < 1 {{
        loop i1 < {ELEMENTS} vector {{
            v0: f32 = load p0[i1]
            v1: f32 = load p1[i1]
            v2: f32 = {} {operands}
            store p2[i1] = v2
        }}
    }}
}}",
        f.name
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

/// Arguments between both ends, in an order without a pattern.
fn spread((from, to): (f32, f32), step: usize) -> Vec<f32> {
    let size = (to - from) / ELEMENTS as f32;
    let at = |i: usize| (i * step % ELEMENTS) as f32 * size + from;
    (0..ELEMENTS).map(at).collect()
}

fn measure(f: &Function, library: Option<&Library>, cycles: f64) {
    let (x, z) = (spread(f.range, 1237), spread((-10.0, 10.0), 2039));
    let code = generated(f);
    let ours = |x: &[f32], z: &[f32], y: &mut [f32]| {
        let inputs = [x, z].map(|x| x.as_ptr().cast_mut().cast::<u8>());
        let args = [inputs[0], inputs[1], y.as_mut_ptr().cast()];
        // SAFETY: all parameters have the elements that the kernel addresses.
        unsafe { (code.entry())(args.as_ptr(), 0, 1) };
    };
    let mut rivals: Vec<(&str, Run)> = vec![("ipex", Box::new(ours))];
    if let Some(by_hand) = f.by_hand {
        // SAFETY: AVX-512 was asked for; F and DQ.
        let hand = move |x: &[f32], _: &[f32], y: &mut [f32]| unsafe { by_hand(x, y) };
        rivals.push(("by hand", Box::new(hand)));
    }
    if let Some(library) = library {
        rivals.push(("Sleef", theirs(library, &f.rival)));
    }
    let mut y = vec![0f32; ELEMENTS];
    for (rival, run) in &rivals {
        run(&x, &z, &mut y);
        for ((&x, &z), &y) in x.iter().zip(&z).zip(&y) {
            let want = (f.exact)(f64::from(x), f64::from(z));
            let error = (f64::from(y) - want).abs();
            assert!(
                error <= 1e-6 * want.abs().max(1e-3),
                "{rival}: {}({x}, {z}) = {y}, not {want}",
                f.name
            );
        }
    }
    let mut times = vec![Vec::new(); rivals.len()];
    for _ in 0..ROUNDS {
        for (times, (_, run)) in times.iter_mut().zip(&rivals) {
            let start = Instant::now();
            for _ in 0..CALLS {
                run(black_box(&x), black_box(&z), black_box(&mut y));
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
        "{:7} {}, ipex/best {:.2}",
        f.name,
        texts.join(", "),
        all[0] / best
    );
}
