//! Input planes with their padding, split by stride, so that every tap reads neighbours.
//!
//! With stride `s`, tap `k` of output `x` reads padded column `x*s + k*dilation`. Columns are kept
//! apart by their remainder modulo `s` (their phase), so that the tap reads `x + shift` of one phase.

use super::shape::Shape;

/// Where the elements of one channel lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planes {
    /// Vertical and horizontal phases that taps use, in order.
    phases: [Vec<usize>; 2],
    /// Rows and columns of one phase.
    size: [usize; 2],
    /// Offset of each tap.
    pub taps: Vec<usize>,
}

impl Planes {
    /// The layout for a shape.
    pub fn of(shape: &Shape) -> Planes {
        let shift = |d: usize, tap: usize| {
            let at = tap * shape.dilation[d];
            (at % shape.stride[d], at / shape.stride[d])
        };
        let phases = [0, 1].map(|d| {
            let mut used: Vec<usize> = (0..shape.kernel[d]).map(|t| shift(d, t).0).collect();
            used.sort_unstable();
            used.dedup();
            used
        });
        let size =
            [0, 1].map(|d| (shape.image[d] + 2 * shape.padding[d]).div_ceil(shape.stride[d]));
        let place = |d: usize, phase: usize| phases[d].partition_point(|&p| p < phase);
        let mut taps = Vec::with_capacity(shape.taps());
        for y in 0..shape.kernel[0] {
            for x in 0..shape.kernel[1] {
                let ((py, dy), (px, dx)) = (shift(0, y), shift(1, x));
                let phase = place(0, py) * phases[1].len() + place(1, px);
                taps.push((phase * size[0] + dy) * size[1] + dx);
            }
        }
        Planes { phases, size, taps }
    }

    /// Whether the image itself has this layout.
    pub fn is_image(shape: &Shape) -> bool {
        shape.stride == [1, 1] && shape.padding == [0, 0]
    }

    /// Elements of one channel.
    pub fn len(&self) -> usize {
        self.phases[0].len() * self.phases[1].len() * self.size[0] * self.size[1]
    }

    /// Distance between rows of a phase.
    pub fn row(&self) -> usize {
        self.size[1]
    }

    /// Number of phases, each of so many rows and columns.
    pub fn phases(&self) -> usize {
        self.phases[0].len() * self.phases[1].len()
    }

    /// Writes one of a channel's phases.
    pub fn fill(&self, shape: &Shape, image: &[f32], phase: usize, plane: &mut [f32]) {
        let full = [0, 1].map(|d| self.size[d] * shape.stride[d] == shape.image[d]);
        if full != [true; 2] {
            plane.fill(0.0);
        }
        self.copy_phase(shape, image, phase, plane);
    }

    /// Writes one channel's pixels, and leaves its padding as it is.
    pub fn copy(&self, shape: &Shape, image: &[f32], planes: &mut [f32]) {
        let all = planes.chunks_exact_mut(self.size[0] * self.size[1]);
        for (phase, plane) in all.take(self.phases()).enumerate() {
            self.copy_phase(shape, image, phase, plane);
        }
    }

    fn copy_phase(&self, shape: &Shape, image: &[f32], phase: usize, plane: &mut [f32]) {
        let [h, w] = shape.image;
        let across = self.phases[1].len();
        let (py, px) = (
            self.phases[0][phase / across],
            self.phases[1][phase % across],
        );
        let columns = Columns::of(self.size[1], px, w, shape.padding[1], shape.stride[1]);
        for (r, row) in plane.chunks_exact_mut(self.size[1]).enumerate() {
            let y = (r * shape.stride[0] + py).wrapping_sub(shape.padding[0]);
            if y < h {
                columns.copy(&image[y * w..][..w], row);
            }
        }
    }
}

/// Which columns of a phase hold pixels.
struct Columns {
    begin: usize,
    end: usize,
    /// Pixel of the first one.
    first: usize,
    stride: usize,
}

impl Columns {
    fn of(len: usize, phase: usize, width: usize, padding: usize, stride: usize) -> Columns {
        let begin = padding.saturating_sub(phase).div_ceil(stride).min(len);
        let end = (width + padding).saturating_sub(phase).div_ceil(stride);
        Columns {
            begin,
            end: end.clamp(begin, len),
            first: (begin * stride + phase).saturating_sub(padding),
            stride,
        }
    }

    fn copy(&self, pixels: &[f32], row: &mut [f32]) {
        let row = &mut row[self.begin..self.end];
        let (pixels, len) = (pixels.get(self.first..).unwrap_or_default(), row.len());
        match self.stride {
            1 => row.copy_from_slice(&pixels[..row.len()]),
            // Of a known length, so that the loop becomes vector code.
            2 => {
                for (to, from) in row.iter_mut().zip(pixels.as_chunks::<2>().0) {
                    *to = from[0];
                }
                // The last pixel of an odd number has no neighbour.
                if let (Some(last), Some(&pixel)) =
                    (row.last_mut(), pixels.get((2 * len).wrapping_sub(2)))
                {
                    *last = pixel;
                }
            }
            _ => {
                for (to, from) in row.iter_mut().zip(pixels.chunks(self.stride)) {
                    *to = from[0];
                }
            }
        }
    }
}
