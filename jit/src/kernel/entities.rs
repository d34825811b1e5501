//! Typed ids into a kernel's tables.

use cranelift_entity::entity_impl;

/// A pointer parameter of the kernel: one tensor's first element.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParamId(u32);
entity_impl!(ParamId, "p");

/// A per-thread scratch array (one row that stays in cache between two loops).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScratchId(u32);
entity_impl!(ScratchId, "s");

/// A loop variable.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VarId(u32);
entity_impl!(VarId, "i");

/// An SSA value of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(u32);
entity_impl!(ValueId, "v");
