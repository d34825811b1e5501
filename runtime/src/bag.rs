//! Bags of embeddings: rows of a table, gathered and reduced bag by bag.

use half::{bf16, f16};
use std::ops::Range;

/// What becomes of the rows of a bag; of an empty one, zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are PyTorch's")]
pub enum Reduction {
    Sum,
    Mean,
    Max,
}

/// An element of a table, and the type that it is summed in.
pub trait Element: Copy + Send + Sync {
    /// f32, or f64 for itself.
    type Wide: Wide;
    /// Exactly.
    fn widen(self) -> Self::Wide;
    /// Rounded.
    fn narrow(wide: Self::Wide) -> Self;
}

/// A type of sums.
#[expect(missing_docs, reason = "the names say it")]
pub trait Wide: Copy + PartialOrd + Send + Sync {
    const ZERO: Self;
    fn add(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn over(self, n: usize) -> Self;
}

macro_rules! wide {
    ($ty:ty) => {
        impl Wide for $ty {
            const ZERO: Self = 0.0;
            fn add(self, other: Self) -> Self {
                self + other
            }
            fn mul(self, other: Self) -> Self {
                self * other
            }
            fn over(self, n: usize) -> Self {
                self / n as $ty
            }
        }
    };
}
wide!(f32);
wide!(f64);

macro_rules! element {
    ($ty:ty, $wide:ty, $widen:expr, $narrow:expr) => {
        impl Element for $ty {
            type Wide = $wide;
            fn widen(self) -> $wide {
                $widen(self)
            }
            fn narrow(wide: $wide) -> Self {
                $narrow(wide)
            }
        }
    };
}
element!(f32, f32, |x| x, |x| x);
element!(f64, f64, |x| x, |x| x);
element!(bf16, f32, bf16::to_f32, bf16::from_f32);
element!(f16, f32, f16::to_f32, f16::from_f32);

/// The bags of one call.
pub struct Bags<'a, T> {
    /// The reduction.
    pub reduction: Reduction,
    /// `[rows, width]`, row-major.
    pub table: &'a [T],
    /// Elements of a row.
    pub width: usize,
    /// Rows of the table, all bags behind each other. Those that are none are left out.
    pub indices: &'a [usize],
    /// A factor for each of `indices`; only sums have them.
    pub weights: Option<&'a [T]>,
    /// The part of `indices` of each bag.
    pub parts: &'a [Range<usize>],
}

/// Stands among the indices for one that does not count: PyTorch's `padding_idx`.
pub const PADDING: usize = usize::MAX;

impl<T: Element> Bags<'_, T> {
    /// Writes the rows of `out`, `[.., width]`, from bag `first` on.
    ///
    /// # Panics
    /// If an index, a part or a number of weights is out of range.
    pub fn reduce(&self, first: usize, out: &mut [T]) {
        let mut sums = vec![T::Wide::ZERO; self.width];
        let bags = out.chunks_exact_mut(self.width.max(1));
        for (row, part) in bags.zip(&self.parts[first..]) {
            sums.fill(T::Wide::ZERO);
            let count = self.accumulate(part.clone(), &mut sums);
            for (to, &sum) in row.iter_mut().zip(&sums) {
                *to = T::narrow(match self.reduction {
                    Reduction::Mean if count > 1 => sum.over(count),
                    _ => sum,
                });
            }
        }
    }

    /// Adds up a bag; the number of its rows.
    fn accumulate(&self, part: Range<usize>, sums: &mut [T::Wide]) -> usize {
        let mut count = 0;
        for at in part {
            let index = self.indices[at];
            if index == PADDING {
                continue;
            }
            let row = &self.table[index * self.width..][..self.width];
            let pairs = sums.iter_mut().zip(row);
            match (self.reduction, self.weights) {
                (Reduction::Max, _) if count == 0 => pairs.for_each(|(s, x)| *s = x.widen()),
                // As eager: what is not above the first, like a NaN, does not replace it.
                (Reduction::Max, _) => pairs.for_each(|(s, x)| {
                    if x.widen() > *s {
                        *s = x.widen();
                    }
                }),
                (_, None) => pairs.for_each(|(s, x)| *s = s.add(x.widen())),
                (_, Some(weights)) => {
                    let weight = weights[at].widen();
                    pairs.for_each(|(s, x)| *s = s.add(x.widen().mul(weight)));
                }
            }
            count += 1;
        }
        count
    }
}

