//! Convolutions over all channels without a copy of the windows: neighbouring results of a row of the image are rows of
//! a product whose left side is the image itself, one row of the window's taps (with dilation one tap) after the other.
//! What has padding is copied into an image that holds it, and so are planes, and rows of bf16 that are no whole units of K,
//! whose pixels get a channel of zeros.

use super::padded::Padded;
use super::{Images, Then};
use crate::conv::shape::Shape;
use crate::cpu::Caches;
use crate::gemm::micro::Tile;
use crate::gemm::{PackedB, Parallel, Row, convert, part, parts, scratch};
use crate::{DType, Error, pool};
use std::ops::Range;

/// A convolution and its weights in panels.
pub struct Direct<'a> {
    pub images: &'a Images<'a>,
    pub weights: &'a PackedB,
    /// The images with their padding.
    image: *const u8,
    /// Their height and width.
    size: [usize; 2],
    /// Channels of their pixels.
    channels: usize,
    /// The bias in f32; one zero for each output if there is none.
    bias: &'a [f32],
}

// SAFETY: threads write different rows of the result.
unsafe impl Sync for Direct<'_> {}

/// Taps that are neighbours in memory, of one window.
fn together(s: &Shape) -> usize {
    if s.dilation[1] == 1 { s.kernel[1] } else { 1 }
}

/// Channels of a pixel as it is multiplied: so many that what is multiplied together is whole units of K.
pub fn channels(s: &Shape, dtype: DType) -> usize {
    let whole = (together(s) * s.inputs * dtype.size()).is_multiple_of(4);
    s.inputs + usize::from(!whole)
}

/// Computes a convolution; `then` follows on rows of pixels that are complete.
///
/// # Safety
/// The images' pointers hold what the shape says; the processor has the weights' instruction set.
pub unsafe fn run(
    images: &Images,
    weights: &PackedB,
    threads: &dyn Parallel,
    then: Option<&Then>,
) -> Result<(), Error> {
    let s = images.shape;
    let bias = bias(images, weights);
    let size = [0, 1].map(|d| s.image[d] + 2 * s.padding[d]);
    let channels = channels(s, images.dtype);
    let work = |image: *const u8| Direct {
        images,
        weights,
        image,
        size,
        channels,
        bias: &bias,
    };
    // SAFETY: by contract.
    unsafe {
        if s.padding == [0, 0] && !images.planes && channels == s.inputs {
            return work(images.image).compute(threads, then);
        }
        let padded = Padded {
            images,
            size,
            channels,
        };
        let bytes = s.images * size[0] * padded.row();
        let (data, bytes) = pool::take(bytes.max(pool::SMALLEST))
            .ok_or_else(|| Error::Plan("no memory for a padded image".into()))?;
        let result = padded
            .fill(data, threads)
            .and_then(|()| work(data.cast_const()).compute(threads, then));
        pool::give(data, bytes);
        result
    }
}

/// The bias as the tiles add it.
fn bias(images: &Images, weights: &PackedB) -> Vec<f32> {
    let n = images.shape.outputs;
    let mut bias = vec![0.0f32; n];
    if let Some(from) = images.bias {
        let row = Row {
            from,
            dtype: images.dtype,
            stride: 1,
            len: n,
            to: bias.as_mut_ptr().cast(),
            into: DType::F32,
        };
        // SAFETY: the bias has `n` elements, and the engine's instruction set is the processor's.
        unsafe { convert(weights.engine().isa, &row) };
    }
    bias
}

impl Direct<'_> {
    unsafe fn compute(&self, threads: &dyn Parallel, then: Option<&Then>) -> Result<(), Error> {
        let s = self.images.shape;
        let [height, width] = self.images.size;
        let rows = s.images * height;
        // A task's part of the image stays in the second cache while the panels pass.
        let bytes = self.size[1] * s.stride[0] * self.channels * self.images.element;
        let most = (Caches::get().l2 / 3 / bytes.max(1)).max(1);
        let tasks = rows.div_ceil(most).next_multiple_of(threads.threads());
        let tasks = tasks.min(rows);
        threads.run(tasks, &|n| {
            let rows = part(rows, tasks, n);
            // SAFETY: by contract; each task has its own rows.
            unsafe { self.rows(rows.clone()) };
            if let Some(then) = then {
                then(rows.start * width..rows.end * width);
            }
        })
    }

    /// Rows of the result, counted through all images.
    unsafe fn rows(&self, rows: Range<usize>) {
        let engine = self.weights.engine();
        let kernels = engine.kernels;
        let narrow = self.images.dtype != DType::F32;
        let sums = if narrow {
            4 * kernels.rows.max(kernels.height) * kernels.cols
        } else {
            0
        };
        scratch::with([sums], |[sums]| {
            for panel in 0..self.images.shape.outputs.div_ceil(kernels.cols) {
                for row in rows.clone() {
                    for columns in parts(self.images.size[1], kernels.height) {
                        // SAFETY: by contract.
                        unsafe { self.tile(panel, row, columns, narrow.then_some(sums)) };
                    }
                }
            }
        });
    }

    /// Neighbouring results of a row, and the channels of a panel; by way of `sums` if they are rounded.
    unsafe fn tile(&self, panel: usize, row: usize, columns: Range<usize>, sums: Option<*mut u8>) {
        let (s, images, engine) = (self.images.shape, self.images, self.weights.engine());
        let ([height, width], across) = (images.size, engine.kernels.cols);
        let (image, y) = (row / height, row % height);
        let first = panel * across;
        let cols = across.min(s.outputs - first);
        let pixel = self.channels * images.element;
        let result = s.outputs * images.element;
        let to = images
            .result
            .wrapping_add((row * width + columns.start) * result + first * images.element);
        let taps = together(s);
        let units = engine.units(taps * self.channels);
        let mut tile = Tile {
            k: units,
            a: std::ptr::null(),
            a_stride: s.stride[1] * pixel,
            b: self.weights.panel(panel),
            b_stride: 4 * across,
            c: sums.unwrap_or(to),
            c_stride: if sums.is_some() { 4 * across } else { result },
            init: self.bias[first..].as_ptr().cast(),
            init_stride: 0,
            cols,
            next: self.image,
            next_step: 0,
            next_run: usize::MAX,
            next_jump: 0,
        };
        for tap in (0..s.taps()).step_by(taps) {
            let (ky, kx) = (tap / s.kernel[1], tap % s.kernel[1]);
            let line = image * self.size[0] + y * s.stride[0] + ky * s.dilation[0];
            let column = columns.start * s.stride[1] + kx * s.dilation[1];
            tile.a = self
                .image
                .wrapping_add((line * self.size[1] + column) * pixel);
            // SAFETY: by contract.
            unsafe { (engine.kernels.tile)(columns.len(), &tile) };
            tile = tile.continued();
            tile.b = tile.b.wrapping_add(units * tile.b_stride);
        }
        for i in (0..columns.len()).take_while(|_| sums.is_some()) {
            let rounded = Row {
                from: tile.c.wrapping_add(i * tile.c_stride),
                dtype: DType::F32,
                stride: 1,
                len: cols,
                to: to.wrapping_add(i * result),
                into: images.dtype,
            };
            // SAFETY: a row of sums, and its part of the result.
            unsafe { convert(engine.isa, &rounded) };
        }
    }
}
