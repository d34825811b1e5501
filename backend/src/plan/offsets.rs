//! Arena offsets of buffers from their lifetimes.

/// Alignment of every arena buffer.
pub const ALIGN: u64 = 64;

/// A buffer's lifetime in steps, both ends included, and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// The step that first writes it.
    pub first: u32,
    /// The last step that touches it.
    pub last: u32,
    /// Size.
    pub bytes: u64,
}

/// Offsets, and the arena's size: largest first, each into the lowest gap that is free during its
/// whole lifetime.
pub fn assign(intervals: &[Interval]) -> (Vec<u64>, u64) {
    let mut order: Vec<usize> = (0..intervals.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(intervals[i].bytes), i));
    let mut offsets = vec![0; intervals.len()];
    let mut placed: Vec<usize> = Vec::new(); // sorted by offset
    let mut total = 0;
    for i in order {
        let a = intervals[i];
        let size = a.bytes.next_multiple_of(ALIGN);
        let mut at = 0;
        for &j in &placed {
            let b = intervals[j];
            if b.last < a.first || a.last < b.first {
                continue;
            }
            if offsets[j] >= at + size {
                break;
            }
            at = at.max(offsets[j] + b.bytes.next_multiple_of(ALIGN));
        }
        offsets[i] = at;
        total = total.max(at + size);
        let slot = placed.partition_point(|&j| offsets[j] <= at);
        placed.insert(slot, i);
    }
    (offsets, total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn live_buffers_never_overlap(
            raw in prop::collection::vec((0u32..20, 0u32..6, 0u64..1000), 0..40)
        ) {
            let v: Vec<Interval> = raw
                .iter()
                .map(|&(first, len, bytes)| Interval { first, last: first + len, bytes })
                .collect();
            let (at, total) = assign(&v);
            for i in 0..v.len() {
                prop_assert!(at[i] % ALIGN == 0 && at[i] + v[i].bytes <= total);
                for j in 0..i {
                    let together = v[i].first <= v[j].last && v[j].first <= v[i].last;
                    let apart = at[i] + v[i].bytes <= at[j] || at[j] + v[j].bytes <= at[i];
                    prop_assert!(!together || apart);
                }
            }
        }
    }
}
