//! Division, remainders and shifts. Eager raises on an integer division by zero, so integers are
//! divided here only by a number that is none; ATen divides by tensors.

use super::pointwise::{operand, round};
use super::{NodeCall, OpArg};
use crate::fusion::refusal::Refusal;
use crate::graph::ValueId;
use crate::graph::builder::Builder;
use ipex_jit::kernel::{BinaryOp as B, UnaryOp as U};
use ipex_runtime::DType;

/// Both operands in the result's dtype.
fn operands(b: &mut Builder, c: &NodeCall) -> Result<(DType, ValueId, ValueId), Refusal> {
    let (dtype, sizes) = (c.output_dtype(0)?, c.output(0)?.sizes.clone());
    if !dtype.is_float() && (dtype == DType::Bool || !matches!(c.arg(1), OpArg::Int(i) if *i != 0))
    {
        return c.refuse("an integer division that may raise");
    }
    let x = operand(b, c, 0, dtype, &sizes)?;
    let y = operand(b, c, 1, dtype, &sizes)?;
    Ok((dtype, x, y))
}

/// `aten.remainder` and `aten.fmod`
pub fn remainder(b: &mut Builder, c: &NodeCall, op: B) -> Result<Vec<ValueId>, Refusal> {
    let (_, x, y) = operands(b, c)?;
    let v = b.binary(op, x, y)?;
    Ok(vec![round(b, v)?])
}

/// `aten.div.Tensor_mode`, `aten.div.Scalar_mode` and `aten.floor_divide`
pub fn divide(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let mode = match c.arg(2) {
        OpArg::Str(mode) => mode.as_str(),
        _ if c.target == "aten.floor_divide.default" => "floor",
        _ => "",
    };
    let (dtype, x, y) = operands(b, c)?;
    let v = match mode {
        "floor" => b.binary(B::FloorDiv, x, y)?,
        "trunc" if dtype.is_float() => {
            let q = b.binary(B::Div, x, y)?;
            let q = round(b, q)?;
            b.unary(U::Trunc, q)?
        }
        _ => b.binary(B::Div, x, y)?,
    };
    Ok(vec![round(b, v)?])
}

/// `aten.bitwise_left_shift`, `aten.bitwise_right_shift` of integers
pub fn shift(b: &mut Builder, c: &NodeCall, op: B) -> Result<Vec<ValueId>, Refusal> {
    let (dtype, sizes) = (c.output_dtype(0)?, c.output(0)?.sizes.clone());
    if !matches!(dtype, DType::I32 | DType::I64) {
        return c.refuse("not an integer of full width");
    }
    let (x, y) = (
        operand(b, c, 0, dtype, &sizes)?,
        operand(b, c, 1, dtype, &sizes)?,
    );
    Ok(vec![b.binary(op, x, y)?])
}
