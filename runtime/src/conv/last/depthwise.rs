//! Depthwise convolutions: vectors of channels, a few rows of the result at a time, which with their pixels stay in
//! the second cache.

use super::micro::{Channels, Kernel};
use super::{Images, Then};
use crate::Error;
use crate::cpu::Caches;
use crate::gemm::{PackedB, Parallel, part};
use std::ops::Range;

/// Multiply-adds that are worth a second thread.
const WORK: usize = 1 << 16;

/// A convolution and its weights, `[taps, channels]` in panels.
pub struct Depthwise<'a> {
    pub images: &'a Images<'a>,
    pub kernels: &'a [Kernel],
    pub weights: &'a PackedB,
}

/// How the result is cut: rows of each image and channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    rows: usize,
    channels: usize,
}

impl Depthwise<'_> {
    /// Computes it; `then` follows on rows of pixels that are complete.
    ///
    /// # Safety
    /// The images' pointers hold what the shape says; the processor has the kernels' instruction set.
    pub unsafe fn run(&self, threads: &dyn Parallel, then: Option<&Then>) -> Result<(), Error> {
        let s = self.images.shape;
        let [height, width] = self.images.size;
        let panels = s.outputs.div_ceil(self.weights.width());
        let cut = self.cut(threads.threads(), panels);
        let task = |n: usize| {
            let (n, channels) = (n / cut.channels, n % cut.channels);
            let (image, rows) = (n / cut.rows, part(height, cut.rows, n % cut.rows));
            let panels = part(panels, cut.channels, channels);
            // SAFETY: by contract; tasks write different parts of the result.
            unsafe { self.part(image, rows.clone(), panels) };
            if let Some(then) = then.filter(|_| cut.channels == 1) {
                let row = |y: usize| (image * height + y) * width;
                then(row(rows.start)..row(rows.end));
            }
        };
        threads.run(s.images * cut.rows * cut.channels, &task)?;
        match then.filter(|_| cut.channels > 1) {
            Some(then) => super::after(self.images, threads, then),
            None => Ok(()),
        }
    }

    /// As few parts as fit the cache and keep all threads busy.
    fn cut(&self, threads: usize, panels: usize) -> Cut {
        let s = self.images.shape;
        let [height, _] = self.images.size;
        let threads = threads.min(s.work() / WORK).max(1);
        let image = s.image[0] * s.image[1] * s.inputs * self.images.element;
        let fit = image.div_ceil(Caches::get().l2 / 4).max(1);
        let rows = threads.div_ceil(s.images).max(fit).min(height);
        // A part's last rows may be few; more of them even that out.
        let rows = match s.images * rows {
            parts if parts % threads == 0 || parts > 4 * threads => rows,
            parts => (parts.next_multiple_of(threads) / s.images).clamp(rows, height),
        };
        let channels = (threads / (s.images * rows)).clamp(1, panels);
        Cut { rows, channels }
    }

    unsafe fn part(&self, image: usize, rows: Range<usize>, panels: Range<usize>) {
        let (images, s) = (self.images, self.images.shape);
        let [height, width] = images.size;
        let pixel = s.outputs * images.element;
        let from = images
            .image
            .wrapping_add(image * s.image[0] * s.image[1] * pixel);
        let to = images.result.wrapping_add(image * height * width * pixel);
        let across = self.weights.width();
        for panel in panels {
            let end = s.outputs.min((panel + 1) * across);
            let mut channel = panel * across;
            while channel < end {
                let fits = |k: &&Kernel| k.0 <= end - channel;
                let Some(&(lanes, kernel)) = self.kernels.iter().find(fits) else {
                    return;
                };
                let at = channel * images.element;
                let work = Channels {
                    shape: s,
                    size: images.size,
                    image: from.wrapping_add(at),
                    weight: self
                        .weights
                        .panel(panel)
                        .cast::<f32>()
                        .wrapping_add(channel % across),
                    tap: across,
                    bias: images.bias.map_or(std::ptr::null(), |b| b.wrapping_add(at)),
                    result: to.wrapping_add(at),
                    rows: (rows.start, rows.end),
                };
                // SAFETY: by contract.
                unsafe { kernel(&work) };
                channel += lanes;
            }
        }
    }
}
