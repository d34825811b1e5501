//! Modules: SPIR-V, compiled by the driver once for each device and driver version.

use super::cache;
use super::context::{Device, Inner, structure};
use super::error::{Error, name};
use super::kernel::Kernel;
use super::memory::checked;
use level_zero_sys::*;
use std::ffi::{CStr, c_void};
use std::ptr::{null, null_mut};
use std::sync::Arc;

/// What a module is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source<'a> {
    /// For messages.
    pub name: &'a str,
    /// SPIR-V, in bytes.
    pub spirv: &'a [u8],
    /// Whether a thread gets twice the registers, and a core half the threads.
    pub large_registers: bool,
    /// Specialization constants: their ids and values.
    pub constants: &'a [(u32, i32)],
}

/// A compiled module; clones share it.
#[derive(Clone)]
pub struct Module(pub(super) Arc<Handle>);

pub(super) struct Handle {
    pub device: Device,
    pub handle: ze_module_handle_t,
    name: String,
}

// SAFETY: modules may be used from any thread.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: kernels keep this alive, so there are none left.
        unsafe { (self.device.0.ze.zeModuleDestroy)(self.handle) };
    }
}

impl Source<'_> {
    fn flags(&self) -> &'static CStr {
        if self.large_registers {
            c"-ze-opt-large-register-file"
        } else {
            c""
        }
    }
}

impl Device {
    /// Compiles a module, or takes it from the disk.
    pub fn module(&self, source: &Source) -> Result<Module, Error> {
        let place = cache::place(&(self.identity(), source));
        let kept = place.as_ref().and_then(|p| std::fs::read(p).ok());
        // A binary that the driver does not take any more is compiled anew.
        if let Some(Ok(module)) = kept.map(|binary| self.create(source, Some(&binary))) {
            return Ok(module);
        }
        let module = self.create(source, None)?;
        if let (Some(place), Some(binary)) = (place, module.0.binary()) {
            // Without it, the next process compiles again.
            let _ = crate::cache::replace(&place, &binary);
        }
        Ok(module)
    }

    fn create(&self, source: &Source, binary: Option<&[u8]>) -> Result<Module, Error> {
        let ids: Vec<u32> = source.constants.iter().map(|c| c.0).collect();
        let mut values: Vec<*const c_void> = source
            .constants
            .iter()
            .map(|c| (&raw const c.1).cast())
            .collect();
        let constants = ze_module_constants_t {
            numConstants: ids.len() as u32,
            pConstantIds: ids.as_ptr(),
            pConstantValues: values.as_mut_ptr(),
        };
        let bytes = binary.unwrap_or(source.spirv);
        let specialized = binary.is_none() && !ids.is_empty();
        let desc = structure!(
            ze_module_desc_t,
            ZE_STRUCTURE_TYPE_MODULE_DESC,
            format: if binary.is_some() { ZE_MODULE_FORMAT_NATIVE } else { ZE_MODULE_FORMAT_IL_SPIRV },
            inputSize: bytes.len(),
            pInputModule: bytes.as_ptr(),
            pBuildFlags: source.flags().as_ptr(),
            pConstants: if specialized { &constants } else { null() },
        );
        let (inner, mut handle, mut log) = (&self.0, null_mut(), null_mut());
        // With several drivers the loader does not wrap the log of a module that failed, and reading it crashes.
        let log_at = if inner.about.wrapped {
            null_mut()
        } else {
            &raw mut log
        };
        // SAFETY: the description's pointers outlive the call.
        let result = unsafe {
            (inner.ze.zeModuleCreate)(inner.context, inner.handle, &desc, &mut handle, log_at)
        };
        let text = take_log(inner, log);
        if result != ZE_RESULT_SUCCESS {
            let (module, name, log) = (source.name.into(), name(result), text);
            return Err(Error::Build { module, name, log });
        }
        let (device, name) = (self.clone(), source.name.into());
        Ok(Module(Arc::new(Handle {
            device,
            handle,
            name,
        })))
    }
}

/// The text of a build log, which is destroyed.
fn take_log(inner: &Inner, log: ze_module_build_log_handle_t) -> String {
    if log.is_null() {
        return "(no log: several drivers are installed)".into();
    }
    let (mut size, mut text) = (0, Vec::new());
    // SAFETY: the size is that of the text's room.
    unsafe {
        if (inner.ze.zeModuleBuildLogGetString)(log, &mut size, null_mut()) == ZE_RESULT_SUCCESS {
            text.resize(size, 0u8);
            (inner.ze.zeModuleBuildLogGetString)(log, &mut size, text.as_mut_ptr().cast());
        }
        (inner.ze.zeModuleBuildLogDestroy)(log);
    }
    String::from_utf8_lossy(&text).trim_end_matches('\0').into()
}

impl Handle {
    /// The machine code, if the driver gives it.
    fn binary(&self) -> Option<Vec<u8>> {
        let (get, mut size) = (self.device.0.ze.zeModuleGetNativeBinary, 0);
        // SAFETY: the size is that of the bytes' room.
        unsafe {
            checked(
                get(self.handle, &mut size, null_mut()),
                "zeModuleGetNativeBinary",
            )
            .ok()?;
            let mut bytes = vec![0; size];
            checked(
                get(self.handle, &mut size, bytes.as_mut_ptr()),
                "zeModuleGetNativeBinary",
            )
            .ok()?;
            Some(bytes)
        }
    }
}

impl Module {
    /// A kernel of the module, for one thread at a time.
    pub fn kernel(&self, name: &str) -> Result<Kernel, Error> {
        Kernel::new(self, name)
    }

    /// Its name, for messages.
    pub fn name(&self) -> &str {
        &self.0.name
    }
}
