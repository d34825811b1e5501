//! From groups to a runtime plan.

pub mod offsets;
