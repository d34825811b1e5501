//! Queues of SYCL: which device of Level Zero they are of, and when they are empty.
//!
//! PyTorch's `xpu` tensors lie in a context of SYCL's. Its handle, and the device's, are to be had of a `sycl::queue` by functions that
//! libsycl exports under C++'s names, the same in its versions 8 and 9. Objects of SYCL are references with a count; by the x86-64
//! convention of C++ a function returns one where its first argument points. Those taken here are never given back: contexts of
//! PyTorch live as long as the process, and one reference of each is taken for a graph that is compiled.

use super::context::Device;
use super::error::Error;
use std::ffi::c_void;
use thiserror::Error;

/// Why a queue's memory cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoQueue {
    /// No SYCL, or one whose functions have other names.
    #[error(
        "no function {0} in this process: libsycl 8 or 9 (Intel's SYCL runtime of 2025 or 2026) has it"
    )]
    Symbol(&'static str),
    /// PyTorch has no such device.
    #[error("PyTorch has no queue of xpu:{0}: {1}")]
    PyTorch(i32, String),
    /// The queue's commands go elsewhere.
    #[error(
        "the backend of PyTorch's queue is {0}; Level Zero is needed (ONEAPI_DEVICE_SELECTOR=level_zero:gpu)"
    )]
    Backend(&'static str),
    /// It has a device that the loader does not list: a part of one, or of another loader.
    #[error("the device of PyTorch's queue is none of those that the Level Zero loader lists: {0}")]
    Device(String),
}

/// An object that SYCL returns: two words, with room for more.
#[repr(C, align(16))]
struct Object([*mut c_void; 8]);

type Returns = unsafe extern "C-unwind" fn(*mut Object, *const c_void) -> *mut Object;
type Native = unsafe extern "C-unwind" fn(*const Object) -> *mut c_void;
type Backend = unsafe extern "C-unwind" fn(*const c_void) -> u8;
type Wait = unsafe extern "C-unwind" fn(*const c_void, *const CodeLocation);

/// `sycl::detail::code_location`: which line waits, for tools that trace.
#[repr(C)]
struct CodeLocation {
    file: *const u8,
    function: *const u8,
    line: u64,
    column: u64,
}

/// The functions of libsycl. An exception that one of them throws ends the process: nobody here could catch it.
#[derive(Clone, Copy)]
pub struct Sycl {
    get_context: Returns,
    get_device: Returns,
    context_native: Native,
    device_native: Native,
    get_backend: Backend,
    wait: Wait,
}

/// What a backend's number stands for (`sycl::backend`).
fn backend(number: u8) -> &'static str {
    match number {
        0 => "the host",
        1 => "OpenCL",
        2 => "Level Zero",
        3 => "CUDA",
        6 => "HIP",
        7 => "the native CPU",
        8 => "an offload library",
        _ => "one that is not known here",
    }
}

const LEVEL_ZERO: u8 = 2;

impl Sycl {
    /// Looks the functions up by `symbol`, in the library that the queues are of.
    pub fn find(symbol: impl Fn(&str) -> Option<*const c_void>) -> Result<Sycl, NoQueue> {
        macro_rules! function {
            ($name:literal, $ty:ty) => {{
                let found = symbol($name).ok_or(NoQueue::Symbol($name))?;
                // SAFETY: the type is that of SYCL's headers, as the name says.
                unsafe { std::mem::transmute::<*const c_void, $ty>(found) }
            }};
        }
        Ok(Sycl {
            get_context: function!("_ZNK4sycl3_V15queue11get_contextEv", Returns),
            get_device: function!("_ZNK4sycl3_V15queue10get_deviceEv", Returns),
            context_native: function!("_ZNK4sycl3_V17context9getNativeEv", Native),
            device_native: function!("_ZNK4sycl3_V16device9getNativeEv", Native),
            get_backend: function!("_ZNK4sycl3_V15queue11get_backendEv", Backend),
            wait: function!(
                "_ZN4sycl3_V15queue10wait_proxyERKNS0_6detail13code_locationE",
                Wait
            ),
        })
    }

    /// The device of a queue, in the queue's context.
    ///
    /// # Safety
    /// `queue` is a `sycl::queue` of the library that the functions are of.
    pub unsafe fn device(&self, queue: *const c_void) -> Result<Device, Error> {
        // SAFETY: by contract.
        let found = unsafe { (self.get_backend)(queue) };
        if found != LEVEL_ZERO {
            return Err(NoQueue::Backend(backend(found)).into());
        }
        // SAFETY: by contract.
        let [context, device] = unsafe { self.handles(queue) };
        Device::within(context.cast(), device.cast())
    }

    /// The handles of a queue's context and device, whatever its backend.
    ///
    /// # Safety
    /// As of [`Sycl::device`].
    pub unsafe fn handles(&self, queue: *const c_void) -> [*mut c_void; 2] {
        let mut objects = [const { Object([std::ptr::null_mut(); 8]) }; 2];
        let [context, device] = &mut objects;
        // SAFETY: by contract; the objects have room, and keep what they refer to alive.
        unsafe {
            (self.get_context)(context, queue);
            (self.get_device)(device, queue);
            [(self.context_native)(context), (self.device_native)(device)]
        }
    }

    /// Waits until all that was given to a queue has run.
    ///
    /// # Safety
    /// As of [`Sycl::device`].
    pub unsafe fn wait(&self, queue: *const c_void) {
        let here = CodeLocation {
            file: c"ipex".as_ptr().cast(),
            function: c"wait".as_ptr().cast(),
            line: 0,
            column: 0,
        };
        // SAFETY: by contract.
        unsafe { (self.wait)(queue, &here) }
    }
}
