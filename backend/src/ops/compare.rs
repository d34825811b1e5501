//! Comparisons, and the dtype that their operands meet in.

use super::pointwise::{operand, round};
use super::{NodeCall, OpArg};
use crate::fusion::refusal::Refusal;
use crate::graph::ValueId;
use crate::graph::builder::Builder;
use ipex_jit::kernel::CmpOp;
use ipex_runtime::DType;

/// A comparison with a tensor or a number.
pub fn compare(b: &mut Builder, c: &NodeCall, op: CmpOp) -> Result<Vec<ValueId>, Refusal> {
    let dtype = common(b, c)?;
    let sizes = c.output(0)?.sizes.clone();
    let x = operand(b, c, 0, dtype, &sizes)?;
    let mut y = operand(b, c, 1, dtype, &sizes)?;
    if !matches!(c.arg(1), OpArg::Tensor(_)) {
        // Eager compares with the number as the tensor's dtype holds it.
        y = round(b, y)?;
    }
    Ok(vec![b.compare(op, x, y)])
}

/// `aten.isposinf`, `aten.isneginf`; integers never are.
pub fn is_infinity(b: &mut Builder, c: &NodeCall, infinity: f64) -> Result<Vec<ValueId>, Refusal> {
    let v = c.tensor(0)?;
    let sizes = b.sizes(v);
    if !b.dtype(v)?.is_float() {
        return Ok(vec![b.full(DType::Bool, &sizes, 0.0)]);
    }
    let infinity = b.full(b.dtype(v)?, &sizes, infinity);
    Ok(vec![b.compare(CmpOp::Eq, v, infinity)])
}

/// PyTorch's promotion: of two tensors, the one with dimensions decides within its category; a
/// number has only a category.
fn common(b: &Builder, c: &NodeCall) -> Result<DType, Refusal> {
    let first = c.tensor(0)?;
    let x = b.dtype(first)?;
    match c.arg(1) {
        OpArg::Tensor(second) => {
            let y = b.dtype(*second)?;
            let (x_dims, y_dims) = (!b.sizes(first).is_empty(), !b.sizes(*second).is_empty());
            Ok(match (x_dims, y_dims) {
                (true, false) if category(x) >= category(y) => x,
                (false, true) if category(y) >= category(x) => y,
                _ => promote(x, y),
            })
        }
        OpArg::Bool(_) => Ok(x),
        OpArg::Int(i) => match x {
            DType::Bool => Ok(DType::I64),
            x if x.is_float() || range(x).contains(&i128::from(*i)) => Ok(x),
            _ => c.refuse("a number outside the tensor's range"),
        },
        OpArg::Float(_) if x.is_float() => Ok(x),
        OpArg::Float(_) => Ok(DType::F32),
        other => c.refuse(&format!("a comparison with {other:?}")),
    }
}

/// Truth values, integers, floats.
fn category(dtype: DType) -> u8 {
    match dtype {
        DType::Bool => 0,
        _ if dtype.is_float() => 2,
        _ => 1,
    }
}

/// The values of an integer dtype.
pub fn range(dtype: DType) -> std::ops::RangeInclusive<i128> {
    match dtype {
        DType::U8 => 0..=255,
        DType::I8 => -128..=127,
        DType::I16 => -(1 << 15)..=(1 << 15) - 1,
        DType::I32 => -(1 << 31)..=(1 << 31) - 1,
        _ => -(1 << 63)..=(1 << 63) - 1,
    }
}

/// `torch.promote_types`
fn promote(x: DType, y: DType) -> DType {
    use DType::{BF16, F16, F32, I8, I16, U8};
    match (category(x), category(y)) {
        _ if x == y => x,
        (a, b) if a > b => x,
        (a, b) if a < b => y,
        _ => match (x, y) {
            (F16, BF16) | (BF16, F16) => F32,
            (U8, I8) | (I8, U8) => I16,
            _ if x.size() > y.size() => x,
            _ => y,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promotion() {
        use DType::{BF16, Bool, F16, F32, F64, I8, I16, I64, U8};
        let cases = [
            (Bool, U8, U8),
            (U8, I8, I16),
            (U8, I16, I16),
            (I64, F16, F16),
            (F16, BF16, F32),
            (BF16, F32, F32),
            (F64, F32, F64),
        ];
        for (x, y, both) in cases {
            assert_eq!((promote(x, y), promote(y, x)), (both, both));
        }
    }
}