/// The part of the indices of each bag; none if the offsets are not ascending from 0 to at most the number of indices.
/// With `ends`, the last offset is the end of the last bag.
pub fn parts(
    offsets: impl Iterator<Item = i64>,
    indices: usize,
    ends: bool,
) -> Option<Vec<Range<usize>>> {
    let mut at = offsets
        .map(usize::try_from)
        .collect::<Result<Vec<_>, _>>()
        .ok()?;
    if !ends {
        at.push(indices);
    }
    let ascending = at.windows(2).all(|pair| pair[0] <= pair[1]);
    let inside = at.last().is_none_or(|&end| end == indices);
    let fits = ascending && inside && at.first().is_none_or(|&start| start == 0);
    fits.then(|| at.windows(2).map(|pair| pair[0]..pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reduced(reduction: Reduction, weights: Option<&[f32]>, offsets: &[i64]) -> Vec<f32> {
        let table = [1.0, -1.0, 2.0, -2.0, f32::NAN, 5.0];
        let indices = [1, 0, PADDING, 1, 2];
        let parts = parts(offsets.iter().copied(), indices.len(), false).unwrap();
        let bags = Bags {
            reduction,
            table: &table,
            width: 2,
            indices: &indices,
            weights,
            parts: &parts,
        };
        let mut out = vec![7.0; 2 * parts.len()];
        bags.reduce(0, &mut out);
        let (head, tail) = out.split_at_mut(2);
        let mut again = vec![7.0; tail.len()];
        bags.reduce(1, &mut again);
        assert_eq!(format!("{again:?}"), format!("{tail:?}"));
        [head, tail].concat()
    }

    #[test]
    fn reductions() {
        // The second bag is empty, padding counts nowhere.
        let offsets = [0, 4, 4];
        let sum = reduced(Reduction::Sum, None, &offsets);
        assert_eq!(sum[..4], [5.0, -5.0, 0.0, 0.0]);
        assert!(sum[4].is_nan() && sum[5] == 5.0);
        let mean = reduced(Reduction::Mean, None, &offsets);
        assert_eq!(mean[..4], [5.0 / 3.0, -5.0 / 3.0, 0.0, 0.0]);
        let max = reduced(Reduction::Max, None, &offsets);
        assert_eq!(max[..4], [2.0, -1.0, 0.0, 0.0]);
        let weighted = reduced(Reduction::Sum, Some(&[0.5, 2.0, 9.0, -1.0, 1.0]), &offsets);
        assert_eq!(weighted[..4], [1.0, -1.0, 0.0, 0.0]);
        // A NaN is above nothing, and nothing is above it.
        let max = reduced(Reduction::Max, None, &[0, 3]);
        assert_eq!(max[2..], [2.0, 5.0]);
    }

    #[test]
    fn offsets_that_are_none() {
        let parts = |offsets: &[i64], ends| super::parts(offsets.iter().copied(), 4, ends);
        assert_eq!(parts(&[0, 1], false), Some(vec![0..1, 1..4]));
        assert_eq!(parts(&[0, 1, 4], true), Some(vec![0..1, 1..4]));
        for wrong in [&[1, 2][..], &[0, 3, 2], &[0, 5], &[0, -1]] {
            assert_eq!(parts(wrong, false), None, "{wrong:?}");
        }
        assert_eq!(parts(&[0, 1, 3], true), None);
    }
}
