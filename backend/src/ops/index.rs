//! Gathers, concatenation, padding, and what they express.

use super::NodeCall;
use super::OpArg;
use super::pointwise::copy;
use super::view::part;
use crate::fusion::refusal::Refusal;
use crate::graph::builder::Builder;
use crate::graph::{Op, ValueId};
use ipex_jit::kernel::{BinaryOp, CmpOp, Const, Type};
use ipex_runtime::DType;
use ipex_runtime::plan::IndexRule;

fn select(
    b: &mut Builder,
    c: &NodeCall,
    dim: usize,
    source: ValueId,
    index: ValueId,
    rule: IndexRule,
) -> Result<Vec<ValueId>, Refusal> {
    if b.dtype(index)? != DType::I64 || b.sizes(source).is_empty() {
        return c.refuse("an index that is not i64");
    }
    let meta = b.meta(b.dtype(source)?, &c.output(0)?.sizes);
    Ok(vec![b.push(
        Op::IndexSelect {
            dims: vec![dim],
            rule,
        },
        &[source, index],
        meta,
    )])
}

/// `aten.embedding`
pub fn embedding(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    select(b, c, 0, c.tensor(0)?, c.tensor(1)?, IndexRule::Select)
}

/// `aten.index_select`
pub fn index_select(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let source = c.tensor(0)?;
    let mut index = c.tensor(2)?;
    if b.sizes(index).is_empty() {
        index = b.reshape(index, &[1]);
    }
    let dim = c.dim(1, b.sizes(source).len())?;
    select(b, c, dim, source, index, IndexRule::Select)
}

/// `aten.index.Tensor` by integers, which broadcast; negative ones count from the end.
pub fn index(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let (source, OpArg::Tensors(list)) = (c.tensor(0)?, c.arg(1)) else {
        return c.refuse("no list");
    };
    let given: Vec<_> = (0..list.len())
        .filter_map(|d| Some((d, list[d]?)))
        .collect();
    let empty = b.graph.values[source].numel() == 0 || c.output(0)?.numel() == 0;
    if given.is_empty() || empty {
        return c.refuse("no index, or an empty tensor");
    }
    let (mut operands, mut shape) = (vec![source], Vec::new());
    for &(dim, index) in &given {
        if !matches!(b.dtype(index)?, DType::I64 | DType::I32) {
            return c.refuse("a mask");
        }
        operands.push(wrapped(b, index, b.sizes(source)[dim])?);
        shape = broadcast(&shape, &b.sizes(index));
    }
    for index in &mut operands[1..] {
        *index = b.expand(*index, &shape);
    }
    let dims = given.iter().map(|g| g.0).collect();
    let rule = IndexRule::Wrapping;
    let meta = b.meta(b.dtype(source)?, &c.output(0)?.sizes);
    Ok(vec![b.push(
        Op::IndexSelect { dims, rule },
        &operands,
        meta,
    )])
}

/// An index into a dimension of this size, negative ones counted from its end.
fn wrapped(b: &mut Builder, index: ValueId, size: i64) -> Result<ValueId, Refusal> {
    let sizes = b.sizes(index);
    let index = b.convert(index, DType::I64)?;
    let zero = b.full(DType::I64, &sizes, 0.0);
    let negative = b.compare(CmpOp::Lt, index, zero);
    let wrapped = b.with(BinaryOp::Add, index, size as f64)?;
    Ok(b.select(negative, wrapped, index))
}

/// The sizes that two shapes without empty dims broadcast to.
fn broadcast(a: &[i64], b: &[i64]) -> Vec<i64> {
    let rank = a.len().max(b.len());
    let size = |of: &[i64], d: usize| (d + of.len()).checked_sub(rank).map_or(1, |k| of[k]);
    (0..rank).map(|d| size(a, d).max(size(b, d))).collect()
}

/// `aten.gather`
pub fn gather(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let (source, index) = (c.tensor(0)?, c.tensor(2)?);
    let (rank, dtype) = (b.sizes(source).len(), b.dtype(index)?);
    let empty = c.output(0)?.numel() == 0;
    if dtype != DType::I64 || rank == 0 || b.sizes(index).len() != rank || empty {
        return c.refuse("an index that is not i64, no dimensions or no elements");
    }
    let dim = c.dim(1, rank)?;
    let meta = b.meta(b.dtype(source)?, &c.output(0)?.sizes);
    let rule = IndexRule::Gather;
    Ok(vec![b.push(
        Op::Gather { dim, rule },
        &[source, index],
        meta,
    )])
}

/// `aten.repeat`
pub fn repeat(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let v = c.tensor(0)?;
    b.dtype(v)?;
    let (sizes, out) = (b.sizes(v), c.output(0)?.sizes.clone());
    if out.is_empty() || c.output(0)?.numel() == 0 {
        return c.refuse("nothing to repeat");
    }
    let added = out.len() - sizes.len();
    let (mut ones, mut expanded) = (Vec::new(), Vec::new());
    for (d, times) in c.ints(1)?.into_iter().enumerate() {
        let n = if d < added { 1 } else { sizes[d - added] };
        ones.extend([1, n]);
        expanded.extend([times, n]);
    }
    let v = b.reshape(v, &ones);
    let v = b.expand(v, &expanded);
    let v = b.reshape(v, &out);
    own(b, c, v)
}

