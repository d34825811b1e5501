//! Matrix products against f64 and against the processor's peak.
//!
//! ```text
//! cargo run --release -p ipex-runtime --example gemm [-- THREADS [MILLISECONDS [FILTER]]]
//! ```
//!
//! Self-contained: it can be carried to another machine. `IPEX_ISA` caps the instruction set. The peak is
//! that of a loop of multiply-adds on registers, before and after each product, and the bandwidth that of reading
//! a large array, both on as many threads. Every product is checked before it is timed; each time is the best,
//! as for the peak: what else runs on the machine only adds to it.

use half::{bf16, f16};
use ipex_runtime::cpu::{Caches, Isa};
use ipex_runtime::gemm::{
    Call, Columns, Math, Matrix, PackedB, Parallel, Parts, Product, Rayon, multiply,
};
use ipex_runtime::{DType, pool};
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
    // A part of "f32 64x768x3072": type, rows, K, columns.
    let filter = std::env::args().nth(3).unwrap_or_default();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    match pool {
        Ok(pool) => pool.install(|| report(budget, &filter)),
        Err(e) => eprintln!("no threads: {e}"),
    }
}

fn report(budget: f64, filter: &str) {
    let isa = Isa::detect();
    let threads = rayon::current_num_threads();
    println!("{} threads, {}, {:?}", threads, isa.name(), Caches::get());
    let mut reading = None;
    for (dtype, math) in kinds(isa) {
        let Some(first) = peak(isa, math, 60) else {
            println!("{dtype}: no peak loop for {}", isa.name());
            continue;
        };
        println!("{dtype}: {math:?}, peak {first:.0} GFLOP/s");
        let mut logs = [0.0, 0.0];
        let mut count = 0.0;
        for rows in [64, 128, 197, 512] {
            for [n, k] in SHAPES {
                if !format!("{dtype} {rows}x{k}x{n}").contains(filter) {
                    continue;
                }
                let mut setup = Setup::new(dtype, [rows, n, k], 1);
                // Clocks change within seconds, and other tenants of a machine take half a core at times.
                let mut last = peak(isa, math, 10).unwrap_or(first);
                let [packed, plain] = [true, false].map(|pack| {
                    let rate = 2e-9 * (rows * n * k) as f64 / setup.time(pack, budget);
                    let before = last;
                    last = peak(isa, math, 10).unwrap_or(first);
                    (rate, rate / before.max(last))
                });
                println!(
                    "  {rows:4} x {k:4} -> {n:4}  packed {:7.1} GFLOP/s {:.3} of peak   not packed {:7.1} {:.3}",
                    packed.0, packed.1, plain.0, plain.1
                );
                if rows < 512 {
                    logs[0] += packed.1.ln();
                    logs[1] += plain.1.ln();
                    count += 1.0;
                }
            }
        }
        let [packed, plain] = logs.map(|l| f64::exp(l / count));
        println!(
            "  geometric mean of peak up to 197 rows: packed {packed:.3}, not packed {plain:.3}"
        );
        for rows in [1, 4, 16] {
            let [n, k] = [3072, 768];
            if !format!("{dtype} {rows}x{k}x{n}").contains(filter) {
                continue;
            }
            let bandwidth = *reading.get_or_insert_with(|| {
                let bandwidth = bandwidth();
                println!("reading: {bandwidth:.1} GB/s");
                bandwidth
            });
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

/// Element types, and the arithmetic that this instruction set has for them.
fn kinds(isa: Isa) -> Vec<(DType, Math)> {
    let or_f32 = |math, has| if has { math } else { Math::F32 };
    let bytes = isa >= Isa::Avx512Vnni;
    // Packed products beside the peak of what they are made of.
    let parts = (isa >= Isa::Amx).then_some((DType::F32, Math::Bf16x3));
    let mut kinds = vec![
        (DType::F32, Math::F32),
        (DType::BF16, or_f32(Math::Bf16, isa >= Isa::Avx512Bf16)),
        (DType::F16, or_f32(Math::F16, isa >= Isa::AmxFp16)),
    ];
    kinds.extend(parts);
    kinds.extend(bytes.then_some((DType::U8, Math::I8)));
    kinds.extend(bytes.then_some((DType::I8, Math::S8)));
    kinds
}

/// `C[m, n] = A[m, k] W[n, k]^T`, with some weights that take turns.
struct Setup {
    dtype: DType,
    weight: DType,
    result: DType,
    shape: [usize; 3],
    a: Pooled,
    w: Vec<Aligned>,
    c: Pooled,
}

/// Memory that begins at a cache line, as PyTorch's does.
struct Aligned {
    memory: Vec<u8>,
    first: usize,
    len: usize,
}

impl Aligned {
    fn new(bytes: &[u8]) -> Aligned {
        let mut memory = vec![0; bytes.len() + 63];
        let first = memory.as_ptr().align_offset(64);
        memory[first..first + bytes.len()].copy_from_slice(bytes);
        Aligned {
            memory,
            first,
            len: bytes.len(),
        }
    }
}

impl std::ops::Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.first..self.first + self.len]
    }
}

