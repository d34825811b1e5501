//! Attention on each instruction set, beside each other.
//!
//! ```text
//! cargo run --release -p ipex-runtime --example attention [-- THREADS [CALLS]]
//! ```
//!
//! Self-contained: it can be carried to another machine. bf16; q, k and v are slices of one matrix `[batch * rows, 3 * heads * depth]`, as a
//! model's projections give them, which other threads have just written before each call. Some results are checked against f64 first.

use half::bf16;
use ipex_runtime::DType;
use ipex_runtime::attention::{Attention, MaskedRows, Rule, Tensor, attend};
use ipex_runtime::cpu::Isa;
use ipex_runtime::gemm::{Parallel, Rayon};
use std::time::Instant;

/// Name, batch, heads, rows, depth, causal.
const SHAPES: [(&str, [usize; 4], bool); 5] = [
    ("BERT 1x12x128x64", [1, 12, 128, 64], false),
    ("BERT 8x12x128x64", [8, 12, 128, 64], false),
    ("ViT 1x12x197x64", [1, 12, 197, 64], false),
    ("causal 1x12x1024x64", [1, 12, 1024, 64], true),
    ("causal 1x32x512x128", [1, 32, 512, 128], true),
];

fn main() {
    let arg = |n: usize| {
        std::env::args()
            .nth(n)
            .and_then(|a| a.parse::<usize>().ok())
    };
    let threads =
        arg(1).unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()));
    let calls = arg(2).unwrap_or(50);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    match pool {
        Ok(pool) => pool.install(|| SHAPES.iter().for_each(|s| report(s, calls))),
        Err(e) => eprintln!("no threads: {e}"),
    }
}

fn report((name, shape, causal): &(&str, [usize; 4], bool), calls: usize) {
    let isas: Vec<Isa> = Isa::available().filter(|i| *i >= Isa::Avx512Bf16).collect();
    let mut setup = Setup::new(*shape, *causal);
    isas.iter().for_each(|isa| setup.check(*isa));
    let mut times = vec![Vec::new(); isas.len()];
    for _ in 0..calls {
        for (isa, times) in isas.iter().zip(&mut times) {
            setup.touch();
            let start = Instant::now();
            setup.run(*isa);
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    for (isa, times) in isas.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        let (least, median) = (times[0], times[times.len() / 2]);
        println!(
            "{name:22} {:12} median {median:8.1} us, least {least:8.1}",
            isa.name()
        );
    }
}

struct Setup {
    shape: [usize; 4],
    causal: bool,
    qkv: Vec<bf16>,
    out: Vec<bf16>,
}

impl Setup {
    fn new(shape: [usize; 4], causal: bool) -> Setup {
        let [batch, heads, rows, depth] = shape;
        let mut seed = 1u64;
        let mut number = || {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            bf16::from_f32((seed >> 40) as f32 / (1u32 << 22) as f32 - 2.0)
        };
        let qkv = (0..batch * rows * 3 * heads * depth)
            .map(|_| number())
            .collect();
        Setup {
            shape,
            causal,
            qkv,
            out: vec![bf16::ZERO; batch * rows * heads * depth],
        }
    }

    /// Every thread writes its columns of all rows, as after a product.
    fn touch(&mut self) {
        let [batch, heads, rows, depth] = self.shape;
        let (width, threads) = (3 * heads * depth, Rayon.threads());
        let base = self.qkv.as_mut_ptr() as usize;
        let done = Rayon.run(threads, &|t| {
            for row in 0..batch * rows {
                for column in t * width / threads..(t + 1) * width / threads {
                    // SAFETY: each thread has its own columns.
                    unsafe {
                        let at = (base as *mut bf16).add(row * width + column);
                        at.write_volatile(at.read_volatile());
                    }
                }
            }
        });
        done.expect("rayon runs");
    }

    fn run(&mut self, isa: Isa) {
        let [batch, heads, rows, depth] = self.shape;
        let tensor = |data: *const bf16, width: usize| Tensor {
            data: data.cast(),
            dtype: DType::BF16,
            strides: [rows * width, depth, width, 1].map(|s| s as isize),
        };
        let part = |n: usize| tensor(self.qkv[n * heads * depth..].as_ptr(), 3 * heads * depth);
        let a = Attention {
            batch,
            heads,
            kv_heads: heads,
            queries: rows,
            keys: rows,
            depth,
            width: depth,
            q: part(0),
            k: part(1),
            v: part(2),
            mask: None,
            out: tensor(self.out.as_mut_ptr(), heads * depth),
            lse: None,
            rule: Rule {
                scale: (depth as f32).sqrt().recip(),
                causal: self.causal,
                mask: None,
                masked_rows: MaskedRows::Zero,
            },
        };
        // SAFETY: the tensors are ours.
        unsafe { attend(&a, isa, &Rayon) }.expect("a supported attention");
    }

    /// Panics if a result is wrong.
    fn check(&mut self, isa: Isa) {
        self.run(isa);
        let [batch, heads, rows, depth] = self.shape;
        let width = 3 * heads * depth;
        for n in 0..40 {
            let (b, h, r) = (n % batch, n * 5 % heads, n * 37 % rows);
            let at = |part: usize, row: usize, d: usize| {
                self.qkv[(b * rows + row) * width + (part * heads + h) * depth + d].to_f64()
            };
            let seen = if self.causal { r + 1 } else { rows };
            let score = |j: usize| {
                (0..depth).map(|d| at(0, r, d) * at(1, j, d)).sum::<f64>() / (depth as f64).sqrt()
            };
            let scores: Vec<f64> = (0..seen).map(score).collect();
            let max = scores.iter().fold(f64::MIN, |m, &s| m.max(s));
            let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for d in [0, depth / 2, depth - 1] {
                let want = weights
                    .iter()
                    .enumerate()
                    .map(|(j, w)| w / sum * at(2, j, d))
                    .sum::<f64>();
                let got = self.out[(b * rows + r) * heads * depth + h * depth + d].to_f64();
                assert!((got - want).abs() < 0.02, "{isa:?}: {got} for {want}");
            }
        }
    }
}
