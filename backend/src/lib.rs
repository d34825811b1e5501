//! Graph compiler: protocol documents to plans.
//!
//! JSON -> graph -> fused -> kernel IR -> machine code -> plan.

pub mod graph;