impl std::ops::DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.first..self.first + self.len]
    }
}

/// Memory of the pool that a plan's results come from.
struct Pooled {
    data: *mut u8,
    bytes: usize,
}

impl Pooled {
    fn new(contents: &[u8]) -> Pooled {
        let (data, bytes) = pool::take(contents.len().max(pool::SMALLEST)).expect("memory");
        // SAFETY: the block has at least so many bytes.
        unsafe { data.copy_from_nonoverlapping(contents.as_ptr(), contents.len()) };
        Pooled { data, bytes }
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        pool::give(self.data, self.bytes);
    }
}

impl std::ops::Deref for Pooled {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the block is ours; its pages are zeros before they are written.
        unsafe { std::slice::from_raw_parts(self.data, self.bytes) }
    }
}

fn elements(dtype: DType, count: usize, seed: &mut u64) -> Aligned {
    let mut bytes = Vec::with_capacity(count * dtype.size());
    for _ in 0..count {
        *seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        let x = (*seed >> 40) as f32 / (1u32 << 23) as f32 - 1.0;
        match dtype {
            DType::BF16 => bytes.extend(bf16::from_f32(x).to_ne_bytes()),
            DType::F16 => bytes.extend(f16::from_f32(x).to_ne_bytes()),
            DType::U8 => bytes.push((x * 127.0 + 128.0) as u8),
            DType::I8 => bytes.push((x * 127.0) as i8 as u8),
            _ => bytes.extend(x.to_ne_bytes()),
        }
    }
    Aligned::new(&bytes)
}

fn element(dtype: DType, bytes: &[u8], n: usize) -> f64 {
    match dtype {
        DType::BF16 => bf16::from_ne_bytes([bytes[2 * n], bytes[2 * n + 1]]).to_f64(),
        DType::F16 => f16::from_ne_bytes([bytes[2 * n], bytes[2 * n + 1]]).to_f64(),
        DType::U8 => bytes[n].into(),
        DType::I8 => (bytes[n] as i8).into(),
        DType::I32 => i32::from_ne_bytes([0, 1, 2, 3].map(|i| bytes[4 * n + i])).into(),
        _ => f32::from_ne_bytes([0, 1, 2, 3].map(|i| bytes[4 * n + i])).into(),
    }
}

impl Setup {
    fn new(dtype: DType, [m, n, k]: [usize; 3], weights: usize) -> Setup {
        let mut seed = 1;
        let bytes = matches!(dtype, DType::U8 | DType::I8);
        let weight = if bytes { DType::I8 } else { dtype };
        let result = if bytes { DType::I32 } else { dtype };
        Setup {
            dtype,
            weight,
            result,
            shape: [m, n, k],
            a: Pooled::new(&elements(dtype, m * k, &mut seed)),
            w: (0..weights)
                .map(|_| elements(weight, n * k, &mut seed))
                .collect(),
            c: Pooled::new(&vec![0; m * n * result.size()]),
        }
    }

