//! Kernels and their arguments.

use super::context::structure;
use super::error::{Error, check};
use super::memory::{Buffer, Kept};
use super::module::Module;
use level_zero_sys::*;
use std::ffi::{CString, c_void};
use std::ptr::{null, null_mut};
use std::sync::Arc;

/// An argument of a launch.
#[derive(Clone, Copy)]
pub enum Argument<'a> {
    /// A pointer to a byte of device memory.
    Memory(&'a Buffer, usize),
    /// A pointer into memory that the caller keeps until the stream was waited for, or null.
    Address(*const u8),
    /// A 32-bit integer.
    I32(i32),
    /// A 64-bit integer.
    I64(i64),
    /// A float.
    F32(f32),
    /// So many bytes of memory that a group shares.
    Shared(usize),
}

/// A kernel. Level Zero lets one thread at a time set arguments: a launch takes it mutably.
pub struct Kernel {
    handle: Arc<Handle>,
    name: String,
    arguments: u32,
    group: [u32; 3],
    /// What a module compiled for fewer lanes than it was written for would get wrong.
    sub_group: u32,
}

struct Handle {
    module: Module,
    kernel: ze_kernel_handle_t,
}

// SAFETY: a kernel may go from thread to thread.
unsafe impl Send for Handle {}
// SAFETY: only a mutable `Kernel` sets arguments.
unsafe impl Sync for Handle {}

impl Kernel {
    pub(super) fn new(module: &Module, name: &str) -> Result<Kernel, Error> {
        let (inner, mut handle) = (&module.0.device.0, null_mut());
        let c_name = CString::new(name).unwrap_or_default();
        let desc = structure!(ze_kernel_desc_t, ZE_STRUCTURE_TYPE_KERNEL_DESC, pKernelName: c_name.as_ptr());
        // SAFETY: the module is alive, the name outlives the call.
        let made = unsafe { (inner.ze.zeKernelCreate)(module.0.handle, &desc, &mut handle) };
        check(made, || format!("kernel {name} of {}", module.name()))?;
        let module = module.clone();
        let owned = Arc::new(Handle {
            module,
            kernel: handle,
        });
        let mut kernel = Kernel {
            handle: owned,
            name: name.into(),
            arguments: 0,
            group: [1; 3],
            sub_group: 0,
        };
        let mut p = structure!(ze_kernel_properties_t, ZE_STRUCTURE_TYPE_KERNEL_PROPERTIES);
        // SAFETY: the kernel is alive.
        let got = unsafe { (inner.ze.zeKernelGetProperties)(handle, &mut p) };
        check(got, || "zeKernelGetProperties".into())?;
        kernel.arguments = p.numKernelArgs;
        kernel.sub_group = p.requiredSubgroupSize;
        let required = [
            p.requiredGroupSizeX,
            p.requiredGroupSizeY,
            p.requiredGroupSizeZ,
        ];
        if required[0] > 0 {
            kernel.set_group(required)?;
        }
        Ok(kernel)
    }

    /// Sets the size of a group, unless the kernel requires one.
    pub fn set_group(&mut self, group: [u32; 3]) -> Result<(), Error> {
        let [x, y, z] = group;
        // SAFETY: the kernel is alive.
        let set = unsafe { (self.handle.ze().zeKernelSetGroupSize)(self.handle.kernel, x, y, z) };
        check(set, || format!("group of {x}x{y}x{z} for {}", self.name))?;
        self.group = group;
        Ok(())
    }

    /// Items of a group.
    pub fn group(&self) -> [u32; 3] {
        self.group
    }

    /// Lanes of a sub-group, if the kernel requires a number.
    pub fn sub_group(&self) -> Option<u32> {
        (self.sub_group > 0).then_some(self.sub_group)
    }

    pub(super) fn handle(&self) -> ze_kernel_handle_t {
        self.handle.kernel
    }

    /// Keeps the kernel alive as long as launches of it are queued.
    pub(super) fn keep(&self) -> Kept {
        Kept(self.handle.clone())
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn set(&mut self, arguments: &[Argument]) -> Result<(), Error> {
        if arguments.len() != self.arguments as usize {
            return Err(Error::Launch {
                kernel: self.name.clone(),
                reason: format!("{} arguments for {}", arguments.len(), self.arguments),
            });
        }
        arguments
            .iter()
            .enumerate()
            .try_for_each(|(n, a)| self.set_one(n as u32, a))
    }

    fn set_one(&self, n: u32, argument: &Argument) -> Result<(), Error> {
        let address;
        let (size, value): (usize, *const c_void) = match argument {
            Argument::Memory(buffer, offset) => {
                address = buffer.address(*offset);
                (8, (&raw const address).cast())
            }
            Argument::Address(p) => (8, std::ptr::from_ref(p).cast()),
            Argument::I32(i) => (4, std::ptr::from_ref(i).cast()),
            Argument::I64(i) => (8, std::ptr::from_ref(i).cast()),
            Argument::F32(x) => (4, std::ptr::from_ref(x).cast()),
            Argument::Shared(bytes) => (*bytes, null()),
        };
        // SAFETY: the value has this size; the driver copies it.
        let set = unsafe {
            (self.handle.ze().zeKernelSetArgumentValue)(self.handle.kernel, n, size, value)
        };
        check(set, || format!("argument {n} of {}", self.name))
    }
}

impl Handle {
    fn ze(&self) -> &'static LevelZero {
        self.module.0.device.0.ze
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle is ours, and streams keep it while launches are queued.
        unsafe { (self.ze().zeKernelDestroy)(self.kernel) };
    }
}
