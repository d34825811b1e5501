//! Attention by our kernels, or else by ATen.

use super::NodeCall;
use crate::fusion::refusal::Refusal;
use crate::graph::builder::Builder;
use crate::graph::{Meta, Op, ValueId};
use ipex_runtime::DType;
use ipex_runtime::attention::{MaskKind, MaskedRows, Rule};
use ipex_runtime::cpu::Isa;
use ipex_runtime::plan::Route;

/// `aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, dropout_p, is_causal, *, attn_mask, scale)`:
/// what AOTAutograd makes of `scaled_dot_product_attention` on a CPU. What is refused here goes to ATen.
pub fn flash(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    if c.output(0)?.numel() == 0 {
        return nothing(b, c);
    }
    by_arguments(b, c, [3, 4, 6], Some(5))
}

/// `aten._scaled_dot_product_fused_attention_overrideable(query, key, value, attn_bias, dropout_p, is_causal, return_debug_mask, *,
/// scale)`: what `scaled_dot_product_attention` is on an `xpu` device. Only its first result is ours.
pub fn fused(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    first_alone(c)?;
    by_arguments(b, c, [4, 5, 7], Some(3))
}

/// `aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, return_debug_mask, *, scale)`: the same of newer
/// builds.
pub fn flash_on_device(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    first_alone(c)?;
    by_arguments(b, c, [3, 4, 6], None)
}

/// Refuses a call of which more than the first result is read: those are for its gradient alone.
fn first_alone(c: &NodeCall) -> Result<(), Refusal> {
    match c.used.iter().skip(1).any(|&used| used) {
        true => c.refuse("results for the gradient"),
        false => Ok(()),
    }
}

/// An attention whose dropout, causality and scale, and perhaps mask, are these arguments.
fn by_arguments(
    b: &mut Builder,
    c: &NodeCall,
    [dropout, causal, scale]: [usize; 3],
    mask: Option<usize>,
) -> Result<Vec<ValueId>, Refusal> {
    let [q, k, v] = [c.tensor(0)?, c.tensor(1)?, c.tensor(2)?];
    if c.number(dropout)? != 0.0 {
        return c.refuse("dropout");
    }
    let depth = b.sizes(q).last().copied().unwrap_or(0);
    let scale = match c.arg(scale) {
        super::OpArg::None => 1.0 / (depth as f64).sqrt(),
        _ => c.number(scale)?,
    };
    let mask = mask.map(|n| c.optional_tensor(n)).transpose()?.flatten();
    let rule = Rule {
        scale: scale as f32,
        causal: c.flag(causal),
        mask: mask.map(|_| MaskKind::Add),
        masked_rows: MaskedRows::Zero,
    };
    let lse = if c.used.get(1).copied().unwrap_or(true) {
        Some(c.output(1)?.clone())
    } else {
        None
    };
    let parts = Parts {
        q,
        k,
        v,
        mask,
        out: c.output(0)?.clone(),
        lse,
    };
    attention(b, c.target, rule, parts).map_err(|why| why.of(c.target))
}

/// The results without heads, queries or values. (ATen's kernel divides by the number of heads in PyTorch 2.11.)
fn nothing(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let (dtype, sizes) = (c.output_dtype(0)?, &c.output(0)?.sizes);
    let mut results = vec![b.full(dtype, sizes, 0.0)];
    if let Some(Some(lse)) = c.outputs.get(1) {
        if lse.numel() > 0 && c.used.get(1).copied().unwrap_or(true) {
            return c.refuse("values without columns, whose sums are read");
        }
        results.push(b.full(c.output_dtype(1)?, &lse.sizes, 0.0));
    }
    Ok(results)
}

/// Tensors of an attention: queries, keys and values of four dimensions, a mask that is broadcast to
/// `[batch, heads, queries, keys]`, and what the results are like.
#[expect(missing_docs, reason = "the fields are named by their role")]
pub struct Parts {
    pub q: ValueId,
    pub k: ValueId,
    pub v: ValueId,
    pub mask: Option<ValueId>,
    pub out: Meta,
    pub lse: Option<Meta>,
}

