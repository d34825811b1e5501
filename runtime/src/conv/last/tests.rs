//! Every kernel on every instruction set against sums in f64.

use super::*;
use crate::conv::tests::plain;
use crate::testing::{Fake, read, write};
use proptest::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A tensor of a test.
struct Numbers {
    dtype: DType,
    bytes: Vec<u8>,
}

impl Numbers {
    fn new(dtype: DType, len: usize, seed: u32) -> Numbers {
        let mut all = Numbers {
            dtype,
            bytes: vec![0; len * dtype.size()],
        };
        let mut state = seed | 1;
        for n in 0..len {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            all.set(n, f64::from(state >> 8) / f64::from(1 << 23) - 1.0);
        }
        all
    }

    fn set(&mut self, n: usize, x: f64) {
        let size = self.dtype.size();
        write(self.dtype, &mut self.bytes[n * size..][..size], x);
    }

    fn get(&self, n: usize) -> f64 {
        read(self.dtype, self.bytes[n * self.dtype.size()..].as_ptr())
    }
}

/// A convolution's tensors.
struct Given {
    shape: Shape,
    image: Numbers,
    weight: Numbers,
    bias: Option<Numbers>,
}

impl Given {
    fn new(shape: Shape, dtype: DType, bias: bool) -> Given {
        let s = &shape;
        let pixels = s.images * s.image[0] * s.image[1];
        let depth = s.taps() * s.inputs / s.groups;
        Given {
            image: Numbers::new(dtype, pixels * s.inputs, 1),
            weight: Numbers::new(dtype, s.outputs * depth, 2),
            bias: bias.then(|| Numbers::new(dtype, s.outputs, 3)),
            shape,
        }
    }

    /// The result's elements, and the sums of what they are made of without signs.
    fn expected(&self) -> Vec<(f64, f64)> {
        let s = &self.shape;
        let [oh, ow] = s.result().unwrap();
        let (depth, per_group) = (s.inputs / s.groups, s.outputs / s.groups);
        let each = (0..s.images * oh * ow).flat_map(|p| (0..s.outputs).map(move |o| (p, o)));
        let of = |(p, o): (usize, usize)| {
            let (n, y, x) = (p / (oh * ow), p / ow % oh, p % ow);
            let start = self.bias.as_ref().map_or(0.0, |b| b.get(o));
            let (mut sum, mut size) = (start, start.abs());
            for (tap, c) in (0..s.taps()).flat_map(|t| (0..depth).map(move |c| (t, c))) {
                let at = |d: usize, out: usize, k: usize| {
                    (out * s.stride[d] + k * s.dilation[d]).wrapping_sub(s.padding[d])
                };
                let (row, column) = (at(0, y, tap / s.kernel[1]), at(1, x, tap % s.kernel[1]));
                if row < s.image[0] && column < s.image[1] {
                    let pixel = (n * s.image[0] + row) * s.image[1] + column;
                    let from = self.image.get(pixel * s.inputs + o / per_group * depth + c);
                    let product = from * self.weight.get((o * s.taps() + tap) * depth + c);
                    sum += product;
                    size += product.abs();
                }
            }
            (sum, size)
        };
        each.map(of).collect()
    }

    /// The image's planes, one after the other.
    fn planes(&self) -> Numbers {
        let s = &self.shape;
        let (pixels, mut to) = (s.image[0] * s.image[1], 0);
        let mut planes = Numbers::new(self.image.dtype, s.images * s.inputs * pixels, 0);
        for (n, c) in (0..s.images).flat_map(|n| (0..s.inputs).map(move |c| (n, c))) {
            for pixel in 0..pixels {
                planes.set(to, self.image.get((n * pixels + pixel) * s.inputs + c));
                to += 1;
            }
        }
        planes
    }

