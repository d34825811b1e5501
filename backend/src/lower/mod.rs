//! Lowering of groups to kernel IR.

pub mod index;
