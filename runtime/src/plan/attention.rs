//! Attention of a plan.

use super::{CallArg, ExternalCall, Route, TensorRef};
use crate::aten::Aten;
use crate::attention::{Attention, Rule, Tensor, attend};
use crate::cpu::Isa;
use crate::{DType, Error};

/// `out = softmax(scale * q k^T + mask) v`, see [`Attention`].
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are named by their role")]
pub struct AttentionStep {
    /// For messages.
    pub name: String,
    pub rule: Rule,
    /// `[batch, heads, queries, depth]`
    pub q: TensorRef,
    /// `[batch, kv_heads, keys, depth]`
    pub k: TensorRef,
    /// `[batch, kv_heads, keys, width]`
    pub v: TensorRef,
    /// `[batch, heads, queries, keys]`, perhaps of strides 0
    pub mask: Option<TensorRef>,
    /// `[batch, heads, queries, width]`
    pub out: TensorRef,
    /// `[batch, heads, queries]`
    pub lse: Option<TensorRef>,
}

impl AttentionStep {
    /// The step for a call of [`Route::Attention`]; none if the call is another, or its tensors are not those
    /// of an attention.
    pub fn of(call: &ExternalCall) -> Option<AttentionStep> {
        let Route::Attention(rule) = call.route else {
            return None;
        };
        use CallArg::Tensor;
        let (q, k, v, mask) = match call.args.as_slice() {
            [Tensor(q), Tensor(k), Tensor(v)] => (q, k, v, None),
            [Tensor(q), Tensor(k), Tensor(v), Tensor(mask)] => (q, k, v, Some(mask.clone())),
            _ => return None,
        };
        let (out, lse) = match call.outputs.as_slice() {
            [Some(out)] => (out, None),
            [Some(out), lse] => (out, lse.clone()),
            _ => return None,
        };
        let step = AttentionStep {
            name: call.name.clone(),
            rule,
            q: q.clone(),
            k: k.clone(),
            v: v.clone(),
            mask,
            out: out.clone(),
            lse,
        };
        let attention = step.shape(|_| std::ptr::null_mut())?;
        attention.is_supported().then_some(step)
    }

    /// The attention, with the buffers' first bytes; none if sizes or types do not fit.
    pub(super) fn shape(&self, data: impl Fn(&TensorRef) -> *mut u8) -> Option<Attention> {
        let tensor = |t: &TensorRef, sizes: [i64; 4]| {
            let dtype = DType::from_torch(t.scalar_type)?;
            let mut strides = [0; 4];
            // The sums of a row have no columns.
            for (to, &s) in strides.iter_mut().zip(&t.strides) {
                *to = s as isize;
            }
            let fits = t.sizes == sizes || (t.sizes == sizes[..3] && sizes[3] == 1);
            let at = t.offset as isize * dtype.size() as isize;
            fits.then(|| Tensor {
                data: data(t).wrapping_offset(at),
                dtype,
                strides,
            })
        };
        let (&[batch, heads, queries, depth], &[_, kv_heads, keys, _], &[.., width]) = (
            self.q.sizes.as_slice(),
            self.k.sizes.as_slice(),
            self.v.sizes.as_slice(),
        ) else {
            return None;
        };
        let optional = |t: &Option<TensorRef>, sizes: [i64; 4]| match t {
            Some(t) => tensor(t, sizes).map(Some),
            None => Some(None),
        };
        Some(Attention {
            batch: batch as usize,
            heads: heads as usize,
            kv_heads: kv_heads as usize,
            queries: queries as usize,
            keys: keys as usize,
            depth: depth as usize,
            width: width as usize,
            q: tensor(&self.q, [batch, heads, queries, depth])?,
            k: tensor(&self.k, [batch, kv_heads, keys, depth])?,
            v: tensor(&self.v, [batch, kv_heads, keys, width])?,
            mask: optional(&self.mask, [batch, heads, queries, keys])?,
            out: tensor(&self.out, [batch, heads, queries, width])?,
            lse: optional(&self.lse, [batch, heads, queries, 1])?,
            rule: self.rule,
        })
    }

    /// Computes it. `data` holds the first byte of each buffer.
    ///
    /// # Safety
    /// The buffers hold what the step's tensors address.
    pub unsafe fn run(&self, data: &[*mut u8], aten: &'static Aten) -> Result<(), Error> {
        let attention = self.shape(|t| data[t.buffer.0 as usize]);
        let attention =
            attention.ok_or_else(|| Error::Plan(format!("{} is no attention", self.name)))?;
        // SAFETY: by contract.
        unsafe { attend(&attention, Isa::detect(), aten) }
    }
}
