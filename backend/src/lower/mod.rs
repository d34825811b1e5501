//! Lowering of groups to kernel IR.

pub mod assembly;
pub mod body;
pub mod collapse;
pub mod eval;
pub mod index;
pub mod kernel;
pub mod one_pass;
pub mod rounding;
pub mod space;
pub mod staging;
pub mod stream;