    /// What the kernels compute; checks that every pixel is handed on once, when it is complete.
    fn computed(&self, isa: Isa, threads: usize, packed: bool) -> Numbers {
        let (s, dtype, threads) = (&self.shape, self.image.dtype, Fake(threads));
        let [oh, ow] = s.result().unwrap();
        let pixels = s.images * oh * ow;
        let mut result = Numbers::new(dtype, pixels * s.outputs, 4);
        (0..pixels * s.outputs).for_each(|n| result.set(n, 1e30));
        let planes = reads_planes(s, dtype, isa).then(|| self.planes());
        let tensors = Tensors {
            dtype,
            image: planes.as_ref().unwrap_or(&self.image).bytes.as_ptr(),
            planes: planes.is_some(),
            weight: self.weight.bytes.as_ptr(),
            bias: self.bias.as_ref().map(|b| b.bytes.as_ptr()),
            result: result.bytes.as_mut_ptr(),
        };
        let seen: Vec<AtomicUsize> = (0..pixels).map(|_| AtomicUsize::new(0)).collect();
        let first = result.bytes.as_ptr() as usize;
        let then = |range: Range<usize>| {
            for pixel in range {
                seen[pixel].fetch_add(1, Ordering::Relaxed);
                for n in pixel * s.outputs..(pixel + 1) * s.outputs {
                    let at = (first as *const u8).wrapping_add(n * dtype.size());
                    assert!(
                        read(dtype, at) != Numbers::unwritten(dtype),
                        "{pixel} is not complete"
                    );
                }
            }
        };
        // SAFETY: the tensors have the shape's sizes.
        unsafe {
            let made = packed.then(|| pack(s, dtype, isa, tensors.weight, &threads).unwrap());
            run(s, isa, tensors, made.as_ref(), &threads, Some(&then)).unwrap();
        }
        assert!(seen.iter().all(|n| n.load(Ordering::Relaxed) == 1));
        result
    }

    fn check(&self, isa: Isa, threads: usize, packed: bool) {
        let (expected, found) = (self.expected(), self.computed(isa, threads, packed));
        // Sums of f32; a result of bf16 is rounded once.
        let (sums, last) = match self.image.dtype {
            DType::F32 => (1e-6, 1e-6),
            _ => (1e-6, 1.0 / 256.0),
        };
        for (n, (want, size)) in expected.into_iter().enumerate() {
            let error = (found.get(n) - want).abs();
            let bound = sums * size + last * want.abs();
            let s = &self.shape;
            assert!(
                error <= bound,
                "{isa:?} {s:?} element {n}: {} for {want}",
                found.get(n)
            );
        }
    }
}

impl Numbers {
    /// What a result holds that nobody wrote.
    fn unwritten(dtype: DType) -> f64 {
        let mut one = Numbers::new(dtype, 1, 0);
        one.set(0, 1e30);
        one.get(0)
    }
}

/// Instruction sets on which this type has kernels.
fn sets(dtype: DType) -> impl Iterator<Item = Isa> {
    let narrow = dtype == DType::BF16;
    Isa::available().filter(move |&isa| !narrow || isa >= Isa::Avx512Bf16 || isa == Isa::Scalar)
}

