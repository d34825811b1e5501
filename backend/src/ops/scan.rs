//! Running sums and products.

use super::NodeCall;
use crate::fusion::refusal::Refusal;
use crate::graph::ValueId;
use crate::graph::builder::Builder;
use ipex_jit::kernel::{BinaryOp, ReduceOp};
use ipex_runtime::DType;

/// `aten.cumsum(input, dim, *, dtype)` and `aten.cumprod`: converted to the result's dtype first, then combined in
/// order. As in eager, f32 and f64 run in f64, narrow floats in f32, integers in i64.
pub fn cumulative(b: &mut Builder, c: &NodeCall, op: ReduceOp) -> Result<Vec<ValueId>, Refusal> {
    let v = c.tensor(0)?;
    let out = c.output_dtype(0)?;
    if out == DType::Bool {
        return c.refuse("truth values");
    }
    let sizes = b.sizes(v);
    let v = super::pointwise::cast(b, v, out)?;
    let dim = match sizes.as_slice() {
        [] => None,
        _ => Some(c.dim(1, sizes.len())?).filter(|&d| sizes[d] != 1),
    };
    let Some(dim) = dim else {
        // Combined with what a sum or product starts from: -0 becomes 0.
        let (step, start) = match op {
            ReduceOp::Prod => (BinaryOp::Mul, 1.0),
            _ => (BinaryOp::Add, 0.0),
        };
        return Ok(vec![b.with(step, v, start)?]);
    };
    let run_in = match out {
        DType::F32 | DType::F64 => DType::F64,
        DType::F16 | DType::BF16 => DType::F32,
        _ => DType::I64,
    };
    let v = b.convert(v, run_in)?;
    let v = b.scan(op, v, dim);
    Ok(vec![super::pointwise::cast(b, v, out)?])
}
