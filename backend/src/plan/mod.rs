//! From groups to a runtime plan.

pub mod batch;
pub mod build;
mod constant;
pub mod offsets;
pub mod planewise;
pub mod post_ops;
