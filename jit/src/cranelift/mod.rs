//! Machine code for kernels, by Cranelift. Its vectors have 128 bits; every loop marked `vector`
//! whose values all have one width runs in lanes.

mod function;
mod loops;
mod memory;
mod narrow;
mod ops;

use crate::kernel::Kernel;
use crate::{CompileError, CompiledKernel};
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::settings::{self, Configurable};
use cranelift_codegen::{Context, control::ControlPlane};
use std::sync::OnceLock;

fn isa() -> Result<&'static OwnedTargetIsa, CompileError> {
    static ISA: OnceLock<Result<OwnedTargetIsa, CompileError>> = OnceLock::new();
    let made = ISA.get_or_init(|| {
        let mut flags = settings::builder();
        let verify = if cfg!(debug_assertions) {
            "true"
        } else {
            "false"
        };
        for (name, value) in [
            ("opt_level", "speed"),
            ("enable_verifier", verify),
            ("is_pic", "false"),
        ] {
            flags
                .set(name, value)
                .map_err(|e| CompileError::Target(e.to_string()))?;
        }
        let isa = cranelift_native::builder().map_err(|e| CompileError::Target(e.into()))?;
        isa.finish(settings::Flags::new(flags))
            .map_err(|e| CompileError::Target(e.to_string()))
    });
    made.as_ref().map_err(Clone::clone)
}

fn build(kernel: &Kernel) -> Result<(Context, &'static OwnedTargetIsa), CompileError> {
    let isa = isa()?;
    let expanded = crate::math::expand(kernel);
    let mut context = Context::new();
    function::build(&mut context.func, &expanded, isa.as_ref())?;
    Ok((context, isa))
}

/// Compiles a kernel.
pub fn compile(kernel: &Kernel) -> Result<CompiledKernel, CompileError> {
    let (mut context, isa) = build(kernel)?;
    let compiled = context
        .compile(isa.as_ref(), &mut ControlPlane::default())
        .map_err(|e| CompileError::Codegen(format!("{:?}", e.inner)))?;
    if !compiled.buffer.relocs().is_empty() {
        return Err(CompileError::Codegen(
            "the code calls a library function by name".into(),
        ));
    }
    CompiledKernel::new(compiled.code_buffer())
}

/// The kernel's CLIF and its assembly, to read.
pub fn explain(kernel: &Kernel) -> Result<String, CompileError> {
    let (mut context, isa) = build(kernel)?;
    context.set_disasm(true);
    let clif = context.func.display().to_string();
    let compiled = context
        .compile(isa.as_ref(), &mut ControlPlane::default())
        .map_err(|e| CompileError::Codegen(format!("{:?}", e.inner)))?;
    Ok(format!(
        "{clif}\n{}",
        compiled.vcode.as_deref().unwrap_or_default()
    ))
}