/// Parts side by side along `dim`; the empty ones are left out.
pub fn join(b: &mut Builder, parts: &[ValueId], dim: usize) -> Result<ValueId, Refusal> {
    let mut sizes = b.sizes(parts[0]);
    sizes[dim] = parts.iter().map(|&v| b.sizes(v)[dim]).sum();
    let meta = b.meta(b.dtype(parts[0])?, &sizes);
    let mut kept = parts.to_vec();
    kept.retain(|&v| b.sizes(v)[dim] > 0);
    Ok(match kept.as_slice() {
        [] => parts[0],
        [one] => *one,
        _ => b.push(Op::Cat { dim }, &kept, meta),
    })
}

/// A value of its own: what shows another tensor's elements is copied.
fn own(b: &mut Builder, c: &NodeCall, v: ValueId) -> Result<Vec<ValueId>, Refusal> {
    if matches!(b.graph.producer(v).op, Op::Cat { .. }) {
        return Ok(vec![v]);
    }
    copy(b, c, v)
}

/// `aten.roll`
pub fn roll(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let mut v = c.tensor(0)?;
    let (sizes, shifts) = (b.sizes(v), c.ints(1)?);
    let dims = c.ints(2)?;
    if dims.len() != shifts.len() || b.graph.values[v].numel() == 0 {
        return c.refuse("a roll of the flat tensor");
    }
    for (&d, shift) in dims.iter().zip(shifts) {
        let d = if d < 0 { d + sizes.len() as i64 } else { d } as usize;
        let shift = shift.rem_euclid(sizes[d]);
        let tail = part(b, v, d, sizes[d] - shift, 1, shift)?;
        let head = part(b, v, d, 0, 1, sizes[d] - shift)?;
        v = join(b, &[tail, head], d)?;
    }
    own(b, c, v)
}

/// `aten.slice_scatter`: the operand with a slice of it replaced.
pub fn slice_scatter(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let (v, src) = (c.tensor(0)?, c.tensor(1)?);
    let sizes = b.sizes(v);
    let d = c.dim(2, sizes.len())?;
    let bound = |n: usize, absent: i64| -> Result<i64, Refusal> {
        let at = match c.arg(n) {
            OpArg::None => absent,
            _ => c.int(n)?,
        };
        Ok(if at < 0 { at + sizes[d] } else { at }.clamp(0, sizes[d]))
    };
    let start = bound(3, 0)?;
    let end = bound(4, sizes[d])?.max(start);
    let step = c.int(5)?;
    if step == 1 {
        return replace(b, c, v, src, d, (start, end));
    }
    c.refuse("a step")
}

/// `aten.select_scatter`: the operand with one slice replaced.
pub fn select_scatter(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let (v, src) = (c.tensor(0)?, c.tensor(1)?);
    let mut sizes = b.sizes(v);
    let d = c.dim(2, sizes.len())?;
    let at = c.int(3)?;
    let at = if at < 0 { at + sizes[d] } else { at };
    sizes[d] = 1;
    let src = b.reshape(src, &sizes);
    replace(b, c, v, src, d, (at, at + 1))
}

fn replace(
    b: &mut Builder,
    c: &NodeCall,
    v: ValueId,
    src: ValueId,
    d: usize,
    (start, end): (i64, i64),
) -> Result<Vec<ValueId>, Refusal> {
    let mut sizes = b.sizes(v);
    if c.output(0)?.numel() == 0 {
        return c.refuse("nothing to replace");
    }
    let n = std::mem::replace(&mut sizes[d], end - start);
    let src = b.convert(src, b.dtype(v)?)?;
    let src = b.expand(src, &sizes);
    let head = part(b, v, d, 0, 1, start)?;
    let tail = part(b, v, d, end, 1, n - end)?;
    let v = join(b, &[head, src, tail], d)?;
    own(b, c, v)
}

/// `aten.cat`
pub fn cat(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let OpArg::Tensors(parts) = c.arg(0) else {
        return c.refuse("no list");
    };
    let dtype = c.output_dtype(0)?;
    let rank = c.output(0)?.sizes.len();
    let mut operands = Vec::new();
    for &v in parts.iter().flatten() {
        // Empty one-dimensional tensors may be mixed in.
        if b.sizes(v) != [0] {
            operands.push(b.convert(v, dtype)?);
        }
    }
    let dim = c.dim(1, rank)?;
    if operands.iter().any(|&v| b.sizes(v).len() != rank) || operands.is_empty() {
        return c.refuse("operands of different rank");
    }
    let meta = c.output(0)?.clone();
    Ok(vec![b.push(Op::Cat { dim }, &operands, meta)])
}

/// `aten.constant_pad_nd`; negative amounts cut off.
pub fn pad(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let mut v = c.tensor(0)?;
    let sizes = b.sizes(v);
    let rank = sizes.len();
    let (mut before, mut after) = (vec![0; rank], vec![0; rank]);
    for (k, pair) in c.ints(1)?.chunks_exact(2).enumerate() {
        let d = rank - 1 - k;
        let (low, high) = (pair[0].min(0), pair[1].min(0));
        if sizes[d] + low + high < 0 {
            return c.refuse("more cut off than there is");
        }
        if low + high < 0 {
            v = part(b, v, d, -low, 1, sizes[d] + low + high)?;
        }
        (before[d], after[d]) = (pair[0].max(0), pair[1].max(0));
    }
    let value = c.number(2)?;
    let value = match Type::of(b.dtype(v)?) {
        Type::F32 => Const::F32((value as f32).to_bits()),
        Type::F64 => Const::F64(value.to_bits()),
        Type::I32 => Const::I32(value as i32),
        Type::I64 => Const::I64(value as i64),
        Type::Bool => Const::Bool(value != 0.0),
    };
    let meta = c.output(0)?.clone();
    Ok(vec![b.push(
        Op::Pad {
            before,
            after,
            value,
        },
        &[v],
        meta,
    )])
}