/// Why an attention is not one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoKernel {
    /// Of these element types, on this processor.
    #[error("no kernel for these element types on this processor")]
    Dtype,
    /// Not four dimensions that fit each other.
    #[error("sizes that do not fit each other")]
    Sizes,
    /// A tensor without elements.
    #[error("an empty tensor")]
    Empty,
    /// The result's strides.
    #[error("a result of another layout")]
    Layout,
    /// Both are given.
    #[error("a mask beside is_causal")]
    CausalMask,
}

impl NoKernel {
    fn of(self, target: &str) -> Refusal {
        Refusal::Op(format!("{target}: {self}"))
    }
}

/// Appends an attention; its results.
pub fn attention(
    b: &mut Builder,
    name: &str,
    rule: Rule,
    parts: Parts,
) -> Result<Vec<ValueId>, NoKernel> {
    let sizes = check(b, &rule, &parts)?;
    let mut operands = vec![parts.q, parts.k, parts.v];
    operands.extend(parts.mask.map(|m| b.expand(m, &sizes)));
    let op = Op::External {
        name: name.into(),
        route: Route::Attention(rule),
        args: b.graph.tensor_arguments(&operands),
    };
    let metas = std::iter::once(parts.out).chain(parts.lse);
    Ok(b.graph.push_all(op, operands, metas, b.origin))
}

/// The sizes of the scores.
fn check(b: &Builder, rule: &Rule, p: &Parts) -> Result<[i64; 4], NoKernel> {
    let dtype = b.dtype(p.q).map_err(|_| NoKernel::Dtype)?;
    let fast = match dtype {
        DType::F32 | DType::BF16 | DType::F16 if b.graph.gpu => true,
        DType::F32 => Isa::detect() >= Isa::Avx2,
        DType::BF16 => Isa::detect() >= Isa::Avx512Bf16,
        DType::F16 => Isa::detect() >= Isa::Avx512,
        _ => false,
    };
    if !fast || [p.k, p.v].iter().any(|&t| b.dtype(t) != Ok(dtype)) {
        return Err(NoKernel::Dtype);
    }
    let [q, k, v] = [p.q, p.k, p.v].map(|t| b.sizes(t));
    let (&[batch, heads, queries, depth], &[kb, kv_heads, keys, kd], &[vb, vh, vk, width]) =
        (q.as_slice(), k.as_slice(), v.as_slice())
    else {
        return Err(NoKernel::Sizes);
    };
    if [batch, heads, queries, depth, keys, width, kv_heads].contains(&0) {
        return Err(NoKernel::Empty);
    }
    let fits = [kb, vb] == [batch; 2]
        && (kd, vh, vk) == (depth, kv_heads, keys)
        && heads % kv_heads == 0
        && p.out.sizes == [batch, heads, queries, width];
    if !fits {
        return Err(NoKernel::Sizes);
    }
    let scores = [batch, heads, queries, keys];
    if let Some(mask) = p.mask {
        let (from, dtype) = (b.sizes(mask), b.dtype(mask));
        let aligned = from.iter().rev().zip(scores.iter().rev());
        if from.len() > 4 || aligned.into_iter().any(|(&n, &to)| n != 1 && n != to) {
            return Err(NoKernel::Sizes);
        }
        let bools = matches!(rule.mask, Some(MaskKind::Keep(_)));
        let known = match dtype {
            Ok(DType::Bool) => true,
            Ok(DType::F32 | DType::BF16 | DType::F16) => !bools,
            _ => false,
        };
        if !known {
            return Err(NoKernel::Dtype);
        }
        if rule.causal {
            return Err(NoKernel::CausalMask);
        }
    }
    if !p.out.is_dense() || (p.out.strides[3] != 1 && width > 1) {
        return Err(NoKernel::Layout);
    }
    Ok(scores)
}
