//! Errors of Level Zero.

use super::refusal::NoProduct;
use super::sycl::NoQueue;
use level_zero_sys::*;
use thiserror::Error;

/// What there was to find on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoDevice {
    /// No loader.
    #[error(
        "no Level Zero loader: {0}. Install Intel's GPU runtime (Debian and Ubuntu: libze1 and intel-level-zero-gpu \
         or intel-opencl-icd)"
    )]
    Loader(String),
    /// The loader found no driver that has a device.
    #[error(
        "the Level Zero loader found no driver with a device ({result}); {nodes}. Install Intel's GPU driver, and see that \
         this user may open /dev/dri/renderD* (group render)"
    )]
    Driver {
        /// What `zeInit` answered.
        result: String,
        /// What is in /dev/dri.
        nodes: String,
    },
    /// There are fewer.
    #[error("there is no GPU {index}; found: {found}")]
    Index {
        /// The number asked for.
        index: usize,
        /// Those there are.
        found: String,
    },
}

/// Why a GPU did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Error {
    /// There is none to use.
    #[error("{0}")]
    NoDevice(#[from] NoDevice),
    /// A call failed.
    #[error("{attempt}: {name} ({code:#x})")]
    Call {
        /// What was attempted.
        attempt: String,
        /// Level Zero's name of the error.
        name: &'static str,
        /// Its number.
        code: u32,
    },
    /// A module was not compiled.
    #[error("the GPU's compiler refused {module}: {name}\n{log}")]
    Build {
        /// The module.
        module: String,
        /// Level Zero's name of the error.
        name: &'static str,
        /// What the compiler said.
        log: String,
    },
    /// The device has less memory.
    #[error("no GPU memory for {bytes} bytes ({in_use} in use by this process)")]
    OutOfMemory {
        /// Asked for.
        bytes: usize,
        /// Allocated by us, kept for reuse included.
        in_use: usize,
    },
    /// A launch that the kernel's signature does not allow: a fault of ours.
    #[error("launch of {kernel}: {reason}")]
    Launch {
        /// The kernel.
        kernel: String,
        /// What is wrong.
        reason: String,
    },
    /// There is no kernel for a product.
    #[error("{0}")]
    Product(#[from] NoProduct),
    /// Memory of PyTorch's `xpu` device cannot be used.
    #[error("{0}")]
    Queue(#[from] NoQueue),
    /// Level Zero does not survive a fork.
    #[error("this process was forked from one that uses the GPU; start workers by spawn")]
    Forked,
}

impl Error {
    /// Whether the device is gone until the process ends.
    pub fn is_lost(&self) -> bool {
        matches!(self, Error::Call { code, .. } if *code == ZE_RESULT_ERROR_DEVICE_LOST)
    }
}

/// An error unless the result is success.
pub(super) fn check(result: ze_result_t, attempt: impl FnOnce() -> String) -> Result<(), Error> {
    match result {
        ZE_RESULT_SUCCESS => Ok(()),
        code => Err(Error::Call {
            attempt: attempt(),
            name: name(code),
            code,
        }),
    }
}

macro_rules! names {
    ($result:expr, $($name:ident)*) => {
        match $result {
            $($name => stringify!($name),)*
            _ => "an error that is not in Level Zero 1.4",
        }
    };
}

/// Level Zero's name of a result.
pub(super) fn name(result: ze_result_t) -> &'static str {
    names!(result,
        ZE_RESULT_NOT_READY
        ZE_RESULT_ERROR_DEVICE_LOST
        ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY
        ZE_RESULT_ERROR_OUT_OF_DEVICE_MEMORY
        ZE_RESULT_ERROR_MODULE_BUILD_FAILURE
        ZE_RESULT_ERROR_MODULE_LINK_FAILURE
        ZE_RESULT_ERROR_INSUFFICIENT_PERMISSIONS
        ZE_RESULT_ERROR_NOT_AVAILABLE
        ZE_RESULT_ERROR_DEPENDENCY_UNAVAILABLE
        ZE_RESULT_ERROR_UNINITIALIZED
        ZE_RESULT_ERROR_UNSUPPORTED_VERSION
        ZE_RESULT_ERROR_UNSUPPORTED_FEATURE
        ZE_RESULT_ERROR_INVALID_ARGUMENT
        ZE_RESULT_ERROR_INVALID_NULL_HANDLE
        ZE_RESULT_ERROR_HANDLE_OBJECT_IN_USE
        ZE_RESULT_ERROR_INVALID_NULL_POINTER
        ZE_RESULT_ERROR_INVALID_SIZE
        ZE_RESULT_ERROR_UNSUPPORTED_SIZE
        ZE_RESULT_ERROR_UNSUPPORTED_ALIGNMENT
        ZE_RESULT_ERROR_INVALID_SYNCHRONIZATION_OBJECT
        ZE_RESULT_ERROR_INVALID_ENUMERATION
        ZE_RESULT_ERROR_UNSUPPORTED_ENUMERATION
        ZE_RESULT_ERROR_INVALID_NATIVE_BINARY
        ZE_RESULT_ERROR_INVALID_GLOBAL_NAME
        ZE_RESULT_ERROR_INVALID_KERNEL_NAME
        ZE_RESULT_ERROR_INVALID_FUNCTION_NAME
        ZE_RESULT_ERROR_INVALID_GROUP_SIZE_DIMENSION
        ZE_RESULT_ERROR_INVALID_GLOBAL_WIDTH_DIMENSION
        ZE_RESULT_ERROR_INVALID_KERNEL_ARGUMENT_INDEX
        ZE_RESULT_ERROR_INVALID_KERNEL_ARGUMENT_SIZE
        ZE_RESULT_ERROR_INVALID_KERNEL_ATTRIBUTE_VALUE
        ZE_RESULT_ERROR_INVALID_MODULE_UNLINKED
        ZE_RESULT_ERROR_INVALID_COMMAND_LIST_TYPE
        ZE_RESULT_ERROR_OVERLAPPING_REGIONS
        ZE_RESULT_ERROR_UNKNOWN
    )
}
