//! Attention on the device.

use super::super::{AttentionStep, Plan, TensorRef};
use super::state::{State, cached};
use super::{OnDevice, failed};
use crate::attention::{Attention, MaskKind, MaskedRows, Tensor};
use crate::level_zero::Argument;
use crate::level_zero::pack::{self, Packing};
use crate::level_zero::product::Operand;
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

fn strides<'a>(t: &Tensor, n: usize) -> impl Iterator<Item = Argument<'a>> + use<'a> {
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

/// Queries from which packing keys and values for matrix instructions pays: each is then read so often.
const PACKED_FROM: usize = 4;
/// Keys of a step of that kernel.
const KEYS: usize = 32;

/// Whether the matrix instructions' kernel is for this; it reads the columns of queries as neighbours.
fn suits_instructions(a: &Attention) -> bool {
    let some = a.depth > 0 && a.width > 0 && a.keys > 0;
    some && a.queries >= PACKED_FROM && a.q.strides[3] == 1
}

/// Keys and values as that kernel reads them, with `width` columns of either.
fn packings(a: &Attention, width: usize, lanes: u32) -> [Packing; 2] {
    let packing = |t: &Tensor, [columns, rows]: [usize; 2], strides: [usize; 2], padded| {
        let [batch, head] = [t.strides[0], t.strides[1]].map(|s| s as i64);
        let [row, column] = strides.map(|d| t.strides[d] as i64);
        Packing {
            bytes: 2,
            from: Operand {
                data: t.data,
                strides: [batch, row, column],
            },
            inner: (a.kv_heads, head),
            sizes: [a.batch * a.kv_heads, columns, rows],
            padded,
            halves: false,
        }
    };
    let keys = a.keys.next_multiple_of(KEYS);
    // q k^T has the keys as columns, and sums over the columns of both.
    let k = packing(&a.k, [a.keys, a.depth], [3, 2], [keys, width]);
    let v = packing(&a.v, [a.width, a.keys], [2, 3], [width, keys]);
    // A lane of 8 has weights of two blocks of keys.
    let halves = lanes == 8;
    [k, Packing { halves, ..v }]
}

/// What the kernels take alike, but for the strides of keys and values, which only one has.
fn arguments<'a>(a: &Attention, [k, v]: [Argument<'a>; 2], packed: bool) -> Vec<Argument<'a>> {
    let none = Tensor {
        data: std::ptr::null(),
        dtype: DType::F32,
        strides: [0; 4],
    };
    let (mask, lse) = (a.mask.unwrap_or(none), a.lse.unwrap_or(none));
    let (kind, fill) = mask_kind(a);
    let [q, of_mask, out, of_lse] = [&a.q, &mask, &a.out, &lse].map(|t| Argument::Address(t.data));
    let mut all = vec![q, k, v, of_mask, out, of_lse];
    let shared = a.heads / a.kv_heads.max(1);
    let sizes = [a.heads, shared, a.queries, a.keys, a.depth, a.width];
    all.extend(sizes.map(|n| Argument::I32(n as i32)));
    match packed {
        true => all.extend(strides(&a.q, 3)),
        false => all.extend([&a.q, &a.k, &a.v].into_iter().flat_map(|t| strides(t, 4))),
    }
    all.extend(strides(&mask, 4));
    all.extend(strides(&a.out, 3));
    all.extend(strides(&lse, 3));
    all.extend([
        Argument::F32(a.rule.scale),
        Argument::I32(a.rule.causal.into()),
    ]);
    if !packed {
        all.extend([kind, mask_type(mask.dtype)].map(Argument::I32));
    }
    all.extend([
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
        if suits_instructions(&a) && self.flash(n, &a, state)? {
            return Ok(());
        }
        let State {
            kernels, stream, ..
        } = state;
        let kernel = cached(kernels, (n, 0), || {
            self.library.attention(a.q.dtype)?.kernel("attention")
        })?;
        let groups = [a.queries, a.heads, a.batch].map(|n| n as u32);
        let operands = [&a.k, &a.v].map(|t| Argument::Address(t.data));
        let arguments = arguments(&a, operands, false);
        // SAFETY: the plan's tensors lie in their buffers, which the state keeps.
        unsafe { stream.launch(kernel, groups, &arguments, None) }.map_err(failed)?;
        self.launched(1);
        Ok(())
    }

    /// Queues an attention by matrix instructions; false if there is no kernel for it.
    fn flash(&self, n: usize, a: &Attention, state: &mut State) -> Result<bool, Error> {
        let (mask, device) = (
            a.mask.map_or(0, |m| mask_type(m.dtype)),
            &self.target.device,
        );
        let widest = a.depth.max(a.width);
        let flash = self.library.flash(a.q.dtype, widest, mask_kind(a).0, mask);
        let Some((module, width)) = flash.map_err(failed)? else {
            return Ok(false);
        };
        let State {
            kernels, stream, ..
        } = state;
        let lanes = device.architecture().matrix_sub_group().unwrap_or(8);
        let kernel = cached(kernels, (n, 1), || {
            pack::pack_kernel(&self.library, a.q.dtype)
        })?;
        let mut packed = Vec::new();
        for packing in packings(a, width, lanes) {
            packed.push(pack::pack_as(kernel, device, stream, &packing).map_err(failed)?);
        }
        let kernel = cached(kernels, (n, 2), || module.kernel("attention"))?;
        let groups = [a.queries.div_ceil(8), a.heads, a.batch].map(|n| n as u32);
        let operands = [&packed[0], &packed[1]].map(|p| Argument::Memory(p.words(), 0));
        // SAFETY: as above.
        unsafe { stream.launch(kernel, groups, &arguments(a, operands, true), None) }
            .map_err(failed)?;
        self.launched(3);
        Ok(true)
    }
}
