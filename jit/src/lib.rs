//! The loop-level kernel IR, its interpreter, and the code generators for CPUs.

pub mod builtins;
pub mod cranelift;
pub mod kernel;
pub mod math;
