//! Sizes of the parts that a product is cut into.

use super::micro::Kernels;
use crate::cpu::Caches;
use std::ops::Range;

/// Multiplications that are worth a second thread.
const WORK_PER_THREAD: usize = 1 << 18;
/// Rows of a block: enough to make packing a panel of B cheap, few enough for their part of A to stay
/// in the second cache.
const BLOCK_ROWS: usize = 224;
/// Units of K that a block has at least.
const LEAST_UNITS: usize = 256;

/// The `n`-th of `parts` nearly equal parts of `0..len`.
pub fn part(len: usize, parts: usize, n: usize) -> Range<usize> {
    let at = |n: usize| n * len / parts;
    at(n)..at(n + 1)
}

/// `0..len` in nearly equal parts of `most` at most; one empty part if there is nothing.
pub fn parts(len: usize, most: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    let count = len.div_ceil(most).max(1);
    (0..count).map(move |n| part(len, count, n))
}

/// Rows of A that a block may have.
pub fn block_rows(rows: usize) -> usize {
    rows.div_ceil(rows.div_ceil(BLOCK_ROWS).max(1)).max(1)
}

/// Units of K in a block of this many rows, so that the block's part of A leaves room for panels of
/// B in the second cache.
pub fn block_units(rows: usize, units: usize) -> usize {
    let fit = Caches::get().l2 * 5 / 8 / (4 * rows.max(1));
    let count = units.div_ceil(fit.max(LEAST_UNITS)).max(1);
    units.div_ceil(count).next_multiple_of(16)
}

/// Whether rows this far apart (bytes) share so few sets of the first cache that a tile's rows would
/// evict each other.
pub fn conflicts(rows: usize, stride: usize) -> bool {
    const LINE: usize = 64;
    const WAYS: usize = 8;
    let sets = (Caches::get().l1 / (LINE * WAYS)).max(1);
    let lines = (stride / LINE).max(1);
    // A power of two divides both as often as the smaller number of trailing zeros.
    let shared = sets.min(1 << lines.trailing_zeros().min(31));
    rows * shared > sets * WAYS / 2
}

/// How a product is split over threads: parts of M, of N and of K.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

impl Grid {
    /// Number of parts.
    pub fn tasks(&self) -> usize {
        self.m * self.n * self.k
    }
}

/// The split for which the slowest thread is done first. `packs` says that every part of M packs its
/// own panels of B.
pub fn grid([m, n, k]: [usize; 3], threads: usize, kernels: &Kernels, packs: bool) -> Grid {
    let work = m.saturating_mul(n).saturating_mul(k);
    let threads = threads.min(work / WORK_PER_THREAD).max(1);
    let panels = n.div_ceil(kernels.cols).max(1);
    // A panel costs about as much to pack as four rows of it to multiply.
    let pack_rows = if packs { 4 } else { 0 };
    let cost = |g: &Grid| {
        let rows = m.div_ceil(g.m) + pack_rows + 2;
        (rows * panels.div_ceil(g.n)).saturating_mul(k.div_ceil(g.k) + 16)
    };
    let mut best = Grid { m: 1, n: 1, k: 1 };
    for parts_n in 1..=threads.min(panels) {
        let parts_m = (threads / parts_n).min(m).max(1);
        let parts_k = (threads / (parts_n * parts_m)).min(k / 1024).max(1);
        for g in [
            Grid {
                m: parts_m,
                n: parts_n,
                k: 1,
            },
            Grid {
                m: parts_m,
                n: parts_n,
                k: parts_k,
            },
            Grid {
                m: 1,
                n: parts_n,
                k: (threads / parts_n).min(k / 1024).max(1),
            },
        ] {
            // Sums of parts of K are added up afterwards.
            let more = |g: &Grid| {
                if g.k > 1 {
                    m * n.div_ceil(kernels.cols) * g.k / 8
                } else {
                    0
                }
            };
            if cost(&g) + more(&g) < cost(&best) + more(&best) {
                best = g;
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Isa;
    use crate::gemm::micro::{Math, kernels};

    #[test]
    fn parts_cover_everything_once() {
        for (len, most) in [(0, 5), (1, 5), (5, 5), (6, 5), (197, 14), (1000, 7)] {
            let all: Vec<usize> = parts(len, most).flatten().collect();
            assert_eq!(all, (0..len).collect::<Vec<_>>());
            assert!(parts(len, most).all(|r| r.len() <= most));
        }
    }

    #[test]
    fn grids_suit_the_shape() {
        let k = kernels(Isa::Scalar, Math::F32).unwrap();
        assert_eq!(grid([128, 768, 768], 2, k, true), Grid { m: 1, n: 2, k: 1 });
        assert_eq!(grid([4, 4, 4], 16, k, true).tasks(), 1);
        assert_eq!(
            grid([4000, 16, 768], 2, k, false),
            Grid { m: 2, n: 1, k: 1 }
        );
        let deep = grid([8, 16, 1 << 20], 4, k, false);
        assert!(deep.k > 1 && deep.tasks() <= 4, "{deep:?}");
    }

    #[test]
    fn conflicts_are_powers_of_two() {
        assert!(conflicts(14, 12288) && conflicts(14, 4096));
        assert!(!conflicts(14, 3072) && !conflicts(14, 3072 + 64));
    }
}
