//! Fused kernels for GPUs.

pub mod epilogue;
pub mod expr;

use ipex_jit::kernel::{Access, Kernel};
use ipex_jit::spirv;
use ipex_runtime::plan::device::DeviceKernel;
use std::sync::Arc;

/// The SPIR-V of a kernel, or why there is none.
pub fn kernel(kernel: &Kernel) -> Result<Arc<DeviceKernel>, Arc<str>> {
    let program = spirv::compile(kernel).map_err(|why| Arc::from(why.to_string()))?;
    let access = || kernel.params.values().map(|p| p.access);
    Ok(Arc::new(DeviceKernel {
        spirv: program.spirv.into(),
        entry: spirv::ENTRY,
        groups: program.groups,
        f64: program.f64,
        writes: access().map(Access::writes).collect(),
        reads: access().map(Access::reads).collect(),
    }))
}
