//! Convolutions of single planes (depthwise) and maxima of windows: no product over channels, so each
//! plane is padded into the cache and walked row by row.

use super::micro::{Micro, Rows};
use super::planes::Planes;
use super::shape::Shape;
use super::{Operation, Pointers, Then, scratch};
use std::ops::Range;

/// Elements after which the finished planes are handed on: they shall still be in cache.
const HANDED: usize = 16 << 10;
/// Vectors are read whole, also at the end of the last row.
const SLACK: usize = 64;

/// Computes planes of the result, and hands them on while they are in cache.
///
/// # Safety
/// The pointers hold what the shape says, and nobody else writes these planes.
pub unsafe fn planes(
    shape: &Shape,
    operation: Operation,
    micro: &Micro,
    pointers: &Pointers,
    range: Range<usize>,
    then: Option<Then>,
) {
    let (begin, end) = (range.start, range.end);
    let layout = Planes::of(shape);
    let [height, width] = shape.result().unwrap_or([0; 2]);
    let pixels = shape.image[0] * shape.image[1];
    let per_input = shape.outputs / shape.inputs;
    let (padding, walk) = match operation {
        Operation::Sum => (0.0, micro.sums),
        Operation::Max => (f32::NEG_INFINITY, micro.maxima),
    };
    let taps = shape.taps();
    scratch::with(&scratch::COLUMNS, layout.len() + SLACK, |padded| {
        padded.fill(padding);
        let mut handed = begin;
        let mut filled = usize::MAX;
        for plane in begin..end {
            let (image, output) = (plane / shape.outputs, plane % shape.outputs);
            let input = image * shape.inputs + output / per_input;
            // SAFETY: by contract; the scratch has room for the last vector.
            unsafe {
                if input != filled {
                    let from = pointers.image.add(input * pixels);
                    layout.copy(shape, std::slice::from_raw_parts(from, pixels), padded);
                    filled = input;
                }
                walk(&Rows {
                    planes: padded.as_ptr(),
                    row: layout.row(),
                    taps: &layout.taps,
                    weight: pointers.weight.wrapping_add(output * taps),
                    start: pointers.bias.map_or(0.0, |bias| *bias.add(output)),
                    to: pointers.result.add(plane * height * width),
                    width,
                    height,
                });
            }
            let done = plane + 1;
            if let Some(then) = then {
                let is_unit = (done - begin).is_multiple_of(then.unit);
                if done == end || (is_unit && (done - handed) * height * width >= HANDED) {
                    (then.run)(handed, done);
                    handed = done;
                }
            }
        }
    });
}
