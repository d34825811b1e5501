//! Sizes of the parts that a product is cut into.

use super::micro::Kernels;
use crate::cpu::Caches;
use std::ops::Range;

/// Multiplications that are worth a second thread.
const WORK_PER_THREAD: usize = 1 << 18;
/// Rows of a block where a large A passes through the caches.
const FEW_ROWS: usize = 84;
/// Rows of a block at least.
const LEAST_ROWS: usize = 96;
/// Units of K that a block has at least.
const LEAST_UNITS: usize = 256;

/// Elements of K that a part has at least.
const LEAST_K: usize = 768;

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

/// Which matrix is large: the one that should pass through the caches once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Larger {
    /// A's block stays in the second cache while panels of B pass.
    B,
    /// Panels of B, of few columns in all, stay in the second cache, and a small block of A beside them.
    A,
}

/// Rows of A that blocks have, in multiples of a tile's height. More rows than usual are those that leave
/// all `units` of K in the second cache.
pub fn block_rows(rows: usize, units: usize, kernels: &Kernels, larger: Larger) -> usize {
    const USUAL: usize = 224;
    let most = match larger {
        Larger::A => FEW_ROWS,
        Larger::B if kernels.block > USUAL => {
            let fit = Caches::get().l2 * 5 / 8 / (4 * units.max(1));
            (fit / kernels.height * kernels.height).clamp(LEAST_ROWS, kernels.block)
        }
        Larger::B => kernels.block,
    };
    let blocks = rows.div_ceil(most).max(1);
    rows.div_ceil(blocks)
        .max(1)
        .next_multiple_of(kernels.height)
}

/// Units of K in a block of this many rows whose elements have so many parts, so that the block's part of A
/// leaves room for panels of B in the second cache. Panels of parts are larger, and a step of them takes longer.
pub fn block_units(rows: usize, units: usize, parts: usize, larger: Larger) -> usize {
    let room = match larger {
        Larger::B if parts > 1 => Caches::get().l2 * 5 / 16,
        Larger::B => Caches::get().l2 * 5 / 8,
        Larger::A => Caches::get().l2 / 4,
    };
    let fit = room / (4 * parts * rows.max(1));
    let count = units.div_ceil(fit.max(LEAST_UNITS)).max(1);
    units.div_ceil(count).next_multiple_of(16)
}

/// Whether rows this far apart (bytes) share so few sets of the first cache that a tile's rows would
/// evict each other.
pub fn conflicts(rows: usize, stride: usize) -> bool {
    const LINE: usize = 64;
    let Caches { l1, l1_ways, .. } = Caches::get();
    let sets = (l1 / (LINE * l1_ways)).max(1);
    let lines = (stride / LINE).max(1);
    // A power of two divides both as often as the smaller number of trailing zeros.
    let shared = sets.min(1 << lines.trailing_zeros().min(31));
    rows * shared > sets * l1_ways / 2
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

/// What a split costs.
#[derive(Clone, Copy)]
pub struct Costs {
    /// Elements of K in a unit.
    pub per_unit: usize,
    /// Every part of M packs its own panels of B.
    pub packs: bool,
    /// Parts of K are possible.
    pub splits_k: bool,
}

/// The split for which the slowest thread is done first.
pub fn grid([m, n, k]: [usize; 3], threads: usize, kernels: &Kernels, costs: Costs) -> Grid {
    let work = m.saturating_mul(n).saturating_mul(k);
    let threads = threads.min(work / WORK_PER_THREAD).max(1);
    let panels = n.div_ceil(kernels.cols).max(1);
    // A panel costs about as much to pack as four rows of it to multiply.
    let pack_rows = if costs.packs { 4 } else { 0 };
    let [fetch_a, fetch_b] = kernels.fetch;
    let cost = |g: &Grid| {
        let (rows, panels) = (m.div_ceil(g.m), panels.div_ceil(g.n));
        let work = ((rows + pack_rows + 2) * panels).max(rows * fetch_a + panels * fetch_b);
        work.saturating_mul(k.div_ceil(g.k) + 16)
    };
    // Sums of parts of K are written, read by other threads, and added up.
    let more = |g: &Grid| {
        if g.k == 1 {
            return 0;
        }
        let moved = 2 * fetch_a * costs.per_unit * (m * n * g.k / g.tasks());
        m * panels * g.k / 8 + moved
    };
    let most_k = if costs.splits_k { k / LEAST_K } else { 1 };
    let parts_k = |others: usize| (threads / others).min(most_k).max(1);
    let grids = (1..=threads.min(panels)).flat_map(|n| {
        let rows = (threads / n).min(m).max(1);
        let of = |m, k| Grid { m, n, k };
        [of(rows, 1), of(rows, parts_k(n * rows)), of(1, parts_k(n))]
    });
    // With the same slowest thread, more of them have less to do each.
    let order = |g: &Grid| (cost(g) + more(g), usize::MAX - g.tasks());
    grids.min_by_key(order).unwrap_or(Grid { m: 1, n: 1, k: 1 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Isa;
    use crate::gemm::micro::{Math, kernels};

    #[test]
    fn parts_cover_everything_once() {
        for (len, parts) in [(0, 1), (1, 1), (5, 2), (6, 5), (197, 15), (1000, 7)] {
            let all: Vec<usize> = (0..parts).flat_map(|n| part(len, parts, n)).collect();
            assert_eq!(all, (0..len).collect::<Vec<_>>());
        }
    }

    #[test]
    fn grids_suit_the_shape() {
        let k = kernels(Isa::Scalar, Math::F32).unwrap();
        let of = |shape, threads, packs, splits_k| {
            let per_unit = 1;
            grid(
                shape,
                threads,
                k,
                Costs {
                    per_unit,
                    packs,
                    splits_k,
                },
            )
        };
        let by_columns = Grid { m: 1, n: 2, k: 1 };
        assert_eq!(of([128, 768, 768], 2, true, true), by_columns);
        assert_eq!(of([4, 4, 4], 16, true, true).tasks(), 1);
        let by_rows = Grid { m: 2, n: 1, k: 1 };
        assert_eq!(of([4000, 16, 768], 2, false, true), by_rows);
        let deep = of([8, 16, 1 << 20], 4, false, true);
        assert!(deep.k > 1 && deep.tasks() <= 4, "{deep:?}");
        assert_eq!(of([8, 16, 1 << 20], 4, false, false).k, 1);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn tiles_that_wait_for_memory_read_little() {
        let of = |n, k| {
            let costs = Costs {
                per_unit: 2,
                packs: false,
                splits_k: true,
            };
            grid(
                [128, n, k],
                16,
                &crate::gemm::micro::amx_tests::IN_MEMORY,
                costs,
            )
        };
        // Each panel is read once, where A is not the larger part.
        assert_eq!(of(2304, 768), Grid { m: 1, n: 16, k: 1 });
        assert_eq!(of(3072, 768), Grid { m: 1, n: 16, k: 1 });
        assert_eq!(of(768, 768), Grid { m: 2, n: 8, k: 1 });
        // A thread reads a quarter of A's columns.
        assert_eq!(of(768, 3072), Grid { m: 1, n: 4, k: 4 });
    }

    #[test]
    fn conflicts_are_powers_of_two() {
        assert!(conflicts(14, 12288) && conflicts(14, 4096));
        assert!(!conflicts(14, 3072) && !conflicts(14, 3072 + 64));
    }
}
