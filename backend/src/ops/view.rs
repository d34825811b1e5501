//! Views.

use super::{NodeCall, OpArg};
use crate::fusion::refusal::Refusal;
use crate::graph::builder::Builder;
use crate::graph::strided::row_major;
use crate::graph::{Op, ValueId, View};

fn push(
    b: &mut Builder,
    c: &NodeCall,
    n: usize,
    view: View,
    v: ValueId,
) -> Result<ValueId, Refusal> {
    b.dtype(v)?;
    let meta = c.output(n)?.clone();
    Ok(b.push(Op::View(view), &[v], meta))
}

/// Every view that keeps the elements in row-major order.
pub fn reshape(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let v = c.tensor(0)?;
    Ok(vec![push(b, c, 0, View::Reshape, v)?])
}

/// `aten.as_strided` that shows all of a row-major tensor in row-major order (the decomposition of a group norm has it).
pub fn as_strided(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let (of, out) = (&b.graph.values[c.tensor(0)?], c.output(0)?);
    let whole = of.numel() == out.numel() && row_major(of) && row_major(out);
    if !whole || !matches!(c.arg(3), OpArg::None) {
        return c.refuse("other elements, or another order");
    }
    reshape(b, c)
}

/// `aten.expand`
pub fn expand(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    b.dtype(c.tensor(0)?)?;
    Ok(vec![b.expand(c.tensor(0)?, &c.output(0)?.sizes)])
}

/// `aten.permute`
pub fn permute(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let v = c.tensor(0)?;
    let rank = b.sizes(v).len() as i64;
    let perm = c
        .ints(1)?
        .iter()
        .map(|&d| (if d < 0 { d + rank } else { d }) as usize)
        .collect();
    Ok(vec![push(b, c, 0, View::Permute(perm), v)?])
}

/// `aten.t`
pub fn t(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let v = c.tensor(0)?;
    let perm = (0..b.sizes(v).len()).rev().collect();
    Ok(vec![push(b, c, 0, View::Permute(perm), v)?])
}

/// `aten.transpose.int`
pub fn transpose(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let v = c.tensor(0)?;
    let rank = b.sizes(v).len();
    let mut perm: Vec<usize> = (0..rank).collect();
    if rank > 0 {
        perm.swap(c.dim(1, rank)?, c.dim(2, rank)?);
    }
    Ok(vec![push(b, c, 0, View::Permute(perm), v)?])
}

/// The part of dim `d` from `start` in steps of `step`, as long as `sizes` says.
pub fn part(
    b: &mut Builder,
    v: ValueId,
    d: usize,
    start: i64,
    step: i64,
    len: i64,
) -> Result<ValueId, Refusal> {
    let mut sizes = b.sizes(v);
    let (mut starts, mut steps) = (vec![0; sizes.len()], vec![1; sizes.len()]);
    (starts[d], steps[d], sizes[d]) = (start, step, len);
    let meta = b.meta(b.dtype(v)?, &sizes);
    Ok(b.push(
        Op::View(View::Slice {
            start: starts,
            step: steps,
        }),
        &[v],
        meta,
    ))
}

/// `aten.select.int`
pub fn select(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let v = c.tensor(0)?;
    let sizes = b.sizes(v);
    let d = c.dim(1, sizes.len())?;
    let at = c.int(2)?;
    let at = if at < 0 { at + sizes[d] } else { at };
    let v = part(b, v, d, at, 1, 1)?;
    Ok(vec![push(b, c, 0, View::Reshape, v)?])
}

/// `aten.slice.Tensor`
pub fn slice(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let v = c.tensor(0)?;
    let sizes = b.sizes(v);
    let d = c.dim(1, sizes.len())?;
    let start = if matches!(c.arg(2), OpArg::None) {
        0
    } else {
        c.int(2)?
    };
    let start = if start < 0 { start + sizes[d] } else { start }.clamp(0, sizes[d]);
    let step = if matches!(c.arg(4), OpArg::None) {
        1
    } else {
        c.int(4)?
    };
    Ok(vec![part(b, v, d, start, step, c.output(0)?.sizes[d])?])
}

/// `aten.split.Tensor`, `aten.split_with_sizes`
pub fn split(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let v = c.tensor(0)?;
    let d = c.dim(2, b.sizes(v).len())?;
    let mut start = 0;
    let mut parts = Vec::with_capacity(c.outputs.len());
    for n in 0..c.outputs.len() {
        let len = c.output(n)?.sizes[d];
        parts.push(part(b, v, d, start, 1, len)?);
        start += len;
    }
    Ok(parts)
}
