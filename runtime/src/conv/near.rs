//! Convolutions of so few channels that every window's rows stay in the first cache: they read the padded planes where they
//! are, a row of the result at a time, since a copy of the windows would be used too seldom.

use super::micro::{self, Micro, Start, Tile};
use super::planes::Planes;
use super::{Pointers, Shape, Shared, Then, Threads, grain};
use crate::Error;
use crate::cpu::Isa;
use std::ops::Range;

/// Elements behind the planes that are read: vectors are read whole, also at the end of the last row.
pub const SLACK: usize = 64;
/// Bytes of all rows under a row of the result, at most: half of a first cache.
const BYTES: usize = 24 << 10;

/// Whether this is faster than a copy of the windows.
pub fn pays(shape: &Shape, planes: &Planes, isa: Isa) -> bool {
    let lanes = micro::of(isa).lanes;
    let Some([_, width]) = shape.result() else {
        return false;
    };
    let channels = shape.inputs / shape.groups;
    let rows = shape.kernel[0] * shape.stride[1].min(shape.kernel[1]);
    let bytes = 4 * channels * rows * planes.row();
    // Lanes that are computed for nothing.
    let filled = 6 * (width.next_multiple_of(lanes) - width) <= width;
    shape.taps() > 1 && bytes <= BYTES && filled
}

/// A convolution and its padded planes.
pub struct Near<'a> {
    shape: &'a Shape,
    micro: &'static Micro,
    pointers: Shared<Pointers>,
    planes: Shared<*const f32>,
    /// Elements of the planes of one channel, and of one of their rows.
    plane: usize,
    row: usize,
    /// Of each channel and tap, from the first pixel of a window.
    offsets: Vec<usize>,
}

impl<'a> Near<'a> {
    /// `padded` holds the planes of all images, and [`SLACK`].
    pub fn new(
        shape: &'a Shape,
        isa: Isa,
        planes: &Planes,
        pointers: Pointers,
        padded: *const f32,
    ) -> Near<'a> {
        let channels = 0..shape.inputs / shape.groups;
        let taps = |c: usize| planes.taps.iter().map(move |tap| c * planes.len() + tap);
        Near {
            shape,
            micro: micro::of(isa),
            pointers: Shared(pointers),
            planes: Shared(padded),
            plane: planes.len(),
            row: planes.row(),
            offsets: channels.flat_map(taps).collect(),
        }
    }

    /// Computes it, and hands planes on when they are complete.
    ///
    /// # Safety
    /// The pointers hold what the shape says; the processor has the instruction set.
    pub unsafe fn run(&self, threads: &dyn Threads, then: Option<Then>) -> Result<(), Error> {
        let s = self.shape;
        let unit = then.map_or(1, |t| t.unit);
        let planes = s.images * s.outputs;
        threads.split(planes / unit, grain(s, unit), &|begin, end| {
            let (begin, end) = (begin * unit, end * unit);
            let per_group = s.outputs / s.groups;
            let mut first = begin;
            while first < end {
                let last = end.min((first / per_group + 1) * per_group);
                // SAFETY: by contract; parts are disjoint.
                unsafe { self.group(first..last) };
                first = last;
            }
            if let Some(then) = then {
                (then.run)(begin, end);
            }
        })
    }

    /// Planes of one group of one image.
    unsafe fn group(&self, planes: Range<usize>) {
        let (s, pointers) = (self.shape, self.pointers.get());
        let [height, width] = s.result().unwrap_or([0; 2]);
        let group = planes.start / (s.outputs / s.groups);
        let from = group * (s.inputs / s.groups) * self.plane;
        let from = self.planes.get().wrapping_add(from);
        let tiles = self.micro.near;
        let most = tiles[0].len();
        let depth = self.offsets.len();
        for y in 0..height {
            for plane in planes.clone().step_by(most) {
                let rows = most.min(planes.end - plane);
                let output = plane % s.outputs;
                let mut x = 0;
                while x < width {
                    let vectors = (width - x).div_ceil(self.micro.lanes).min(tiles.len());
                    let columns = (width - x).min(vectors * self.micro.lanes);
                    let to = (plane * height + y) * width + x;
                    // SAFETY: by contract; vectors that are not full end in the slack at most.
                    unsafe {
                        let tile = Tile {
                            depth,
                            a: pointers.weight.wrapping_add(output * depth),
                            row: depth,
                            step: 1,
                            b: from.wrapping_add(y * self.row + x),
                            ldb: 0,
                            c: pointers.result.wrapping_add(to),
                            ldc: height * width,
                            columns,
                            start: match pointers.bias {
                                Some(bias) => Start::Bias(bias.wrapping_add(output)),
                                None => Start::Zero,
                            },
                        };
                        tiles[vectors - 1][rows - 1](&tile, &self.offsets);
                    }
                    x += columns;
                }
            }
        }
    }
}
