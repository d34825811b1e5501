//! Convolutions as a fraction of the processor's measured peak: a loop of multiply-adds in registers,
//! timed beside each shape on the same threads.
//!
//!     cargo bench -p ipex-runtime --bench conv [-- FILTER]

use ipex_runtime::Error;
use ipex_runtime::conv::{Operation, Pointers, Shape, Threads, run};
use ipex_runtime::cpu::Isa;
use std::hint::black_box;
use std::time::Instant;

/// Name, channels, size, outputs, kernel, stride, groups; padding keeps the size.
const SHAPES: &[(&str, usize, usize, usize, usize, usize, usize)] = &[
    ("resnet stem", 3, 224, 64, 7, 2, 1),
    ("resnet 1.1", 64, 56, 64, 1, 1, 1),
    ("resnet 1.2", 64, 56, 64, 3, 1, 1),
    ("resnet 1.3", 64, 56, 256, 1, 1, 1),
    ("resnet 1.1b", 256, 56, 64, 1, 1, 1),
    ("resnet 2.down", 256, 56, 512, 1, 2, 1),
    ("resnet 2.2s", 128, 56, 128, 3, 2, 1),
    ("resnet 2.2", 128, 28, 128, 3, 1, 1),
    ("resnet 2.3", 128, 28, 512, 1, 1, 1),
    ("resnet 3.2", 256, 14, 256, 3, 1, 1),
    ("resnet 3.3", 256, 14, 1024, 1, 1, 1),
    ("resnet 3.1", 1024, 14, 256, 1, 1, 1),
    ("resnet 4.2", 512, 7, 512, 3, 1, 1),
    ("resnet 4.3", 512, 7, 2048, 1, 1, 1),
    ("resnet 4.1", 2048, 7, 512, 1, 1, 1),
    ("mobilenet stem", 3, 224, 16, 3, 2, 1),
    ("mobilenet expand", 16, 112, 64, 1, 1, 1),
    ("mobilenet project", 64, 56, 24, 1, 1, 1),
    ("mobilenet 28", 40, 28, 120, 1, 1, 1),
    ("mobilenet 14", 112, 14, 672, 1, 1, 1),
    ("mobilenet 7", 160, 7, 960, 1, 1, 1),
    ("depthwise 3s1 112", 16, 112, 16, 3, 1, 16),
    ("depthwise 3s2 112", 64, 112, 64, 3, 2, 64),
    ("depthwise 3s1 56", 72, 56, 72, 3, 1, 72),
    ("depthwise 5s2 56", 72, 56, 72, 5, 2, 72),
    ("depthwise 5s1 28", 120, 28, 120, 5, 1, 120),
    ("depthwise 3s1 14", 480, 14, 480, 3, 1, 480),
    ("depthwise 5s1 14", 672, 14, 672, 5, 1, 672),
    ("depthwise 5s1 7", 960, 7, 960, 5, 1, 960),
    ("depthwise 7s1 56", 96, 56, 96, 7, 1, 96),
    ("depthwise 7s1 14", 384, 14, 384, 7, 1, 384),
];

struct Pool;

impl Threads for Pool {
    fn count(&self) -> usize {
        rayon::current_num_threads()
    }

    fn split(
        &self,
        end: usize,
        grain: usize,
        body: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<(), Error> {
        let parts = self.count().min(end.div_ceil(grain.max(1)));
        let step = end.div_ceil(parts);
        rayon::scope(|s| {
            for begin in (0..end).step_by(step) {
                s.spawn(move |_| body(begin, end.min(begin + step)));
            }
        });
        Ok(())
    }
}

/// Multiply-adds a second of one thread, in registers.
fn peak_of_a_thread() -> f64 {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::*;
        #[target_feature(enable = "avx512f")]
        fn wide(n: usize) -> f32 {
            let (a, b) = (
                _mm512_set1_ps(black_box(1.0)),
                _mm512_set1_ps(black_box(1e-9)),
            );
            let mut sums = [_mm512_setzero_ps(); 12];
            for _ in 0..n {
                for sum in &mut sums {
                    *sum = _mm512_fmadd_ps(a, b, *sum);
                }
            }
            sums.into_iter().map(|s| _mm512_reduce_add_ps(s)).sum()
        }
        #[target_feature(enable = "avx2,fma")]
        fn narrow(n: usize) -> f32 {
            let (a, b) = (
                _mm256_set1_ps(black_box(1.0)),
                _mm256_set1_ps(black_box(1e-9)),
            );
            let mut sums = [_mm256_setzero_ps(); 12];
            for _ in 0..n {
                for sum in &mut sums {
                    *sum = _mm256_fmadd_ps(a, b, *sum);
                }
            }
            sums.into_iter()
                .map(|s| _mm_cvtss_f32(_mm256_castps256_ps128(s)))
                .sum()
        }
        let n = 100_000;
        let start = Instant::now();
        let isa = Isa::detect();
        // SAFETY: the processor has the level.
        let lanes = unsafe {
            if isa >= Isa::Avx512 {
                black_box(wide(n));
                16
            } else if isa >= Isa::Avx2 {
                black_box(narrow(n));
                8
            } else {
                return f64::NAN;
            }
        };
        (12 * lanes * n) as f64 / start.elapsed().as_secs_f64()
    }
    #[cfg(not(target_arch = "x86_64"))]
    f64::NAN
}

fn peak() -> f64 {
    rayon::broadcast(|_| peak_of_a_thread()).into_iter().sum()
}

/// The best: other processes only add.
fn best(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[0]
}

fn main() {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    println!(
        "{} threads, {}",
        rayon::current_num_threads(),
        Isa::detect().name()
    );
    for &(name, inputs, size, outputs, kernel, stride, groups) in SHAPES {
        if filter.as_ref().is_some_and(|f| !name.contains(f.as_str())) {
            continue;
        }
        let shape = Shape {
            images: 1,
            groups,
            inputs,
            outputs,
            image: [size; 2],
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [kernel / 2; 2],
            dilation: [1; 2],
        };
        let [h, w] = shape.result().expect("the shapes fit");
        let image = vec![0.5; inputs * size * size];
        let weight = vec![0.25; outputs * inputs / groups * kernel * kernel];
        let mut result = vec![0.0f32; outputs * h * w];
        let pointers = Pointers {
            image: image.as_ptr(),
            weight: weight.as_ptr(),
            bias: None,
            result: result.as_mut_ptr(),
        };
        // SAFETY: the vectors have the shape's sizes.
        let call = || unsafe {
            run(
                &shape,
                Operation::Sum,
                Isa::detect(),
                pointers,
                None,
                &Pool,
                None,
            )
        };
        call().expect("a valid shape");
        let middle = result[h / 2 * w + w / 2];
        let taps = (inputs / groups * kernel * kernel) as f32;
        assert_eq!(middle, taps * 0.125, "{name}");
        let (mut times, mut peaks) = (Vec::new(), Vec::new());
        for _ in 0..31 {
            let start = Instant::now();
            call().expect("a valid shape");
            times.push(start.elapsed().as_secs_f64());
            peaks.push(peak());
        }
        let (time, peak) = (best(times), best(peaks));
        let rate = shape.work() as f64 / time;
        println!(
            "{name:20} {:8.1} us {:6.1} GFLOP/s {:5.2} of peak",
            time * 1e6,
            rate * 2e-9,
            rate / peak
        );
    }
}
