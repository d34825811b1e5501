//! Matrix products against f64 and against the processor's peak.
//!
//! ```text
//! cargo run --release -p ipex-runtime --example gemm [-- THREADS [MILLISECONDS]]
//! ```
//!
//! Self-contained: it can be carried to another machine. `IPEX_ISA` caps the instruction set. The peak is
//! that of a loop of multiply-adds on registers, and the bandwidth that of reading a large array, both on
//! as many threads and in the same run. Every product is checked before it is timed; each time is the
//! best, as for the peak: what else runs on the machine only adds to it.

use half::bf16;
use ipex_runtime::DType;
use ipex_runtime::cpu::{Caches, Isa};
use ipex_runtime::gemm::{
    Call, Math, Matrix, PackedB, Parallel, Precision, Product, Rayon, multiply,
};
use std::time::Instant;

const SHAPES: [[usize; 2]; 4] = [[768, 768], [3072, 768], [768, 3072], [2304, 768]];

fn main() {
    let arg = |n: usize| {
        std::env::args()
            .nth(n)
            .and_then(|a| a.parse::<usize>().ok())
    };
    let threads =
        arg(1).unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()));
    let budget = arg(2).unwrap_or(100) as f64 / 1e3;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    match pool {
        Ok(pool) => pool.install(|| report(budget)),
        Err(e) => eprintln!("no threads: {e}"),
    }
}

fn report(budget: f64) {
    let isa = Isa::detect();
    let threads = rayon::current_num_threads();
    println!("{} threads, {}, {:?}", threads, isa.name(), Caches::get());
    let bandwidth = bandwidth();
    println!("reading: {bandwidth:.1} GB/s");
    for dtype in [DType::F32, DType::BF16] {
        let math = if dtype == DType::BF16 && isa >= Isa::Avx512Bf16 {
            Math::Bf16
        } else {
            Math::F32
        };
        let Some(peak) = peak(isa, math) else {
            println!("{dtype}: no peak loop for {}", isa.name());
            continue;
        };
        println!("{dtype}: {math:?}, peak {peak:.0} GFLOP/s");
        let mut logs = [0.0, 0.0];
        let mut count = 0.0;
        for rows in [64, 128, 197] {
            for [n, k] in SHAPES {
                let mut setup = Setup::new(dtype, [rows, n, k], 1);
                let times = [setup.time(true, budget), setup.time(false, budget)];
                let rates = times.map(|t| 2e-9 * (rows * n * k) as f64 / t);
                println!(
                    "  {rows:4} x {k:4} -> {n:4}  packed {:7.1} GFLOP/s {:.3} of peak   not packed {:7.1} {:.3}",
                    rates[0],
                    rates[0] / peak,
                    rates[1],
                    rates[1] / peak
                );
                (logs[0], logs[1]) = (
                    logs[0] + (rates[0] / peak).ln(),
                    logs[1] + (rates[1] / peak).ln(),
                );
                count += 1.0;
            }
        }
        let [packed, plain] = logs.map(|l| f64::exp(l / count));
        println!("  geometric mean of peak: packed {packed:.3}, not packed {plain:.3}");
        for rows in [1, 4, 16] {
            let [n, k] = [3072, 768];
            // More weights than the caches hold.
            let weights = (4 * Caches::get().l3).div_ceil(n * k * dtype.size());
            let mut setup = Setup::new(dtype, [rows, n, k], weights);
            let times = [
                setup.time(true, 2.0 * budget),
                setup.time(false, 2.0 * budget),
            ];
            let rates = times.map(|t| 1e-9 * (n * k * dtype.size()) as f64 / t);
            println!(
                "  {rows:4} x {k:4} -> {n:4}  packed {:5.1} GB/s {:.2} of reading   not packed {:5.1} {:.2}",
                rates[0],
                rates[0] / bandwidth,
                rates[1],
                rates[1] / bandwidth
            );
        }
    }
}

/// `C[m, n] = A[m, k] W[n, k]^T`, with some weights that take turns.
struct Setup {
    dtype: DType,
    shape: [usize; 3],
    a: Vec<u8>,
    w: Vec<Vec<u8>>,
    c: Vec<u8>,
}

fn elements(dtype: DType, count: usize, seed: &mut u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count * dtype.size());
    for _ in 0..count {
        *seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        let x = (*seed >> 40) as f32 / (1u32 << 23) as f32 - 1.0;
        match dtype {
            DType::BF16 => bytes.extend(bf16::from_f32(x).to_ne_bytes()),
            _ => bytes.extend(x.to_ne_bytes()),
        }
    }
    bytes
}

fn element(dtype: DType, bytes: &[u8], n: usize) -> f64 {
    match dtype {
        DType::BF16 => bf16::from_ne_bytes([bytes[2 * n], bytes[2 * n + 1]]).to_f64(),
        _ => f32::from_ne_bytes([0, 1, 2, 3].map(|i| bytes[4 * n + i])).into(),
    }
}

impl Setup {
    fn new(dtype: DType, [m, n, k]: [usize; 3], weights: usize) -> Setup {
        let mut seed = 1;
        Setup {
            dtype,
            shape: [m, n, k],
            a: elements(dtype, m * k, &mut seed),
            w: (0..weights)
                .map(|_| elements(dtype, n * k, &mut seed))
                .collect(),
            c: vec![0; m * n * dtype.size()],
        }
    }

    fn matrix(&self, data: *const u8, strides: [usize; 2]) -> Matrix {
        Matrix {
            data,
            dtype: self.dtype,
            strides: strides.map(|s| s as isize),
        }
    }

