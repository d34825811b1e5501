//! Lowering of groups to kernel IR.

pub mod eval;
pub mod index;
pub mod kernel;
