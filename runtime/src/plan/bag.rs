//! Bags of embeddings of a plan.

use super::{CallArg, Callable, ExternalCall, Route, TensorRef};
use crate::aten::{Aten, Tensor};
use crate::bag::{Bags, Element, PADDING, Reduction, parts};
use crate::{DType, Error};
use half::{bf16, f16};
use std::ops::Range;

/// The settings of a call of `aten._embedding_bag`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The reduction.
    pub reduction: Reduction,
    /// The last offset is the end of the last bag.
    pub ends: bool,
    /// An index that does not count; negative if there is none.
    pub padding: i64,
}

/// Elements worth a second thread.
const GRAIN: usize = 16_384;

/// `out[b] = reduction of table[indices[offsets[b]..offsets[b + 1]]]`
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are named by their role")]
pub struct BagStep {
    pub rule: Rule,
    /// What ATen would do: it raises what eager raises for indices and offsets that are wrong.
    pub callable: Callable,
    /// `[rows, width]`
    pub table: TensorRef,
    /// i32 or i64, `[n]`
    pub indices: TensorRef,
    /// As the indices, `[bags]`, or one more.
    pub offsets: TensorRef,
    /// `[n]`, of the table's type
    pub weights: Option<TensorRef>,
    /// `[bags, width]`, row-major, of the table's type; the whole of a buffer that the step makes
    pub out: TensorRef,
}

impl BagStep {
    /// The step for a call of [`Route::Bag`]; none if the call is another.
    pub fn of(call: &ExternalCall) -> Option<BagStep> {
        let Route::Bag(rule, callable) = &call.route else {
            return None;
        };
        use CallArg::Tensor;
        let (table, indices, offsets, weights) = match call.args.as_slice() {
            [Tensor(t), Tensor(i), Tensor(o)] => (t, i, o, None),
            [Tensor(t), Tensor(i), Tensor(o), Tensor(w)] => (t, i, o, Some(w.clone())),
            _ => return None,
        };
        Some(BagStep {
            rule: *rule,
            callable: callable.clone(),
            table: table.clone(),
            indices: indices.clone(),
            offsets: offsets.clone(),
            weights,
            out: call.outputs.first()?.clone()?,
        })
    }

    /// Computes the result; none if ATen must look at the arguments. `data` holds the first byte of each buffer.
    ///
    /// # Safety
    /// The buffers hold what the step's tensors address.
    pub unsafe fn run(
        &self,
        data: &[*mut u8],
        aten: &'static Aten,
    ) -> Result<Option<Tensor>, Error> {
        // SAFETY: by contract.
        unsafe {
            match DType::from_torch(self.table.scalar_type) {
                Some(DType::F32) => self.reduce::<f32>(data, aten),
                Some(DType::F64) => self.reduce::<f64>(data, aten),
                Some(DType::BF16) => self.reduce::<bf16>(data, aten),
                Some(DType::F16) => self.reduce::<f16>(data, aten),
                _ => Ok(None),
            }
        }
    }

    unsafe fn reduce<T: Element>(
        &self,
        data: &[*mut u8],
        aten: &'static Aten,
    ) -> Result<Option<Tensor>, Error> {
        // SAFETY: by contract.
        let Some(Arguments {
            table,
            weights,
            indices,
            parts,
        }) = (unsafe { self.arguments::<T>(data) })
        else {
            return Ok(None);
        };
        let (bags, width) = (parts.len(), self.table.sizes[1] as usize);
        let bytes = bags * width * size_of::<T>();
        let (sizes, strides) = (&self.out.sizes, &self.out.strides);
        let out = Tensor::result(aten, sizes, strides, self.out.scalar_type, bytes)?;
        let all = Bags {
            reduction: self.rule.reduction,
            table,
            width,
            indices: &indices,
            weights,
            parts: &parts,
        };
        if bytes > 0 {
            let to = out.data()? as usize;
            let grain = GRAIN * bags / (indices.len() * width).max(1) + 1;
            aten.parallel(bags as i64, grain as i64, &|begin, end| {
                let (begin, end) = (begin as usize, end as usize);
                // SAFETY: the result is row-major, and each thread writes bags of its own.
                let rows = unsafe {
                    let first = (to as *mut T).add(begin * width);
                    std::slice::from_raw_parts_mut(first, (end - begin) * width)
                };
                all.reduce(begin, rows);
            })?;
        }
        Ok(Some(out))
    }

    /// What the buffers hold; none if it does not fit together.
    unsafe fn arguments<'a, T>(&self, data: &[*mut u8]) -> Option<Arguments<'a, T>> {
        // SAFETY: by contract.
        let (table, weights, indices, offsets) = unsafe {
            let weights = match &self.weights {
                Some(weights) => Some(slice::<T>(data, weights)?),
                None => None,
            };
            let indices = integers(data, &self.indices)?;
            let offsets = integers(data, &self.offsets)?;
            (slice::<T>(data, &self.table)?, weights, indices, offsets)
        };
        let rows = self.table.sizes[0];
        let row = |i: i64| match i {
            i if i >= 0 && i == self.rule.padding => Some(PADDING),
            i => (0..rows).contains(&i).then_some(i as usize),
        };
        let indices = indices.into_iter().map(row).collect::<Option<Vec<_>>>()?;
        let parts = parts(offsets.into_iter(), indices.len(), self.rule.ends)?;
        let sizes = [parts.len() as i64, self.table.sizes[1]];
        let fits = weights.is_none_or(|w| w.len() == indices.len()) && self.out.sizes == sizes;
        fits.then_some(Arguments {
            table,
            weights,
            indices,
            parts,
        })
    }
}

/// The tensors of a call, looked through.
struct Arguments<'a, T> {
    table: &'a [T],
    weights: Option<&'a [T]>,
    indices: Vec<usize>,
    parts: Vec<Range<usize>>,
}

/// The elements of a row-major tensor of `T`; none if it is not.
///
/// # Safety
/// The buffers hold what the tensor addresses, for as long as the slice is used.
unsafe fn slice<'a, T>(data: &[*mut u8], t: &TensorRef) -> Option<&'a [T]> {
    let numel = t.sizes.iter().product::<i64>() as usize;
    if !t.is_row_major() {
        return None;
    }
    if numel == 0 {
        return Some(&[]);
    }
    let first = data[t.buffer.0 as usize].cast_const().cast::<T>();
    // SAFETY: by contract.
    Some(unsafe { std::slice::from_raw_parts(first.offset(t.offset as isize), numel) })
}

/// The elements of a row-major tensor of i32 or i64; none if it is not.
///
/// # Safety
/// As [`slice`].
unsafe fn integers(data: &[*mut u8], t: &TensorRef) -> Option<Vec<i64>> {
    // SAFETY: by contract.
    unsafe {
        match DType::from_torch(t.scalar_type)? {
            DType::I32 => Some(slice::<i32>(data, t)?.iter().map(|&i| i.into()).collect()),
            DType::I64 => slice::<i64>(data, t).map(<[i64]>::to_vec),
            _ => None,
        }
    }
}
