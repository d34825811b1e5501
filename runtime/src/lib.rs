//! Runs plans: memory, threads, fused kernels, and ATen through libtorch's C ABI.

pub mod dtype;
pub mod plan;

pub use dtype::DType;
