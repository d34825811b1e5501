//! Why nodes were not lowered together.

use ipex_jit::kernel::VarId;
use thiserror::Error;

/// The reason a translation or a trial lowering failed; `ipexc explain` prints it.
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
    /// An index is checked before the kernel that gathers by it, so it is computed in another.
    #[error("an index must be in memory before it is used")]
    UncheckedIndex,
    /// The operation has no lowering.
    #[error("{0} is not lowered")]
    Op(String),
    /// Generated code cannot handle the ScalarType.
    #[error("unsupported scalar type {0}")]
    Dtype(i32),
    /// Roots of one loop nest differ in shape.
    #[error("roots have different shapes")]
    Shapes,
    /// A reduction runs over other columns than the kernel's first one.
    #[error("a reduction over {found:?} in a kernel that reduces over {expected:?}")]
    Columns {
        /// The kernel's columns.
        expected: Vec<i64>,
        /// The reduction's.
        found: Vec<i64>,
    },
    /// A reduction's result is wanted at an index that depends on the columns.
    #[error("a reduction would be recomputed for each column")]
    ReductionInColumns,
    /// A scan's elements are wanted in another order than it makes them.
    #[error("a scan along {dim} is read in another order, or over split loops")]
    ScanOrder {
        /// The scan's dimension.
        dim: usize,
    },
    /// An expensive value would be computed several times.
    #[error("{op} would be computed {times} times for each element")]
    Recompute {
        /// The operation.
        op: String,
        /// How often.
        times: i64,
    },
    /// The kernel would be too large.
    #[error("the kernel would have {0} instructions or parameters too many")]
    Size(usize),
    /// An iteration would read of an argument what another one writes.
    #[error("an argument that is written is read at other places too")]
    InPlace,
    /// A path leaves the group and comes back.
    #[error("another step lies between the two groups")]
    Between,
    /// Several results beside a concatenation or padding.
    #[error("a concatenation or padding must be its kernel's only result")]
    Assembly,
}
