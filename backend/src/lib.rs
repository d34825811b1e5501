//! Graph compiler: protocol documents to plans.
//!
//! JSON -> graph -> fused -> kernel IR -> machine code -> plan.

pub mod compile;
pub mod error;
pub mod fusion;
mod gpu;
pub mod graph;
pub mod lower;
pub mod ops;
pub mod passes;
pub mod plan;
pub mod protocol;
#[cfg(feature = "python")]
mod py;
pub mod specialise;
pub mod staged;
