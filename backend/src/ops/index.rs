//! Gathers, concatenation, padding.

use super::NodeCall;
use super::OpArg;
use crate::fusion::refusal::Refusal;
use crate::graph::builder::Builder;
use crate::graph::{Op, ValueId};
use ipex_jit::kernel::{Const, Type};
use ipex_runtime::DType;

fn gather(
    b: &mut Builder,
    c: &NodeCall,
    dim: usize,
    source: ValueId,
    index: ValueId,
) -> Result<Vec<ValueId>, Refusal> {
    if !matches!(b.dtype(index)?, DType::I64) || b.sizes(source).is_empty() {
        return c.refuse("an index that is not i64");
    }
    let meta = b.meta(b.dtype(source)?, &c.output(0)?.sizes);
    Ok(vec![b.push(
        Op::IndexSelect { dim },
        &[source, index],
        meta,
    )])
}

/// `aten.embedding`
pub fn embedding(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    gather(b, c, 0, c.tensor(0)?, c.tensor(1)?)
}

/// `aten.index_select`
pub fn index_select(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let source = c.tensor(0)?;
    let index = c.tensor(2)?;
    if b.sizes(index).len() != 1 {
        return c.refuse("a scalar index");
    }
    let dim = c.dim(1, b.sizes(source).len())?;
    gather(b, c, dim, source, index)
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

/// `aten.constant_pad_nd` without negative amounts.
pub fn pad(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let v = c.tensor(0)?;
    let rank = b.sizes(v).len();
    let amounts = c.ints(1)?;
    if amounts.iter().any(|&n| n < 0) {
        return c.refuse("negative padding");
    }
    let (mut before, mut after) = (vec![0; rank], vec![0; rank]);
    for (k, pair) in amounts.chunks_exact(2).enumerate() {
        (before[rank - 1 - k], after[rank - 1 - k]) = (pair[0], pair[1]);
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