    /// Seconds of a call; panics if a result is wrong.
    fn time(&mut self, pack: bool, budget: f64) -> f64 {
        let ([_, n, k], isa) = (self.shape, Isa::detect());
        let c = self.c.as_mut_ptr();
        let products: Vec<Product> = self
            .w
            .iter()
            .map(|w| {
                let b = self.matrix(w.as_ptr(), [1, k]);
                Product::new(
                    self.shape,
                    self.matrix(self.a.as_ptr(), [k, 1]),
                    b,
                    self.matrix(c, [n, 1]),
                )
            })
            .collect();
        let packed: Vec<Option<PackedB>> = products
            .iter()
            .map(|p| {
                // SAFETY: the matrices are ours.
                let made =
                    unsafe { PackedB::new(&p.b, [k, n], self.dtype, Precision::Full, isa, &Rayon) };
                pack.then(|| made.expect("memory"))
            })
            .collect();
        let run = |w: usize| {
            let call = Call {
                isa,
                threads: &Rayon,
                packed: packed[w].as_ref(),
                epilogue: None,
                whole_rows: false,
            };
            // SAFETY: the matrices are ours.
            unsafe { multiply(&products[w], &call) }.expect("a supported product");
        };
        run(0);
        self.check();
        let (start, mut times) = (Instant::now(), Vec::new());
        while times.len() < 5 || start.elapsed().as_secs_f64() < budget {
            let start = Instant::now();
            run(times.len() % self.w.len());
            times.push(start.elapsed().as_secs_f64());
        }
        times.into_iter().fold(f64::INFINITY, f64::min)
    }

    fn check(&self) {
        let [m, n, k] = self.shape;
        let at = |bytes, n| element(self.dtype, bytes, n);
        for (i, j) in (0..50).map(|s| (s * 7 % m, s * 131 % n)) {
            let terms = (0..k).map(|p| at(&self.a, i * k + p) * at(&self.w[0], j * k + p));
            let (want, got) = (terms.sum::<f64>(), at(&self.c, i * n + j));
            let bound = if self.dtype == DType::BF16 {
                8e-3 * want.abs() + 1e-3
            } else {
                1e-3
            };
            assert!(
                (got - want).abs() <= bound,
                "[{i}, {j}] is {got}, not {want}"
            );
        }
    }
}

/// GB/s of reading an array larger than the caches; the best of some passes.
fn bandwidth() -> f64 {
    let len = (8 * Caches::get().l3 / 8).max(1 << 24);
    let array: Vec<u64> = (0..len as u64).collect();
    let threads = Rayon.threads();
    let pass = || {
        let start = Instant::now();
        let done = Rayon.run(threads, &|t| {
            let part = &array[t * len / threads..(t + 1) * len / threads];
            std::hint::black_box(part.iter().fold(0u64, |s, &x| s ^ x));
        });
        done.expect("rayon runs");
        8e-9 * len as f64 / start.elapsed().as_secs_f64()
    };
    (0..7).map(|_| pass()).fold(0.0, f64::max)
}

/// GFLOP/s of all threads on registers alone.
#[cfg(target_arch = "x86_64")]
fn peak(isa: Isa, math: Math) -> Option<f64> {
    use std::arch::asm;
    macro_rules! registers {
        ($name:ident, $inst:literal, $register:literal) => {
            fn $name(rounds: u64) {
                // SAFETY: arithmetic on registers alone.
                unsafe {
                    asm!("vzeroall", "2:",
                        concat!($inst, " ", $register, "0, ", $register, "12, ", $register, "13"),
                        concat!($inst, " ", $register, "1, ", $register, "12, ", $register, "13"),
                        concat!($inst, " ", $register, "2, ", $register, "12, ", $register, "13"),
                        concat!($inst, " ", $register, "3, ", $register, "12, ", $register, "13"),
                        concat!($inst, " ", $register, "4, ", $register, "12, ", $register, "13"),
                        concat!($inst, " ", $register, "5, ", $register, "12, ", $register, "13"),
                        concat!($inst, " ", $register, "6, ", $register, "12, ", $register, "13"),
                        concat!($inst, " ", $register, "7, ", $register, "12, ", $register, "13"),
                        concat!($inst, " ", $register, "8, ", $register, "12, ", $register, "13"),
                        concat!($inst, " ", $register, "9, ", $register, "12, ", $register, "13"),
                        concat!($inst, " ", $register, "10, ", $register, "12, ", $register, "13"),
                        concat!($inst, " ", $register, "11, ", $register, "12, ", $register, "13"),
                        "dec {n}", "jnz 2b", n = inout(reg) rounds => _,
                        out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _,
                        out("xmm5") _, out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _,
                        out("xmm10") _, out("xmm11") _, out("xmm12") _, out("xmm13") _,
                    );
                }
            }
        };
    }
    registers!(avx2, "vfmadd231ps", "ymm");
    registers!(avx512, "vfmadd231ps", "zmm");
    registers!(avx512_bf16, "vdpbf16ps", "zmm");
    let (run, flops): (fn(u64), f64) = match (isa, math) {
        (Isa::Scalar, _) => return None,
        (Isa::Avx2, _) => (avx2, 16.0),
        (_, Math::Bf16) => (avx512_bf16, 64.0),
        _ => (avx512, 32.0),
    };
    const ROUNDS: u64 = 200_000;
    let threads = Rayon.threads();
    let pass = || {
        let start = Instant::now();
        Rayon.run(threads, &|_| run(ROUNDS)).expect("rayon runs");
        1e-9 * flops * 12.0 * (ROUNDS * threads as u64) as f64 / start.elapsed().as_secs_f64()
    };
    Some((0..60).map(|_| pass()).fold(0.0, f64::max))
}

#[cfg(not(target_arch = "x86_64"))]
fn peak(_: Isa, _: Math) -> Option<f64> {
    None
}
