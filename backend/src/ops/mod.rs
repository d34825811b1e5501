//! ATen operators: what a call in the document looks like, and its translation into primitives.

pub mod call;

pub use call::{NodeCall, OpArg};
