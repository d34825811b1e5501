//! One kernel on many sets of tensors, as one loop for the threads.

use super::{BufferId, KernelCode};
use std::sync::Arc;

/// A kernel's calls, none of which depends on another.
#[derive(Clone)]
#[expect(missing_docs, reason = "the fields are named by their role")]
pub struct BatchStep {
    /// For people: the operators in it.
    pub name: Arc<str>,
    pub code: KernelCode,
    /// Buffer and byte offset for each parameter of each call.
    pub args: Vec<(BufferId, i64)>,
    /// For each call the iterations of all calls up to its end.
    pub ends: Vec<i64>,
    /// Iterations under which a split over threads does not pay.
    pub grain: i64,
}

impl BatchStep {
    /// Iterations of all calls.
    pub fn extent(&self) -> i64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Runs iterations `begin..end` of all of them.
    ///
    /// # Safety
    /// `args` points to a pointer for each of the step's, each to what the kernel addresses.
    pub unsafe fn run(&self, args: *const *mut u8, begin: i64, end: i64) {
        let params = self.args.len() / self.ends.len().max(1);
        let mut call = self.ends.partition_point(|&e| e <= begin);
        let mut at = begin;
        while at < end {
            let first = if call == 0 { 0 } else { self.ends[call - 1] };
            let stop = end.min(self.ends[call]);
            // SAFETY: the call's own arguments, for a part of its iterations.
            unsafe { (self.code.entry)(args.add(call * params), at - first, stop - first) };
            (at, call) = (stop, call + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds the range to what the first argument points to.
    unsafe extern "C" fn note(args: *const *mut u8, begin: i64, end: i64) {
        // SAFETY: the test passes vectors.
        unsafe { (**args.cast::<*mut Vec<(i64, i64)>>()).push((begin, end)) }
    }

    #[test]
    fn a_range_is_cut_at_the_ends_of_calls() {
        let step = BatchStep {
            name: "".into(),
            code: KernelCode {
                entry: note,
                code: Arc::new(()),
                device: Err("none".into()),
            },
            args: vec![(BufferId(0), 0); 3],
            ends: vec![4, 5, 12],
            grain: 1,
        };
        let ranges = |begin, end| {
            let mut seen: [Vec<(i64, i64)>; 3] = Default::default();
            let args: Vec<*mut u8> = seen
                .iter_mut()
                .map(|v| std::ptr::from_mut(v).cast())
                .collect();
            // SAFETY: three calls with one argument each.
            unsafe { step.run(args.as_ptr(), begin, end) };
            seen
        };
        assert_eq!(ranges(0, 12), [vec![(0, 4)], vec![(0, 1)], vec![(0, 7)]]);
        assert_eq!(ranges(2, 6), [vec![(2, 4)], vec![(0, 1)], vec![(0, 1)]]);
        assert_eq!(ranges(5, 7), [vec![], vec![], vec![(0, 2)]]);
        assert_eq!(step.extent(), 12);
    }
}
