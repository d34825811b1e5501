//! The loop-level kernel IR and the code generators for CPUs and GPUs.

pub mod builtins;
pub mod code;
pub mod compile;
pub mod cranelift;
pub mod interpret;
pub mod kernel;
pub mod math;
pub mod spirv;
pub mod wide;

pub use code::CompiledKernel;
pub use compile::{CompileError, compile};
