//! The transforms, on 16 tiles or filters at a time.

use super::tiles::{Store, Tiles};
use super::{LANES, POINTS};
use crate::conv::micro::Segment;
use std::arch::x86_64::*;

/// Four rows of four vectors.
type Square = [[__m512; 4]; 4];

fn transposed<const M: usize, const N: usize>(of: [[__m512; M]; N]) -> [[__m512; N]; M] {
    std::array::from_fn(|m| std::array::from_fn(|n| of[n][m]))
}

/// `G` times a column: `(a, (a + b + c) / 2, (a - b + c) / 2, c)`.
#[inline]
#[target_feature(enable = "avx512f")]
fn spread([a, b, c]: [__m512; 3]) -> [__m512; 4] {
    let half = _mm512_set1_ps(0.5);
    let outer = _mm512_mul_ps(_mm512_add_ps(a, c), half);
    [
        a,
        _mm512_fmadd_ps(b, half, outer),
        _mm512_fnmadd_ps(b, half, outer),
        c,
    ]
}

/// Writes point p of filter k to `to[p * distance + k]`.
///
/// # Safety
/// The points of all filters are valid memory, and the processor has AVX-512.
#[target_feature(enable = "avx512f")]
pub unsafe fn transform_filters(filters: &[[f32; 9]], to: *mut f32, distance: usize) {
    for (n, filters) in filters.chunks(LANES).enumerate() {
        let mut taps = [[0.0_f32; LANES]; 9];
        for (lane, filter) in filters.iter().enumerate() {
            for (tap, &w) in taps.iter_mut().zip(filter) {
                tap[lane] = w;
            }
        }
        // SAFETY: an array is a vector; by contract.
        unsafe {
            let rows: [[__m512; 3]; 3] = std::array::from_fn(|y| {
                std::array::from_fn(|x| _mm512_loadu_ps(taps[3 * y + x].as_ptr()))
            });
            let columns = transposed(rows).map(|column| spread(column));
            let points = transposed(columns).map(|row| spread(row));
            let mask = first(filters.len());
            for (p, &v) in points.as_flattened().iter().enumerate() {
                _mm512_mask_storeu_ps(to.add(p * distance + n * LANES), mask, v);
            }
        }
    }
}

/// A mask of the first `n` lanes.
fn first(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as __mmask16
}

/// Where one vector of tiles is read.
pub struct Source<'a> {
    /// First channel's planes.
    pub planes: *const f32,
    /// Distance between channels.
    pub plane: usize,
    pub channels: usize,
    /// Offsets of the 16 pixels of a tile.
    pub taps: &'a [usize],
    pub tiles: &'a Tiles,
}

