//! Depthwise convolutions whose rows fill no vector: sixteen channels of an image are turned into channels-last order in
//! cache, where the kernels for that order run, and their result is turned back.

use super::last::micro::{Channels, Kernel, kernels};
use super::{Pointers, Shape, Then};
use crate::DType;
use crate::cpu::{Caches, Isa};
use crate::gemm::micro::{self, Math, Transpose};
use crate::gemm::scratch;
use std::ops::Range;

/// Channels at a time: those of a vector.
const CHANNELS: usize = 16;

/// What turns a shape's images, and multiplies them.
pub struct Turned<'a> {
    shape: &'a Shape,
    /// The same for the channels that are turned together.
    part: Shape,
    size: [usize; 2],
    transpose: unsafe fn(&Transpose),
    kernel: Kernel,
    /// Planes of a task.
    unit: usize,
}

impl<'a> Turned<'a> {
    /// None where planes as they are are as fast, where whatever follows wants other planes together, or where some of these
    /// threads would have none.
    pub fn of(
        shape: &'a Shape,
        isa: Isa,
        then: Option<&Then>,
        threads: usize,
    ) -> Option<Turned<'a>> {
        let size = shape.result()?;
        let pixels = |[h, w]: [usize; 2]| h * w;
        let unit = match then.map_or(1, |then| then.unit) {
            few if CHANNELS.is_multiple_of(few) => CHANNELS,
            many if many.is_multiple_of(CHANNELS) => many,
            _ => return None,
        };
        let bytes = 4 * CHANNELS * (pixels(shape.image) + pixels(size));
        let fits = bytes <= Caches::get().l2 / 2;
        let whole = shape.outputs == shape.inputs && shape.outputs.is_multiple_of(CHANNELS);
        let kernel = kernels(isa, DType::F32)?.iter().find(|k| k.0 == CHANNELS)?;
        let busy = shape.images * shape.outputs / unit >= threads;
        (whole && fits && busy && pays(shape, size)).then_some(Turned {
            shape,
            part: Shape {
                groups: CHANNELS,
                inputs: CHANNELS,
                outputs: CHANNELS,
                ..*shape
            },
            size,
            transpose: micro::kernels(isa, Math::F32)?.transpose,
            kernel: *kernel,
            unit,
        })
    }

    /// Planes of a task.
    pub fn unit(&self) -> usize {
        self.unit
    }

    /// Computes planes of the result, a multiple of a task's, and hands them on.
    ///
    /// # Safety
    /// The pointers hold what the shape says, nobody else writes these planes, and the processor has the instruction set.
    pub unsafe fn planes(&self, pointers: &Pointers, range: Range<usize>, then: Option<Then>) {
        let [from, to] = [self.shape.image, self.size].map(|[h, w]| h * w);
        let taps = self.shape.taps();
        let bytes = [from, to, taps].map(|rows| 4 * CHANNELS * rows);
        for unit in range.clone().step_by(self.unit) {
            scratch::with(bytes, |[image, result, weights]| {
                for plane in (unit..unit + self.unit).step_by(CHANNELS) {
                    let channel = plane % self.shape.outputs;
                    // SAFETY: by contract; the scratch holds these channels.
                    unsafe {
                        self.turn(pointers.image.wrapping_add(plane * from), from, image);
                        self.turn(pointers.weight.wrapping_add(channel * taps), taps, weights);
                        let bias = pointers.bias.map(|bias| bias.wrapping_add(channel));
                        (self.kernel.1)(&Channels {
                            shape: &self.part,
                            size: self.size,
                            image,
                            weight: weights.cast(),
                            tap: CHANNELS,
                            bias: bias.map_or(std::ptr::null(), <*const f32>::cast),
                            result,
                            rows: (0, self.size[0]),
                        });
                        (self.transpose)(&Transpose {
                            panel: pointers.result.wrapping_add(plane * to).cast(),
                            panel_stride: to,
                            rows: result,
                            row_stride: 4 * CHANNELS as isize,
                            cols: to,
                            units: CHANNELS,
                            fill: to,
                        });
                    }
                }
            });
            if let Some(then) = then {
                (then.run)(unit, unit + self.unit);
            }
        }
    }

    /// Rows of so many elements become columns.
    unsafe fn turn(&self, rows: *const f32, len: usize, to: *mut u8) {
        // SAFETY: by contract.
        unsafe {
            (self.transpose)(&Transpose {
                panel: to.cast(),
                panel_stride: CHANNELS,
                rows: rows.cast(),
                row_stride: 4 * len as isize,
                cols: CHANNELS,
                units: len,
                fill: CHANNELS,
            });
        }
    }
}

/// Whether turning takes less time than it saves: where rows are shorter than a vector, or windows large (measured on Zen 5).
fn pays(shape: &Shape, [_, width]: [usize; 2]) -> bool {
    let [high, wide] = shape.kernel;
    width < CHANNELS || wide >= 7 || high * wide >= 25 && width < 2 * CHANNELS
}
