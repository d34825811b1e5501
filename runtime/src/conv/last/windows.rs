//! The pixels under windows as rows of a matrix, made where they are multiplied (implicit im2col): a row has the
//! taps in order, and the channels of each.

use super::super::shape::Shape;
use crate::cpu::Isa;
use crate::gemm::Rows;
use std::ops::Range;

/// Images `[images, h, w, inputs]`, and the windows in them.
pub struct Windows<'a> {
    pub shape: &'a Shape,
    /// The result's height and width.
    pub size: [usize; 2],
    pub image: *const u8,
    /// Bytes of an element.
    pub element: usize,
    pub isa: Isa,
}

// SAFETY: threads read what is valid and written by nobody.
unsafe impl Sync for Windows<'_> {}

impl Rows for Windows<'_> {
    unsafe fn write(&self, rows: Range<usize>, ks: Range<usize>, to: *mut u8, stride: usize) {
        #[cfg(target_arch = "x86_64")]
        if self.isa >= Isa::Avx512 {
            // SAFETY: by contract.
            return unsafe { vectors(self, rows, ks, to, stride) };
        }
        // SAFETY: by contract.
        unsafe { self.write_by(rows, ks, to, stride, |from, to, n| plain(from, to, n)) };
    }
}

unsafe fn plain(from: Option<*const u8>, to: *mut u8, bytes: usize) {
    // SAFETY: by contract.
    unsafe {
        match from {
            Some(from) => to.copy_from_nonoverlapping(from, bytes),
            None => to.write_bytes(0, bytes),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn vectors(w: &Windows, rows: Range<usize>, ks: Range<usize>, to: *mut u8, stride: usize) {
    use std::arch::x86_64::*;
    let copy = |from: Option<*const u8>, to: *mut u8, bytes: usize| {
        let from = from.unwrap_or(std::ptr::null());
        for at in (0..bytes).step_by(64) {
            let left = (bytes - at).min(64) as u32;
            let mask = u64::MAX >> (64 - left);
            let read = if from.is_null() { 0 } else { mask };
            // SAFETY: masked bytes touch no memory.
            unsafe {
                let x = _mm512_maskz_loadu_epi8(read, from.wrapping_add(at).cast());
                _mm512_mask_storeu_epi8(to.add(at).cast(), mask, x);
            }
        }
    };
    // SAFETY: by contract.
    unsafe { w.write_by(rows, ks, to, stride, copy) };
}

impl Windows<'_> {
    /// `copy` gets the pixels of some neighbouring taps, none for padding, and their number of bytes.
    #[inline(always)]
    unsafe fn write_by(
        &self,
        rows: Range<usize>,
        ks: Range<usize>,
        to: *mut u8,
        stride: usize,
        copy: impl Fn(Option<*const u8>, *mut u8, usize),
    ) {
        let s = self.shape;
        let ([h, w], [oh, ow]) = (s.image, self.size);
        let pixel = s.inputs * self.element;
        let dense = s.dilation[1] == 1;
        // Counted, since a division takes as long as some copies.
        let tap = ks.start / s.inputs;
        let (first_y, first_x, first) = (tap / s.kernel[1], tap % s.kernel[1], ks.start % s.inputs);
        let (mut image, mut y, mut x) = (
            rows.start / (oh * ow),
            rows.start / ow % oh,
            rows.start % ow,
        );
        for n in 0..rows.len() {
            let pixels = self.image.wrapping_add(image * h * w * pixel);
            let mut to = to.wrapping_add(n * stride);
            let (mut ky, mut kx, mut channel) = (first_y, first_x, first);
            let mut left = ks.len();
            while left > 0 {
                let row = (y * s.stride[0] + ky * s.dilation[0]).wrapping_sub(s.padding[0]);
                let column = (x * s.stride[1] + kx * s.dilation[1]).wrapping_sub(s.padding[1]);
                let is_inside = row < h && column < w;
                // Neighbouring taps of a row that are pixels, or padding, too.
                let of_row = s.kernel[1] - kx;
                let taps = match is_inside {
                    true if dense => of_row.min(w - column),
                    // Before the image, or all of a row outside of it.
                    false if row >= h => of_row,
                    false if dense && column > w => of_row.min(column.wrapping_neg()),
                    _ => 1,
                };
                let all = taps * s.inputs - channel;
                let len = all.min(left);
                let from = (row.wrapping_mul(w).wrapping_add(column)).wrapping_mul(pixel);
                let from = pixels
                    .wrapping_add(from)
                    .wrapping_add(channel * self.element);
                copy(is_inside.then_some(from), to, len * self.element);
                to = to.wrapping_add(len * self.element);
                left -= len;
                (kx, channel) = (kx + taps, 0);
                if kx == s.kernel[1] {
                    (ky, kx) = (ky + 1, 0);
                }
            }
            x += 1;
            if x == ow {
                (y, x) = (y + 1, 0);
            }
            if y == oh {
                (image, y) = (image + 1, 0);
            }
        }
    }
}
