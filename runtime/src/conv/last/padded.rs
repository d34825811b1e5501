//! Images with their padding, as the products of neighbouring taps read them: channels-last, also where the images given are
//! planes, and perhaps with a channel of zeros.

use super::Images;
use crate::Error;
use crate::cpu::Isa;
use crate::gemm::{Parallel, part};

/// Bytes that are worth a second thread.
const BYTES: usize = 1 << 16;

/// What the copy is of, and its form.
pub struct Padded<'a> {
    pub images: &'a Images<'a>,
    /// Height and width of an image.
    pub size: [usize; 2],
    /// Channels of a pixel, at least the images'.
    pub channels: usize,
}

impl Padded<'_> {
    /// Bytes of a row.
    pub fn row(&self) -> usize {
        self.size[1] * self.channels * self.images.element
    }

    /// Fills the memory of all images.
    ///
    /// # Safety
    /// The images hold what their shape says, and `to` all rows of all images.
    pub unsafe fn fill(&self, to: *mut u8, threads: &dyn Parallel) -> Result<(), Error> {
        let s = self.images.shape;
        let (row, base) = (self.row(), to as usize);
        let rows = s.images * self.size[0];
        let tasks = (rows * row / BYTES).clamp(1, threads.threads());
        threads.run(tasks, &|n| {
            for r in part(rows, tasks, n) {
                let (image, y) = (r / self.size[0], r % self.size[0]);
                let to = (base as *mut u8).wrapping_add(r * row);
                // SAFETY: a row of the copy, and one of the image.
                unsafe {
                    match y.wrapping_sub(s.padding[0]) {
                        y if y < s.image[0] => self.pixels(image, y, to),
                        _ => to.write_bytes(0, row),
                    }
                }
            }
        })
    }

    /// A row that holds pixels.
    unsafe fn pixels(&self, image: usize, y: usize, to: *mut u8) {
        let (s, element) = (self.images.shape, self.images.element);
        let [h, w] = s.image;
        let pixel = self.channels * element;
        let side = s.padding[1] * pixel;
        // SAFETY: by contract.
        unsafe {
            to.write_bytes(0, side);
            to.add(side + w * pixel).write_bytes(0, side);
            let to = to.add(side);
            let own = s.inputs * element;
            let from = self.images.image.wrapping_add((image * h + y) * w * own);
            match (self.images.planes, element) {
                (true, 2) => self.turned::<u16>(image, y, to.cast()),
                (true, _) => self.turned::<u32>(image, y, to.cast()),
                (false, _) if pixel == own => to.copy_from_nonoverlapping(from, w * own),
                (false, _) => {
                    for x in 0..w {
                        let to = to.add(x * pixel);
                        to.copy_from_nonoverlapping(from.add(x * own), own);
                        to.add(own).write_bytes(0, pixel - own);
                    }
                }
            }
        }
    }

    /// A row of planes.
    unsafe fn turned<T: Copy + Default>(&self, image: usize, y: usize, to: *mut T) {
        let s = self.images.shape;
        let [h, w] = s.image;
        let first = self.images.image.cast::<T>();
        let from = |c: usize| first.wrapping_add(((image * s.inputs + c) * h + y) * w);
        let wide = self.images.isa >= Isa::Avx512;
        // SAFETY: rows of the planes, and one of the copy.
        unsafe {
            match (s.inputs, self.channels) {
                #[cfg(target_arch = "x86_64")]
                (3, 4) if wide => three_of_four([0, 1, 2].map(from), w, to),
                (inputs, channels) => {
                    for c in 0..channels {
                        for x in 0..w {
                            let value = match c < inputs {
                                true => *from(c).add(x),
                                false => T::default(),
                            };
                            *to.add(x * channels + c) = value;
                        }
                    }
                }
            }
        }
    }
}

/// Three rows as the first elements of pixels of four, by vector instructions that the compiler finds.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn three_of_four<T: Copy + Default>(from: [*const T; 3], w: usize, to: *mut T) {
    // SAFETY: by contract.
    let [a, b, c] = from.map(|row| unsafe { std::slice::from_raw_parts(row, w) });
    // SAFETY: by contract.
    let to = unsafe { std::slice::from_raw_parts_mut(to.cast::<[T; 4]>(), w) };
    for ((pixel, &a), (&b, &c)) in to.iter_mut().zip(a).zip(b.iter().zip(c)) {
        *pixel = [a, b, c, T::default()];
    }
}