    fn matrix(data: *const u8, dtype: DType, strides: [usize; 2]) -> Matrix {
        Matrix {
            data,
            dtype,
            strides: strides.map(|s| s as isize),
        }
    }

    /// Seconds of a call; panics if a result is wrong.
    fn time(&mut self, pack: bool, budget: f64) -> f64 {
        let ([_, n, k], isa) = (self.shape, Isa::detect());
        let c = self.c.data;
        let products: Vec<Product> = self
            .w
            .iter()
            .map(|w| {
                let a = Setup::matrix(self.a.as_ptr(), self.dtype, [k, 1]);
                let b = Setup::matrix(w.as_ptr(), self.weight, [1, k]);
                Product::new(self.shape, a, b, Setup::matrix(c, self.result, [n, 1]))
            })
            .collect();
        let packed: Vec<Option<PackedB>> = products
            .iter()
            .map(|p| {
                let columns = [Columns { b: p.b, n }];
                // SAFETY: the matrices are ours.
                let made = unsafe {
                    PackedB::new(
                        &columns,
                        k,
                        p.packed_math(isa, Rayon.threads()),
                        isa,
                        &Rayon,
                    )
                };
                pack.then(|| made.expect("memory"))
            })
            .collect();
        let run = |w: usize| {
            let call = Call {
                isa,
                threads: &Rayon,
                packed: packed[w].as_ref(),
                made: None,
                groups: None,
                epilogue: None,
                parts: Parts::Any,
            };
            // SAFETY: the matrices are ours.
            unsafe { multiply(&products[w], &call) }.expect("a supported product");
        };
        run(0);
        self.check();
        let (start, mut best, mut rounds) = (Instant::now(), f64::INFINITY, 0);
        while rounds < 5 || start.elapsed().as_secs_f64() < budget {
            // All weights: what the caches kept of a few says nothing.
            let start = Instant::now();
            (0..self.w.len()).for_each(run);
            best = best.min(start.elapsed().as_secs_f64() / self.w.len() as f64);
            rounds += 1;
        }
        best
    }