/// Writes `Bᵀ d B` of every tile `d`: point p of channel c to `to[p * distance + c * width]`. Lanes of
/// no tile are 0.
///
/// # Safety
/// The source's tiles and the points are valid memory, and the processor has AVX-512.
#[target_feature(enable = "avx512f")]
pub unsafe fn transform(to: *mut f32, width: usize, distance: usize, source: &Source) {
    // SAFETY: as asked of the caller.
    unsafe {
        match source.tiles.sources.len() {
            0..=1 => transform_segments::<1>(to, width, distance, source),
            2 => transform_segments::<2>(to, width, distance, source),
            3 => transform_segments::<3>(to, width, distance, source),
            4 => transform_segments::<4>(to, width, distance, source),
            5 => transform_segments::<5>(to, width, distance, source),
            _ => transform_segments::<LANES>(to, width, distance, source),
        }
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn transform_segments<const S: usize>(
    to: *mut f32,
    width: usize,
    distance: usize,
    source: &Source,
) {
    let mut masked = [(0, 0); S];
    for (slot, &Segment { lane, len, source }) in masked.iter_mut().zip(&source.tiles.sources) {
        *slot = (first(len) << lane, source as isize - lane as isize);
    }
    let Ok(taps) = <&[usize; POINTS]>::try_from(source.taps) else {
        return;
    };
    for channel in 0..source.channels {
        let plane = source.planes.wrapping_add(channel * source.plane);
        // SAFETY: by contract; masked lanes are not touched.
        unsafe {
            let pixel = |tap: usize| {
                let from = plane.wrapping_add(tap);
                let (mask, offset) = masked[0];
                let mut v = _mm512_maskz_loadu_ps(mask, from.wrapping_offset(offset));
                for &(mask, offset) in &masked[1..] {
                    v = _mm512_mask_loadu_ps(v, mask, from.wrapping_offset(offset));
                }
                v
            };
            let tile: Square =
                std::array::from_fn(|y| std::array::from_fn(|x| pixel(taps[4 * y + x])));
            let rows = tile.map(|row| differences(row));
            let columns = transposed(rows).map(|column| differences(column));
            let to = to.add(channel * width);
            for (x, column) in columns.iter().enumerate() {
                for (y, &v) in column.iter().enumerate() {
                    _mm512_storeu_ps(to.add((4 * y + x) * distance), v);
                }
            }
        }
    }
}

/// `Bᵀ` times a column: `(a - c, b + c, c - b, b - d)`.
#[inline]
#[target_feature(enable = "avx512f")]
fn differences([a, b, c, d]: [__m512; 4]) -> [__m512; 4] {
    [
        _mm512_sub_ps(a, c),
        _mm512_add_ps(b, c),
        _mm512_sub_ps(c, b),
        _mm512_sub_ps(b, d),
    ]
}

/// `Aᵀ` times a column: `(a + b + c, b - c - d)`.
#[inline]
#[target_feature(enable = "avx512f")]
fn sums([a, b, c, d]: [__m512; 4]) -> [__m512; 2] {
    [
        _mm512_add_ps(_mm512_add_ps(a, b), c),
        _mm512_sub_ps(_mm512_sub_ps(b, c), d),
    ]
}

/// Where the products of some outputs for one vector of tiles are, and where the pixels go.
pub struct Products<'a> {
    /// Point p of the first output is at `from[p * distance]`, the next output's `width` further.
    pub from: *const f32,
    pub width: usize,
    pub distance: usize,
    pub outputs: usize,
    /// One number for each output.
    pub bias: Option<*const f32>,
    /// The first output's plane.
    pub to: *mut f32,
    /// Pixels of a plane.
    pub plane: usize,
    /// Pixels of a row.
    pub row: usize,
    pub tiles: &'a Tiles,
}

/// Stores `Aᵀ m A` of every tile `m` of products, plus bias. Returns whether all are finite.
///
/// # Safety
/// The products and pixels are valid memory, and the processor has AVX-512.
#[target_feature(enable = "avx512f")]
pub unsafe fn restore(p: &Products) -> bool {
    let mut strange = 0;
    for output in 0..p.outputs {
        // SAFETY: by contract.
        unsafe {
            let from = p.from.add(output * p.width);
            let tile: Square = std::array::from_fn(|x| {
                std::array::from_fn(|y| _mm512_loadu_ps(from.add((4 * y + x) * p.distance)))
            });
            let columns = tile.map(|column| sums(column));
            let mut pixels = transposed(columns).map(|row| sums(row));
            if let Some(bias) = p.bias {
                let bias = _mm512_set1_ps(*bias.add(output));
                pixels = pixels.map(|row| row.map(|v| _mm512_add_ps(v, bias)));
            }
            for &v in pixels.as_flattened() {
                // The difference is NaN if v is no number or infinite.
                let none = _mm512_sub_ps(v, v);
                strange |= _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(none, none);
            }
            let to = p.to.wrapping_add(output * p.plane);
            for store in &p.tiles.stores {
                let to = to.wrapping_offset(store.offset);
                store_row(to, store, pixels[0]);
                if store.lower {
                    store_row(to.wrapping_add(p.row), store, pixels[1]);
                }
            }
        }
    }
    strange == 0
}

/// Stores the left and right pixels of each tile side by side.
///
/// # Safety
/// The pixels of the mask are valid memory.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store_row(to: *mut f32, store: &Store, [left, right]: [__m512; 2]) {
    let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    let high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
    // SAFETY: by contract; masked lanes are not touched.
    unsafe {
        let v = _mm512_permutex2var_ps(left, low, right);
        _mm512_mask_storeu_ps(to, store.mask as __mmask16, v);
        let v = _mm512_permutex2var_ps(left, high, right);
        _mm512_mask_storeu_ps(
            to.wrapping_add(LANES),
            (store.mask >> LANES) as __mmask16,
            v,
        );
    }
}
