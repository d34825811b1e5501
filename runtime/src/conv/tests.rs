//! Every kernel on every instruction set against sums in f64.

use super::*;
#[cfg(target_arch = "x86_64")]
use crate::testing::skipped;
use proptest::prelude::*;

/// One thread after the other, in two parts.
struct Parts;

impl Threads for Parts {
    fn count(&self) -> usize {
        2
    }

    fn split(
        &self,
        end: usize,
        _: usize,
        body: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<(), Error> {
        let middle = end.div_ceil(2);
        body(0, middle);
        if middle < end {
            body(middle, end);
        }
        Ok(())
    }
}

fn numbers(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed | 1;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(n).collect()
}

fn reference(s: &Shape, image: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<(f64, f64)> {
    let [oh, ow] = s.result().unwrap();
    let (channels, per_group) = (s.inputs / s.groups, s.outputs / s.groups);
    let pixel = |n: usize, c: usize, y: usize, x: usize| {
        let (y, x) = (y.checked_sub(s.padding[0])?, x.checked_sub(s.padding[1])?);
        (y < s.image[0] && x < s.image[1])
            .then(|| f64::from(image[((n * s.inputs + c) * s.image[0] + y) * s.image[1] + x]))
    };
    let mut out = Vec::new();
    for n in 0..s.images {
        for o in 0..s.outputs {
            for (y, x) in (0..oh * ow).map(|p| (p / ow, p % ow)) {
                let start = bias.map_or(0.0, |b| f64::from(b[o]));
                let (mut sum, mut size) = (start, start.abs());
                for c in 0..channels {
                    for (ky, kx) in (0..s.taps()).map(|t| (t / s.kernel[1], t % s.kernel[1])) {
                        let w = weight[(o * channels + c) * s.taps() + ky * s.kernel[1] + kx];
                        let at = (
                            y * s.stride[0] + ky * s.dilation[0],
                            x * s.stride[1] + kx * s.dilation[1],
                        );
                        let from = o / per_group * channels + c;
                        if let Some(v) = pixel(n, from, at.0, at.1) {
                            sum += f64::from(w) * v;
                            size += (f64::from(w) * v).abs();
                        }
                    }
                }
                out.push((sum, size));
            }
        }
    }
    out
}

/// Images, weights and perhaps bias of a convolution.
struct Given {
    image: Vec<f32>,
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
}

impl Given {
    fn new(shape: &Shape, with_bias: bool, seed: u32) -> Given {
        let pixels = shape.images * shape.inputs * shape.image[0] * shape.image[1];
        let weights = shape.outputs * shape.inputs / shape.groups * shape.taps();
        Given {
            image: numbers(pixels, seed),
            weight: numbers(weights, seed + 2),
            bias: with_bias.then(|| numbers(shape.outputs, seed + 4)),
        }
    }

    /// The result of `run`, which must hand on every plane once.
    fn result(&self, shape: &Shape, unit: usize, run: impl FnOnce(Pointers, Then)) -> Vec<f32> {
        let rows = shape.images * shape.outputs;
        let pixels: usize = shape.result().unwrap().iter().product();
        let mut result = vec![f32::NAN; rows * pixels];
        let seen = std::sync::Mutex::new(vec![0; rows]);
        let pointers = Pointers {
            image: self.image.as_ptr(),
            weight: self.weight.as_ptr(),
            bias: self.bias.as_ref().map(|b| b.as_ptr()),
            result: result.as_mut_ptr(),
        };
        let count = |begin: usize, end: usize| {
            let mut seen = seen.lock().unwrap();
            seen[begin..end].iter_mut().for_each(|n| *n += 1);
        };
        run(pointers, Then { unit, run: &count });
        let seen = seen.into_inner().unwrap();
        assert!(seen.iter().all(|&n| n == 1), "{shape:?}");
        result
    }

    /// Sums in f64, and the sums of the magnitudes of their terms.
    fn reference(&self, shape: &Shape) -> Vec<(f64, f64)> {
        reference(shape, &self.image, &self.weight, self.bias.as_deref())
    }
}

fn check(shape: &Shape, isa: Isa, with_bias: bool, seed: u32) {
    if shape.result().is_none() {
        return;
    }
    let given = Given::new(shape, with_bias, seed);
    let unit = if seed.is_multiple_of(2) {
        1
    } else {
        shape.outputs
    };
    let result = given.result(shape, unit, |pointers, then| {
        let sum = Operation::Sum;
        // SAFETY: the vectors have the shape's sizes.
        unsafe { run(shape, sum, isa, pointers, None, &Parts, Some(then)) }.unwrap();
    });
    let want = given.reference(shape);
    let terms = (shape.inputs / shape.groups * shape.taps() + 1) as f64;
    for (n, (&got, (sum, size))) in result.iter().zip(want).enumerate() {
        let bound = size * terms * f64::from(f32::EPSILON);
        let error = (f64::from(got) - sum).abs();
        assert!(error <= bound, "{shape:?} {isa:?} at {n}: {got} for {sum}");
    }
}

fn shapes() -> impl Strategy<Value = Shape> {
    let pair = |low: usize, high: usize| [low..=high, low..=high];
    (
        (
            1usize..=2,
            1usize..=3,
            prop_oneof![Just(1usize), 1usize..=7],
            1usize..=15,
        ),
        (pair(1, 24), pair(1, 5), pair(1, 3), pair(0, 3), pair(1, 3)),
    )
        .prop_map(
            |((images, groups, inputs, outputs), (image, kernel, stride, padding, dilation))| {
                Shape {
                    images,
                    groups,
                    inputs: inputs * groups,
                    outputs: outputs * groups,
                    image,
                    kernel,
                    stride,
                    padding,
                    dilation,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn any_shape(shape in shapes(), with_bias: bool, seed in 0u32..1000) {
        for isa in Isa::available() {
            check(&shape, isa, with_bias, seed);
        }
    }
}

/// One square image, one group, and padding that keeps the size at a stride of 1.
pub(super) fn plain(
    inputs: usize,
    outputs: usize,
    size: usize,
    kernel: usize,
    stride: usize,
) -> Shape {
    Shape {
        images: 1,
        groups: 1,
        inputs,
        outputs,
        image: [size; 2],
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: [kernel / 2; 2],
        dilation: [1; 2],
    }
}

/// Deep products are summed in blocks; wide ones are cut into them.
#[test]
fn blocks() {
    for isa in Isa::available() {
        check(&plain(1200, 30, 3, 1, 1), isa, true, 1);
        check(&plain(130, 5, 7, 3, 1), isa, true, 2);
        check(&plain(3, 25, 40, 7, 2), isa, false, 3);
        check(&plain(2, 3, 60, 3, 1), isa, false, 4);
        // Wide and shallow enough for threads to share the columns.
        check(&plain(6, 5, 60, 3, 1), isa, true, 5);
        check(&plain(6, 5, 60, 3, 1), isa, true, 6);
    }
}

/// Rows of few channels are read where they are: every rest of rows and lanes, strides, groups and gaps between taps.
#[test]
fn few_channels() {
    let near = |s: &Shape, isa| near::pays(s, &Planes::of(s), isa);
    for (inputs, outputs, size, kernel, stride) in [
        (3, 19, 61, 3, 2),
        (3, 16, 64, 7, 2),
        (1, 1, 32, 3, 1),
        (4, 9, 94, 2, 1),
        (2, 33, 30, 5, 1),
        (1, 7, 96, 3, 3),
    ] {
        let mut shape = plain(inputs, outputs, size, kernel, stride);
        for (groups, dilation) in [(1, 1), (2, 2)] {
            (shape.images, shape.groups, shape.dilation) = (2, groups, [dilation, 1]);
            (shape.inputs, shape.outputs) = (inputs * groups, outputs * groups);
            for isa in Isa::available() {
                let depthwise = shape.is_depthwise();
                assert!(depthwise || near(&shape, isa), "{shape:?} {isa:?}");
                check(&shape, isa, true, 2);
                check(&shape, isa, false, 3);
            }
        }
    }
    assert!(!near(&plain(128, 9, 30, 3, 1), Isa::Avx2), "many channels");
    assert!(
        !near(&plain(3, 9, 33, 3, 1), Isa::Avx512),
        "lanes for nothing"
    );
    assert!(!near(&plain(3, 9, 32, 1, 2), Isa::Avx2), "one tap");
}

/// Maxima and what is not finite: a NaN under the window wins, and nothing else changes the bits.
fn check_maxima(shape: &Shape, isa: Isa, seed: u32) {
    let shape = Shape {
        groups: shape.inputs,
        outputs: shape.inputs,
        ..*shape
    };
    let Some([oh, ow]) = shape.result() else {
        return;
    };
    let [h, w] = shape.image;
    let planes = shape.images * shape.inputs;
    let mut image = numbers(planes * h * w, seed);
    for (k, v) in image.iter_mut().enumerate() {
        match (k + seed as usize) % 17 {
            3 => *v = f32::NAN,
            5 => *v = f32::INFINITY,
            7 => *v = f32::NEG_INFINITY,
            _ => {}
        }
    }
    let mut result = vec![0.0; planes * oh * ow];
    let pointers = Pointers {
        image: image.as_ptr(),
        weight: std::ptr::null(),
        bias: None,
        result: result.as_mut_ptr(),
    };
    // SAFETY: the vectors have the shape's sizes.
    unsafe { run(&shape, Operation::Max, isa, pointers, None, &Parts, None) }.unwrap();
    for (n, got) in result.iter().enumerate() {
        let (plane, y, x) = (n / (oh * ow), n / ow % oh, n % ow);
        let mut want = f32::NEG_INFINITY;
        for t in 0..shape.taps() {
            let at = |d: usize, o: usize, k: usize| {
                (o * shape.stride[d] + k * shape.dilation[d]).wrapping_sub(shape.padding[d])
            };
            let (y, x) = (at(0, y, t / shape.kernel[1]), at(1, x, t % shape.kernel[1]));
            if y < h && x < w {
                let v = image[(plane * h + y) * w + x];
                want = if v > want || v.is_nan() { v } else { want };
            }
        }
        let same = *got == want || (got.is_nan() && want.is_nan());
        assert!(same, "{shape:?} {isa:?} at {n}: {got} for {want}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn maxima(shape in shapes(), seed in 0u32..1000) {
        // One tap is the pixel itself, and never asked for.
        prop_assume!(shape.taps() > 1);
        for isa in Isa::available() {
            check_maxima(&shape, isa, seed);
        }
    }
}

/// Large planes are handed on in pieces.
#[test]
fn depthwise() {
    for isa in Isa::available() {
        let mut shape = plain(9, 9, 60, 3, 1);
        shape.groups = 9;
        check(&shape, isa, true, 1);
        check(&shape, isa, true, 2);
    }
}

/// Sixteen channels at a time in channels-last order, where rows are short or windows large.
#[test]
fn turned_depthwise() {
    let of = |channels: usize, image: [usize; 2], kernel: [usize; 2], stride, dilation| Shape {
        images: 3,
        groups: channels,
        image,
        kernel,
        padding: kernel.map(|k| dilation * (k / 2)),
        dilation: [dilation; 2],
        ..plain(channels, channels, 1, 1, stride)
    };
    let shapes = [
        of(16, [7, 7], [3, 3], 1, 1),
        of(48, [14, 14], [7, 7], 1, 1),
        of(32, [9, 27], [5, 5], 2, 1),
        of(32, [30, 21], [7, 7], 1, 1),
        of(16, [5, 11], [2, 3], 1, 2),
        of(32, [23, 25], [5, 5], 1, 1),
        of(16, [1, 1], [3, 1], 1, 1),
    ];
    let turns = |shape: &Shape, isa, unit: usize| {
        let run = |_, _| {};
        Turned::of(shape, isa, Some(&Then { unit, run: &run }), 3).is_some()
    };
    for isa in Isa::available() {
        for (seed, shape) in (2..).zip(&shapes) {
            check(shape, isa, true, seed);
            check(shape, isa, false, seed + 1);
            let vectors = isa >= Isa::Avx512;
            assert_eq!(turns(shape, isa, 8), vectors, "{shape:?} {isa:?}");
            assert_eq!(
                turns(shape, isa, shape.outputs),
                vectors,
                "{shape:?} {isa:?}"
            );
            assert!(!turns(shape, isa, 24), "no multiple of what is turned");
        }
        assert!(!turns(&of(24, [7, 7], [3, 3], 1, 1), isa, 1));
        let few = of(16, [7, 7], [3, 3], 1, 1);
        assert!(
            Turned::of(&few, isa, None, 4).is_none(),
            "a thread without planes"
        );
        assert!(
            !turns(&of(32, [56, 56], [3, 3], 1, 1), isa, 1),
            "as fast as they are"
        );
    }
}

/// Transformed tiles against sums in f64. Pixels and weights are at most 1, so that a transformed tile's
/// elements are at most 4, a filter's 9/4, and 9 products make a pixel.
#[cfg(target_arch = "x86_64")]
fn check_winograd(shape: &Shape, with_bias: bool, strange: bool, seed: u32) {
    let (Some(_), Some(isa)) = (shape.result(), Isa::available().last()) else {
        return;
    };
    if isa < Isa::Avx512 {
        skipped("transformed convolutions, for want of AVX-512");
        return;
    }
    let mut given = Given::new(shape, with_bias, seed);
    if strange {
        let at = seed as usize % given.image.len();
        given.image[at] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][seed as usize % 3];
    }
    let unit = [1, shape.outputs][seed as usize / 2 % 2];
    let result = given.result(shape, unit, |pointers, then| {
        // SAFETY: the vectors have the shape's sizes.
        unsafe {
            let weights = Weights::new(shape, pointers.weight, &Parts).unwrap();
            winograd::run(shape, isa, pointers, &weights, &Parts, Some(then)).unwrap();
        }
    });
    let bound = (81 * shape.inputs) as f64 * f64::from(f32::EPSILON);
    for (n, (&got, (sum, _))) in result.iter().zip(given.reference(shape)).enumerate() {
        let got = f64::from(got);
        let same = got == sum || got.is_nan() && sum.is_nan();
        assert!(
            same || (got - sum).abs() <= bound,
            "{shape:?} at {n}: {got} for {sum}"
        );
    }
}

#[cfg(target_arch = "x86_64")]
proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn transformed(
        images in 1usize..=7, inputs in 1usize..=40, outputs in 1usize..=40,
        (h, w) in (1usize..=21, 1usize..=40), padding in [0usize..=2, 0usize..=2],
        with_bias: bool, strange: bool, seed in 0u32..1000,
    ) {
        let mut shape = plain(inputs, outputs, 1, 3, 1);
        (shape.images, shape.image, shape.padding) = (images, [h, w], padding);
        check_winograd(&shape, with_bias, strange, seed);
    }
}

/// Several blocks of panels for each thread.
#[cfg(target_arch = "x86_64")]
#[test]
fn transformed_blocks() {
    for seed in 0..3 {
        check_winograd(&plain(70, 60, 58, 3, 1), true, false, seed);
        let mut shape = plain(300, 30, 15, 3, 1);
        shape.images = 4;
        check_winograd(&shape, true, seed == 1, seed);
    }
}