    fn check(&self) {
        let [m, n, k] = self.shape;
        for (i, j) in (0..50).map(|s| (s * 7 % m, s * 131 % n)) {
            let terms = (0..k).map(|p| {
                element(self.dtype, &self.a, i * k + p)
                    * element(self.weight, &self.w[0], j * k + p)
            });
            let (want, got) = (terms.sum::<f64>(), element(self.result, &self.c, i * n + j));
            let bound = match self.result {
                DType::BF16 => 8e-3 * want.abs() + 1e-3,
                DType::F16 => 1e-3 * want.abs() + 1e-3,
                DType::I32 => 0.0,
                _ => 1e-3,
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
fn peak(isa: Isa, math: Math, passes: usize) -> Option<f64> {
    use std::arch::asm;
    macro_rules! registers {
        ($name:ident, $inst:literal, $register:literal, $($sum:literal)*) => {
            fn $name(rounds: u64) {
                // SAFETY: arithmetic on registers alone.
                unsafe {
                    asm!("vzeroall", "2:",
                        $(concat!($inst, " ", $register, $sum, ", ", $register, "12, ", $register, "13"),)*
                        "dec rcx", "jnz 2b", inout("rcx") rounds => _, clobber_abi("C"),
                    );
                }
            }
        };
    }
    /// Four tile registers of sums and four operands, as in the product's kernel. The operands are random
    /// numbers: zeros take less power, and the processor would run faster than it ever does in products.
    macro_rules! tiles {
        ($name:ident, $inst:literal, $dtype:expr) => {
            fn $name(rounds: u64) {
                #[repr(C, align(64))]
                struct Configuration([u8; 64]);
                let mut c = Configuration([0; 64]);
                c.0[0] = 1;
                for register in 0..8 {
                    (c.0[16 + 2 * register], c.0[48 + register]) = (64, 16);
                }
                let operands = elements($dtype, 4096 / $dtype.size(), &mut 1);
                // SAFETY: a valid configuration, operands of 1 KiB each, and arithmetic on registers.
                unsafe {
                    asm!("ldtilecfg [{c}]",
                        "tileloadd tmm4, [{o} + {s}*1]", "tileloadd tmm5, [{o} + {s}*1 + 1024]",
                        "tileloadd tmm6, [{o} + {s}*1 + 2048]", "tileloadd tmm7, [{o} + {s}*1 + 3072]",
                        "2:",
                        concat!($inst, " tmm0, tmm4, tmm6"), concat!($inst, " tmm1, tmm4, tmm7"),
                        concat!($inst, " tmm2, tmm5, tmm6"), concat!($inst, " tmm3, tmm5, tmm7"),
                        "dec {n}", "jnz 2b", "tilerelease", c = in(reg) &c, o = in(reg) operands.as_ptr(),
                        s = in(reg) 64usize, n = inout(reg) rounds => _);
                }
            }
        };
    }
    tiles!(amx_f16, "tdpfp16ps", DType::F16);
    tiles!(amx_bf16, "tdpbf16ps", DType::BF16);
    tiles!(amx_u8, "tdpbusd", DType::U8);
    tiles!(amx_s8, "tdpbssd", DType::I8);
    registers!(avx512_vnni, "vpdpbusd", "zmm", 0 1 2 3 4 5 6 7 8 9 10 11 16 17 18 19 20 21 22 23 24 25 26 27);
    registers!(avx2, "vfmadd231ps", "ymm", 0 1 2 3 4 5 6 7 8 9 10 11);
    registers!(avx512, "vfmadd231ps", "zmm", 0 1 2 3 4 5 6 7 8 9 10 11 16 17 18 19 20 21 22 23 24 25 26 27);
    registers!(avx512_bf16, "vdpbf16ps", "zmm", 0 1 2 3 4 5 6 7 8 9 10 11 16 17 18 19 20 21 22 23 24 25 26 27);
    // What runs, and its operations in a round.
    let (run, flops): (fn(u64), f64) = match (isa, math) {
        (Isa::Scalar, _) => return None,
        (Isa::Avx2, _) => (avx2, 12.0 * 16.0),
        (Isa::Amx | Isa::AmxFp16, Math::Bf16) => (amx_bf16, 4.0 * 16384.0),
        (Isa::AmxFp16, Math::F16) => (amx_f16, 4.0 * 16384.0),
        (Isa::Amx | Isa::AmxFp16, Math::Bf16x3) => (amx_bf16, 4.0 * 16384.0 / 6.0),
        (Isa::Amx | Isa::AmxFp16, Math::I8) => (amx_u8, 4.0 * 32768.0),
        (Isa::Amx | Isa::AmxFp16, Math::S8) => (amx_s8, 4.0 * 32768.0),
        (_, Math::Bf16) => (avx512_bf16, 24.0 * 64.0),
        (_, Math::I8 | Math::S8) => (avx512_vnni, 24.0 * 128.0),
        _ => (avx512, 24.0 * 32.0),
    };
    const ROUNDS: u64 = 100_000;
    let threads = Rayon.threads();
    let pass = || {
        let start = Instant::now();
        Rayon.run(threads, &|_| run(ROUNDS)).expect("rayon runs");
        1e-9 * flops * (ROUNDS * threads as u64) as f64 / start.elapsed().as_secs_f64()
    };
    Some((0..passes).map(|_| pass()).fold(0.0, f64::max))
}

#[cfg(not(target_arch = "x86_64"))]
fn peak(_: Isa, _: Math, _: usize) -> Option<f64> {
    None
}
