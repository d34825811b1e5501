//! Why nodes were not lowered together.

use ipex_jit::kernel::VarId;
use thiserror::Error;

/// The reason a trial lowering failed; `ipexc explain` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// A reshape's index is no affine function of the loop variables.
    #[error("reshape {from:?} -> {to:?} is not affine in the loop variables")]
    Reshape {
        /// The operand's sizes.
        from: Vec<i64>,
        /// The result's sizes.
        to: Vec<i64>,
    },
    /// The lowering works once this loop is split into `extent / inner` times `inner`.
    #[error("loop {var} must be split by {inner}")]
    Split {
        /// The loop's variable.
        var: VarId,
        /// Extent of the inner loop.
        inner: i64,
    },
    /// The operation has no pointwise lowering.
    #[error("{0} is not pointwise")]
    Op(String),
    /// Generated code cannot handle the ScalarType.
    #[error("unsupported scalar type {0}")]
    Dtype(i32),
    /// Roots of one loop nest differ in shape.
    #[error("roots have different shapes")]
    Shapes,
}