fn shapes() -> impl Strategy<Value = Shape> {
    let pair = |range: Range<usize>| [range.clone(), range];
    let channels = (any::<bool>(), 1..40usize, 1..300usize);
    let window = (pair(1..8), pair(1..4), pair(0..4), pair(1..3));
    let all = (1..4usize, pair(1..20), channels, window);
    let shape = all.prop_map(|(images, image, channels, window)| {
        let (depthwise, inputs, outputs) = channels;
        let (kernel, stride, padding, dilation) = window;
        Shape {
            images,
            groups: if depthwise { inputs } else { 1 },
            inputs,
            outputs: if depthwise { inputs } else { outputs },
            image,
            kernel,
            stride,
            padding,
            dilation,
        }
    });
    shape.prop_filter("an empty result", |s| {
        s.result().is_some() && s.work() < 400_000
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn convolutions_are_their_sums(
        shape in shapes(), narrow: bool, bias: bool, packed: bool, threads in 1..4usize
    ) {
        let dtype = if narrow { DType::BF16 } else { DType::F32 };
        let given = Given::new(shape, dtype, bias);
        sets(dtype).for_each(|isa| given.check(isa, threads, packed));
    }
}

/// Depthwise if there are as many outputs as channels.
fn shape(channels: usize, outputs: usize, size: usize, kernel: usize, stride: usize) -> Shape {
    Shape {
        groups: if channels == outputs { channels } else { 1 },
        ..plain(channels, outputs, size, kernel, stride)
    }
}

/// Windows that have kernels of their own, channels with every rest, and sizes around a tile's.
#[test]
fn depthwise_windows_of_every_kernel() {
    for dtype in [DType::F32, DType::BF16] {
        for (kernel, stride) in [
            (3, 1),
            (3, 2),
            (5, 1),
            (5, 2),
            (7, 1),
            (7, 2),
            (4, 1),
            (3, 3),
        ] {
            for (channels, size) in [(16, 30), (41, 9), (57, 14), (8, 3), (7, 1)] {
                let given =
                    Given::new(shape(channels, channels, size, kernel, stride), dtype, true);
                sets(dtype).for_each(|isa| given.check(isa, 2, false));
            }
        }
    }
}

/// Few outputs read the image in place, many a copy of its windows.
#[test]
fn products_of_both_ways() {
    for dtype in [DType::F32, DType::BF16] {
        for (inputs, outputs) in [(6, 20), (6, 300), (5, 300)] {
            let given = Given::new(shape(inputs, outputs, 17, 3, 1), dtype, true);
            let direct = |isa| is_direct(&given.shape, dtype, isa);
            assert_eq!(direct(Isa::Avx2), outputs == 20);
            sets(dtype).for_each(|isa| given.check(isa, 3, true));
        }
    }
}

/// Few channels: images are planes, and pixels of bf16 get a channel of zeros where a row of the window has an odd number of
/// elements.
#[test]
fn first_layers() {
    for dtype in [DType::F32, DType::BF16] {
        for (inputs, kernel, stride) in [1, 2, 3, 4, 5, 7]
            .into_iter()
            .flat_map(|n| [(n, 3, 2), (n, 7, 2), (n, 2, 1), (n, 5, 3)])
        {
            for (outputs, size, dilation) in [(16, 30, 1), (37, 15, 2), (120, 7, 1)] {
                let mut shape = plain(inputs, outputs, size, kernel, stride);
                (shape.images, shape.dilation) = (2, [1, dilation]);
                if shape.result().is_none() {
                    continue;
                }
                let given = Given::new(shape, dtype, true);
                for isa in sets(dtype) {
                    assert_eq!(reads_planes(&shape, dtype, isa), inputs <= 4);
                    given.check(isa, 2, inputs == 3);
                }
            }
        }
    }
}

/// Results are not finite exactly where they read what is not.
#[test]
fn what_is_not_finite_stays_in_its_windows() {
    for (inputs, outputs, value, dtype) in [
        (16, 16, f64::NAN, DType::F32),
        (16, 16, f64::INFINITY, DType::F32),
        (16, 20, f64::NAN, DType::F32),
        (16, 300, f64::INFINITY, DType::F32),
        (3, 20, f64::INFINITY, DType::BF16),
        (3, 20, f64::NAN, DType::BF16),
    ] {
        let mut given = Given::new(shape(inputs, outputs, 9, 3, 1), dtype, false);
        // All channels of a pixel.
        (0..inputs).for_each(|c| given.image.set((4 * 9 + 4) * inputs + c, value));
        for isa in sets(dtype) {
            let found = given.computed(isa, 2, false);
            for p in 0..81usize {
                let near = (p / 9).abs_diff(4) <= 1 && (p % 9).abs_diff(4) <= 1;
                let finite = |o| found.get(p * outputs + o).is_finite();
                assert!(
                    (0..outputs).all(|o| finite(o) != near),
                    "{isa:?} {outputs} pixel {p}"
                );
            }
        }
    }
}

#[test]
fn refusals_have_reasons() {
    let of = |s: &Shape, dtype| refusal(s, dtype, Isa::Avx512Bf16);
    let plain = shape(6, 20, 9, 3, 1);
    assert_eq!(of(&plain, DType::F32), None);
    assert!(of(&plain, DType::F16).unwrap().contains("type"));
    let grouped = Shape { groups: 2, ..plain };
    assert!(of(&grouped, DType::F32).unwrap().contains("groups"));
    let odd = Shape { inputs: 3, ..plain };
    assert_eq!(of(&odd, DType::F32), None);
    assert_eq!(of(&odd, DType::BF16), None);
    let empty = Shape { images: 0, ..plain };
    assert!(of(&empty, DType::F32).is_some());
    let s = shape(4, 6, 5, 3, 1);
    let nothing = Tensors {
        dtype: DType::F32,
        image: std::ptr::null(),
        planes: false,
        weight: std::ptr::null(),
        bias: None,
        result: std::ptr::null_mut(),
    };
    let empty = Shape { images: 0, ..s };
    // SAFETY: a shape without results touches no memory.
    let status = unsafe { run(&empty, Isa::Scalar, nothing, None, &Fake(1), None) };
    assert!(status.is_err());
}
