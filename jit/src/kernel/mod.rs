//! The loop-level kernel IR: one fused group of a graph as a nest of loops over scalar SSA code.
//!
//! It is target-neutral: nothing here knows a vector width or a code generator. A kernel has one
//! outermost loop, whose iterations are independent and are split over threads; at most one loop
//! on each path from the root is marked `vector`, meaning that its iterations may run in lanes
//! (its body may hold further serial loops, which then run once for all lanes).
//!
//! [`verify`](verify()) lists what makes a kernel well-formed; a kernel prints as text (`Display`), and [`parse`](parse())
//! reads that text back.

pub mod entities;
pub mod inst;
mod names;
pub mod parse;
mod print;
pub mod signature;
mod text;
pub mod types;
pub mod verify;

pub use entities::{ParamId, ScratchId, ValueId, VarId};
pub use inst::{BinaryOp, CmpOp, Const, Index, Inst, Mem, ReduceOp, UnaryOp, identity};
pub use parse::parse;
pub use types::Type;
pub use verify::verify;

use cranelift_entity::PrimaryMap;
use ipex_runtime::DType;
use std::fmt;

/// How the kernel uses a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Read only.
    In,
    /// Written only; never aliases another parameter.
    Out,
    /// Read and written at the same index in the same iteration (in-place).
    InOut,
    /// Written only, and larger than what stays in a cache until someone reads it.
    Stream,
}

impl Access {
    /// Whether the kernel may load from the parameter.
    pub fn reads(self) -> bool {
        matches!(self, Access::In | Access::InOut)
    }

    /// Whether it may store to it.
    pub fn writes(self) -> bool {
        self != Access::In
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Access::In => "in",
            Access::Out => "out",
            Access::InOut => "inout",
            Access::Stream => "stream",
        })
    }
}

/// A tensor argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Param {
    /// Element type in memory.
    pub dtype: DType,
    /// Direction.
    pub access: Access,
}

/// A per-thread array of `len` elements in its compute type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scratch {
    /// Element type.
    pub ty: Type,
    /// Number of elements.
    pub len: u64,
}

/// A loop variable's range: `0..extent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Var {
    /// Number of iterations.
    pub extent: u64,
}

/// A statement.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the fields are named by their role")]
pub enum Stmt {
    /// Defines `value`.
    Let {
        value: ValueId,
        inst: Inst,
    },
    /// Converts from the compute type to the memory's dtype and writes.
    Store {
        mem: Mem,
        index: Index,
        value: ValueId,
    },
    Loop(Loop),
}

/// A reduction carried by a loop: `result` is `init` combined with every iteration's `value`.
/// The order of combination is free (lanes, several accumulators, pairwise), and a sum of floats may add a product that
/// was not rounded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Carry {
    /// How values combine.
    pub op: ReduceOp,
    /// The value, defined in the loop body, that each iteration contributes.
    pub value: ValueId,
    /// The result, visible after the loop. It starts from the identity of `op`.
    pub result: ValueId,
    /// For `Min`/`Max`: also yields, as I64, the value of this loop's variable (for several nested
    /// reduced loops the lowering flattens them first) at the first extremum; NaN counts as one.
    pub arg: Option<ValueId>,
}

/// A counted loop.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Loop {
    /// Its variable, running over `0..vars[var].extent`.
    pub var: VarId,
    /// Whether the iterations may run in vector lanes.
    pub vector: bool,
    /// Statements of one iteration.
    pub body: Vec<Stmt>,
    /// Reductions over the iterations.
    pub carries: Vec<Carry>,
}

impl Loop {
    /// The scans over this loop: value, how it combines, and what.
    pub fn scans(&self) -> impl Iterator<Item = (ValueId, ReduceOp, ValueId)> {
        self.body.iter().filter_map(|stmt| match *stmt {
            Stmt::Let {
                value,
                inst: Inst::Scan { op, arg },
            } => Some((value, op, arg)),
            _ => None,
        })
    }
}

/// A kernel: called as `f(args, begin, end)` to run iterations `begin..end` of its outermost loop.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// Tensor arguments, in call order.
    pub params: PrimaryMap<ParamId, Param>,
    /// Scratch arrays.
    pub scratch: PrimaryMap<ScratchId, Scratch>,
    /// Loop variables.
    pub vars: PrimaryMap<VarId, Var>,
    /// Types of the SSA values.
    pub values: PrimaryMap<ValueId, Type>,
    /// The outermost loop; it carries no reduction.
    pub root: Loop,
}

impl Kernel {
    /// The element type in memory; scratch holds values in their compute type.
    pub fn dtype(&self, mem: Mem) -> DType {
        match mem {
            Mem::Param(p) => self.params[p].dtype,
            Mem::Scratch(s) => match self.scratch[s].ty {
                Type::F32 => DType::F32,
                Type::F64 => DType::F64,
                Type::I32 => DType::I32,
                Type::I64 => DType::I64,
                Type::Bool => DType::Bool,
            },
        }
    }

    /// The kernel without the extent of its outermost loop, on which its code does not depend.
    pub fn of_any_extent(&self) -> Kernel {
        let mut kernel = self.clone();
        kernel.vars[kernel.root.var].extent = 0;
        kernel
    }
}
