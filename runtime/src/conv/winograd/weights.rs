//! Transformed weights.

use super::{POINTS, Shape, avx512};
use crate::conv::Threads;
use crate::{Error, pool};

/// `G w Gᵀ` of every filter `w`: `[POINTS, outputs, inputs]`.
pub struct Weights {
    data: *mut f32,
    bytes: usize,
}

// SAFETY: only `new` writes.
unsafe impl Send for Weights {}
// SAFETY: as above.
unsafe impl Sync for Weights {}

impl Drop for Weights {
    fn drop(&mut self) {
        pool::give(self.data.cast(), self.bytes);
    }
}

impl Weights {
    /// Transforms `weight`, `[outputs, inputs, 3, 3]`; an error if there is no memory.
    ///
    /// # Safety
    /// The pointer holds the shape's weights, and the processor has AVX-512.
    pub unsafe fn new(
        shape: &Shape,
        weight: *const f32,
        threads: &dyn Threads,
    ) -> Result<Weights, Error> {
        let pairs = shape.inputs * shape.outputs;
        let (data, bytes) = pool::take((4 * POINTS * pairs).max(pool::SMALLEST))
            .ok_or_else(|| Error::Plan("no memory for transformed weights".into()))?;
        let made = Weights {
            data: data.cast(),
            bytes,
        };
        let (from, to) = (weight as usize, data as usize);
        let grain = 4096_usize.div_ceil(shape.inputs);
        threads.split(shape.outputs, grain, &|begin, end| {
            let first = begin * shape.inputs;
            let count = (end - begin) * shape.inputs;
            // SAFETY: by contract; outputs have rows of their own.
            unsafe {
                let filters = (from as *const [f32; 9]).add(first);
                let filters = std::slice::from_raw_parts(filters, count);
                avx512::transform_filters(filters, (to as *mut f32).add(first), pairs);
            }
        })?;
        Ok(made)
    }

    /// The matrix `[outputs, inputs]` of a point.
    pub(super) fn matrix(&self, shape: &Shape, point: usize) -> *const f32 {
        self.data
            .wrapping_add(point * shape.inputs * shape.outputs)
            .cast_const()
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
