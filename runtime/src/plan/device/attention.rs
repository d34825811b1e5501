//! Attention on the device.

use super::super::{AttentionStep, Plan, TensorRef};
use super::state::{State, cached};
use super::{OnDevice, failed};
use crate::attention::{Attention, MaskKind, MaskedRows, Tensor};
use crate::level_zero::Argument;
use crate::{DType, Error};

/// Columns of values that the kernel has room for: 8 for each of 64 items.
const WIDEST: usize = 512;

/// Why the kernel does not compute this.
pub fn refusal(step: &AttentionStep) -> Option<String> {
    let Some(a) = step.shape(|_| std::ptr::null_mut()) else {
        return Some("sizes that do not fit".into());
    };
    (a.width > WIDEST).then(|| format!("{} columns of values are too many", a.width))
}

fn strides(t: &Tensor, n: usize) -> impl Iterator<Item = Argument<'static>> {
    let strides = t.strides;
    (0..n).map(move |k| Argument::I64(strides[k] as i64))
}

/// The kernel's number of a mask's type.
fn mask_type(dtype: DType) -> i32 {
    match dtype {
        DType::F32 => 0,
        DType::F16 => 1,
        _ => 2,
    }
}

/// What the mask does (`mask.h`), and the number that it may put in place of scores.
fn mask_kind(a: &Attention) -> (i32, f32) {
    let is_bool = a.mask.is_some_and(|m| m.dtype == DType::Bool);
    match a.rule.mask {
        None => (0, 0.0),
        Some(MaskKind::Add) if is_bool => (2, 0.0),
        Some(MaskKind::Add) => (1, 0.0),
        Some(MaskKind::Keep(fill)) => (3, fill),
    }
}

/// Whether columns of queries, keys and values are neighbours: the matrix instructions' kernel reads them so.
fn has_dense_rows(a: &Attention) -> bool {
    a.depth > 0 && a.width > 0 && [&a.q, &a.k, &a.v].iter().all(|t| t.strides[3] == 1)
}

fn arguments(a: &Attention) -> Vec<Argument<'static>> {
    let none = Tensor {
        data: std::ptr::null(),
        dtype: DType::F32,
        strides: [0; 4],
    };
    let (mask, lse) = (a.mask.unwrap_or(none), a.lse.unwrap_or(none));
    let (kind, fill) = mask_kind(a);
    let mut all: Vec<Argument> = [&a.q, &a.k, &a.v, &mask, &a.out, &lse]
        .map(|t| Argument::Address(t.data))
        .to_vec();
    let shared = a.heads / a.kv_heads.max(1);
    let sizes = [a.heads, shared, a.queries, a.keys, a.depth, a.width];
    all.extend(sizes.map(|n| Argument::I32(n as i32)));
    for t in [&a.q, &a.k, &a.v, &mask] {
        all.extend(strides(t, 4));
    }
    all.extend(strides(&a.out, 3));
    all.extend(strides(&lse, 3));
    all.extend([
        Argument::F32(a.rule.scale),
        Argument::I32(a.rule.causal.into()),
        Argument::I32(kind),
        Argument::I32(mask_type(mask.dtype)),
        Argument::F32(fill),
        Argument::I32((a.rule.masked_rows == MaskedRows::Zero).into()),
        Argument::I32(a.lse.is_some().into()),
    ]);
    all
}

impl OnDevice {
    /// Queues an attention.
    pub(in crate::plan) fn attention(
        &self,
        plan: &Plan,
        n: usize,
        step: &AttentionStep,
        state: &mut State,
        data: &[*mut u8],
    ) -> Result<(), Error> {
        let mut addresses = Vec::new();
        for t in [&step.q, &step.k, &step.v].into_iter().chain(&step.mask) {
            let host = data[t.buffer.0 as usize];
            addresses.push((t.buffer, self.read(plan, state, t.buffer, host)?));
        }
        for t in [&step.out].into_iter().chain(&step.lse) {
            let host = data[t.buffer.0 as usize];
            addresses.push((t.buffer, self.write(plan, state, t.buffer, host)?));
        }
        let find = |t: &TensorRef| {
            let found = addresses.iter().find(|(b, _)| *b == t.buffer);
            found.map_or(std::ptr::null_mut(), |(_, a)| a.cast_mut())
        };
        let a = step.shape(find);
        let a = a.ok_or_else(|| Error::Plan(format!("{} is no attention", step.name)))?;
        let widest = a.depth.max(a.width);
        let module = if has_dense_rows(&a) {
            let mask = a.mask.map_or(0, |m| mask_type(m.dtype));
            let flash = self.library.flash(a.q.dtype, widest, mask_kind(&a).0, mask);
            flash.map_err(failed)?
        } else {
            None
        };
        // The kernel by matrix instructions has 8 queries in a group.
        let rows = if module.is_some() { 8 } else { 1 };
        let State {
            kernels, stream, ..
        } = state;
        let kernel = cached(kernels, (n, 0), || match module {
            Some(module) => module.kernel("attention"),
            None => self.library.attention(a.q.dtype)?.kernel("attention"),
        })?;
        let groups = [a.queries.div_ceil(rows), a.heads, a.batch].map(|n| n as u32);
        // SAFETY: the plan's tensors lie in their buffers, which the state keeps.
        unsafe { stream.launch(kernel, groups, &arguments(&a), None) }.map_err(failed)?;
        self.launched(1);
        Ok(())
    }
}
