//! The inner loop of depthwise convolutions, one file for each instruction set with the same names.
//!
//! A tile is a few neighbouring results of one vector of channels. For each row of the window its weights and, one
//! after the other, the pixels under it are loaded once; what lies outside of the image is left out.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;

use super::super::shape::Shape;
use crate::DType;
use crate::cpu::Isa;

/// Some rows of the result of one image, for one vector of channels.
#[derive(Clone, Copy)]
pub struct Channels<'a> {
    pub shape: &'a Shape,
    /// The result's height and width.
    pub size: [usize; 2],
    /// The vector's first channel in the image's first pixel.
    pub image: *const u8,
    /// The vector's weights of the first tap.
    pub weight: *const f32,
    /// Elements between taps.
    pub tap: usize,
    /// The vector's biases; null for none.
    pub bias: *const u8,
    /// The vector's first channel in the first pixel of the image's result.
    pub result: *mut u8,
    /// Rows of the result.
    pub rows: (usize, usize),
}

/// Computes them.
pub type ChannelsFn = unsafe fn(&Channels);

/// Kernels for vectors of so many channels.
pub type Kernel = (usize, ChannelsFn);

/// The kernels for this type, those of most channels first; the last one's is one channel. None for other types.
pub fn kernels(isa: Isa, dtype: DType) -> Option<&'static [Kernel]> {
    let narrow = match dtype {
        DType::F32 => false,
        DType::BF16 => true,
        _ => return None,
    };
    #[cfg(target_arch = "x86_64")]
    {
        if isa >= Isa::Avx512 && (!narrow || isa >= Isa::Avx512Bf16) {
            return Some(if narrow { &avx512::BF16 } else { &avx512::F32 });
        }
        if isa >= Isa::Avx2 {
            return Some(if narrow { &avx2::BF16 } else { &avx2::F32 });
        }
    }
    let _ = isa;
    Some(if narrow { &scalar::BF16 } else { &scalar::F32 })
}

/// A vector of f32 sums.
///
/// # Safety
/// Implementations touch the memory of their channels, and need what their instruction set needs.
trait Vector: Copy {
    unsafe fn zero() -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn widen(from: *const u16) -> Self;
    unsafe fn add_product(self, x: Self, y: Self) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn round(self, to: *mut u16);
}

/// How elements of a type are read and written.
trait Element {
    const SIZE: usize;
    unsafe fn load<V: Vector>(from: *const u8) -> V;
    unsafe fn store<V: Vector>(v: V, to: *mut u8);
}

struct F32;
struct Bf16;

