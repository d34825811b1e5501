//! From groups to a runtime plan.

pub mod build;
pub mod offsets;
pub mod planewise;
