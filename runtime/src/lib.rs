//! Runs plans: memory, threads, fused kernels, and ATen through libtorch's C ABI.

pub mod ahead;
pub mod aten;
pub mod attention;
pub mod bag;
mod cache;
mod choices;
pub mod conv;
pub mod cpu;
pub mod dtype;
mod error;
pub mod gemm;
pub mod level_zero;
pub mod plan;
pub mod pool;
mod prefetch;
#[cfg(test)]
mod testing;

pub use dtype::DType;
pub use error::Error;
