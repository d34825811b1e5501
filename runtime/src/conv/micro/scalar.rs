//! Plain Rust; the reference for the other files.

use super::{Micro, Rows, Source, Tile};

const LANES: usize = 4;

/// The functions of this file.
pub static MICRO: Micro = Micro {
    lanes: LANES,
    tiles: &[
        &[tile::<1, 1>, tile::<2, 1>, tile::<3, 1>, tile::<4, 1>],
        &[tile::<1, 2>, tile::<2, 2>, tile::<3, 2>, tile::<4, 2>],
    ],
    near: &[&[near::<1>, near::<2>]],
    dots: &[dots::<1>],
    pack,
    sums,
    maxima,
};

unsafe fn tile<const M: usize, const V: usize>(t: &Tile) {
    let mut sums = [[[0.0f32; LANES]; V]; M];
    // SAFETY: the caller's pointers hold what `Tile` says.
    unsafe {
        for k in 0..t.depth {
            for (m, sums) in sums.iter_mut().enumerate() {
                let a = *t.a.add(m * t.row + k * t.step);
                for (v, sums) in sums.iter_mut().enumerate() {
                    for (lane, sum) in sums.iter_mut().enumerate() {
                        *sum += a * *t.b.add(k * t.ldb + v * LANES + lane);
                    }
                }
            }
        }
        for (m, sums) in sums.iter().enumerate() {
            for (n, sum) in sums.as_flattened().iter().enumerate().take(t.columns) {
                t.finish(m, n, *sum);
            }
        }
    }
}

unsafe fn near<const M: usize>(t: &Tile, offsets: &[usize]) {
    for m in 0..M {
        for n in 0..t.columns {
            // SAFETY: the caller's pointers hold what `NearFn` says.
            unsafe {
                let terms = offsets.iter().enumerate();
                let terms =
                    terms.map(|(k, &at)| *t.a.add(m * t.row + k * t.step) * *t.b.add(at + n));
                t.finish(m, n, terms.sum());
            }
        }
    }
}

unsafe fn dots<const N: usize>(t: &Tile, rows: usize) {
    for m in 0..rows {
        for n in 0..N {
            // SAFETY: the caller's pointers hold what `Tile` says.
            unsafe {
                let terms = (0..t.depth).map(|k| *t.a.add(m * t.row + k) * *t.b.add(n * t.ldb + k));
                t.finish(m, n, terms.sum());
            }
        }
    }
}

/// Also of AVX2.
pub unsafe fn pack_lanes<const LANES: usize>(to: *mut f32, width: usize, source: &Source) {
    let mut to = to;
    for channel in 0..source.channels {
        let plane = source.planes.wrapping_add(channel * source.plane);
        for &tap in source.taps {
            // SAFETY: the caller's pointers hold what `Source` says.
            unsafe {
                to.write_bytes(0, LANES);
                for s in source.segments {
                    let from = plane.add(tap + s.source);
                    for k in 0..s.len {
                        *to.add(s.lane + k) = *from.add(k);
                    }
                }
                to = to.wrapping_add(width);
            }
        }
    }
}

unsafe fn pack(to: *mut f32, width: usize, source: &Source) {
    // SAFETY: as asked of the caller.
    unsafe { pack_lanes::<LANES>(to, width, source) }
}

/// Each pixel of a plane as a function of what its taps read.
unsafe fn pixels(r: &Rows, value: impl Fn(&dyn Fn(usize) -> f32) -> f32) {
    for y in 0..r.height {
        for x in 0..r.width {
            // SAFETY: the caller's pointers hold what `Rows` says.
            let tap = |t: usize| unsafe { *r.planes.add(r.taps[t] + y * r.row + x) };
            // SAFETY: as above.
            unsafe { *r.to.add(y * r.width + x) = value(&tap) };
        }
    }
}

unsafe fn sums(r: &Rows) {
    // SAFETY: as asked of the caller.
    let weight = unsafe { std::slice::from_raw_parts(r.weight, r.taps.len()) };
    let sum = |tap: &dyn Fn(usize) -> f32| {
        let terms = weight.iter().enumerate();
        terms.fold(r.start, |sum, (t, w)| sum + w * tap(t))
    };
    // SAFETY: as asked of the caller.
    unsafe { pixels(r, sum) }
}

unsafe fn maxima(r: &Rows) {
    let largest = |tap: &dyn Fn(usize) -> f32| {
        let larger = |a: f32, b: f32| if b > a || b.is_nan() { b } else { a };
        (0..r.taps.len()).map(tap).fold(f32::NEG_INFINITY, larger)
    };
    // SAFETY: as asked of the caller.
    unsafe { pixels(r, largest) }
}