impl Element for F32 {
    const SIZE: usize = 4;
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const u8) -> V {
        // SAFETY: by contract.
        unsafe { V::load(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store<V: Vector>(v: V, to: *mut u8) {
        // SAFETY: by contract.
        unsafe { v.store(to.cast()) }
    }
}

impl Element for Bf16 {
    const SIZE: usize = 2;
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const u8) -> V {
        // SAFETY: by contract.
        unsafe { V::widen(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store<V: Vector>(v: V, to: *mut u8) {
        // SAFETY: by contract.
        unsafe { v.round(to.cast()) }
    }
}

/// Taps of a window's row that a tile takes together, and pixels between neighbouring results.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// So many neighbouring taps, and this stride.
    Row(usize, usize),
    /// Each tap on its own, any stride and dilation.
    Tap,
}

fn form(s: &Shape) -> Form {
    match (s.kernel[1], s.stride[1], s.dilation[1]) {
        (width @ (3 | 5 | 7), stride @ (1 | 2), 1) => Form::Row(width, stride),
        _ => Form::Tap,
    }
}

/// The width of tiles, of those that there are, that leaves the fewest results computed twice. Narrow tiles wait for their sums.
fn tile_width(width: usize, widths: &[usize]) -> usize {
    let cost = |&w: &usize| width.div_ceil(w) * w.max(6);
    let fit = widths.iter().copied().filter(|&w| w <= width);
    fit.min_by_key(cost).unwrap_or(1)
}

/// First results of the tiles of a row; the last ones may overlap.
fn starts(width: usize, tile: usize) -> impl Iterator<Item = usize> {
    (0..width).step_by(tile).map(move |x| x.min(width - tile))
}

/// All tiles of `P` results with `K` taps of a row at a time, every `S` pixels; `K` of 1 is any window.
///
/// # Safety
/// The pointers hold what [`Channels`] says; the processor has the vector's instructions.
#[inline(always)]
unsafe fn walk<V: Vector, E: Element, const K: usize, const S: usize, const P: usize>(
    c: &Channels,
) {
    for x in starts(c.size[1], P) {
        for y in c.rows.0..c.rows.1 {
            // SAFETY: by contract.
            unsafe { tile::<V, E, K, S, P>(c, y, x) };
        }
    }
}

/// Calls a function for each of these numbers that are below something, without a loop: sums stay in registers.
macro_rules! unrolled {
    ($below:expr, $call:expr, $($n:literal)*) => {
        $(if $n < $below { $call($n) })*
    };
}

/// Adds the products of one pixel, the `j`-th under the windows of a tile.
#[inline(always)]
unsafe fn add<V: Vector, const K: usize, const S: usize, const P: usize>(
    sums: &mut [V; P],
    weights: &[V; K],
    pixel: V,
    j: usize,
) {
    for (i, &weight) in weights.iter().enumerate() {
        let at = j.wrapping_sub(i);
        if at % S == 0 && at / S < P {
            // SAFETY: by contract.
            sums[at / S] = unsafe { sums[at / S].add_product(pixel, weight) };
        }
    }
}

#[inline(always)]
unsafe fn tile<V: Vector, E: Element, const K: usize, const S: usize, const P: usize>(
    c: &Channels,
    y: usize,
    x: usize,
) {
    let s = c.shape;
    let pitch = s.inputs * E::SIZE;
    let [height, width] = s.image;
    // Between the pixels that a tile loads one after the other.
    let step = if K == 1 { s.stride[1] } else { 1 };
    // SAFETY: pixels outside of the image are not touched; the rest is by contract.
    unsafe {
        let mut sums = [V::zero(); P];
        if !c.bias.is_null() {
            sums = [E::load(c.bias); P];
        }
        for ky in 0..s.kernel[0] {
            let row = (y * s.stride[0] + ky * s.dilation[0]).wrapping_sub(s.padding[0]);
            if row >= height {
                continue;
            }
            let row = c.image.wrapping_add(row * width * pitch);
            for kx in (0..s.kernel[1]).step_by(K) {
                let weight = c.weight.wrapping_add((ky * s.kernel[1] + kx) * c.tap);
                let mut weights = [V::zero(); K];
                for (i, w) in weights.iter_mut().enumerate() {
                    *w = V::load(weight.wrapping_add(i * c.tap));
                }
                let first = (x * s.stride[1] + kx * s.dilation[1]).wrapping_sub(s.padding[1]);
                let mut column = |j: usize| {
                    let pixel = first.wrapping_add(j * step);
                    if pixel < width {
                        let pixel = E::load::<V>(row.wrapping_add(pixel * pitch));
                        add::<V, K, S, P>(&mut sums, &weights, pixel, j);
                    }
                };
                unrolled!(
                    (P - 1) * S + K,
                    column,
                    0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19
                );
            }
        }
        let to = (y * c.size[1] + x) * s.outputs * E::SIZE;
        for (p, &sum) in sums.iter().enumerate() {
            E::store(sum, c.result.wrapping_add(to + p * s.outputs * E::SIZE));
        }
    }
}

/// The kernel of one vector and type: `widths` of tiles, less for a stride.
macro_rules! channels {
    ($name:ident, $vector:ty, $element:ty, $features:literal, $($wide:literal)?) => {
        unsafe fn $name(c: &Channels) {
            #[target_feature(enable = $features)]
            unsafe fn walk<const K: usize, const S: usize, const P: usize>(c: &Channels) {
                // SAFETY: by contract.
                unsafe { super::walk::<$vector, $element, K, S, P>(c) }
            }
            unsafe fn widths<const K: usize, const S: usize>(c: &Channels) {
                let width = match S {
                    1 => super::tile_width(c.size[1], &[$($wide,)? 7, 4]),
                    _ => super::tile_width(c.size[1], &[7, 4]),
                };
                // SAFETY: by contract.
                unsafe {
                    match width {
                        $($wide if S == 1 => walk::<K, 1, $wide>(c),)?
                        7 => walk::<K, S, 7>(c),
                        4 => walk::<K, S, 4>(c),
                        _ => walk::<K, S, 1>(c),
                    }
                }
            }
            // SAFETY: by contract.
            unsafe {
                match super::form(c.shape) {
                    super::Form::Row(3, 1) => widths::<3, 1>(c),
                    super::Form::Row(3, 2) => widths::<3, 2>(c),
                    super::Form::Row(5, 1) => widths::<5, 1>(c),
                    super::Form::Row(5, 2) => widths::<5, 2>(c),
                    super::Form::Row(7, 1) => widths::<7, 1>(c),
                    super::Form::Row(7, 2) => widths::<7, 2>(c),
                    _ => widths::<1, 1>(c),
                }
            }
        }
    };
}
use channels;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_rows() {
        let of = |width| tile_width(width, &[14, 7, 4]);
        let expected = [
            (1, 1),
            (3, 1),
            (4, 4),
            (7, 7),
            (8, 4),
            (14, 14),
            (16, 7),
            (56, 14),
        ];
        for (width, tile) in expected {
            assert_eq!(of(width), tile, "{width}");
        }
        assert_eq!(starts(16, 7).collect::<Vec<_>>(), [0, 7, 9]);
        assert_eq!(starts(14, 14).collect::<Vec<_>>(), [0]);
    }
}
