//! The loader's entry points.

use crate::*;
use libloading::Library;
use thiserror::Error;

/// Why there is no loader to call.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LoadError {
    /// The library could not be opened.
    #[error("{library} could not be opened: {reason}")]
    Library {
        /// Its name.
        library: &'static str,
        /// What the system said.
        reason: String,
    },
    /// It lacks an entry point that version 1.4 has.
    #[error("{library} has no {symbol}")]
    Symbol {
        /// Its name.
        library: &'static str,
        /// The function.
        symbol: &'static str,
    },
}

/// A function of a type that bindgen writes as optional.
pub trait Entry {
    /// The function itself.
    type Fn: Copy;
}

impl<F: Copy> Entry for Option<F> {
    type Fn = F;
}

const LIBRARY: &str = "libze_loader.so.1";

macro_rules! entry_points {
    (required { $($name:ident: $ty:ty,)* } later { $($new:ident: $new_ty:ty,)* }) => {
        /// The functions of a loader, which stays open.
        #[expect(missing_docs, reason = "the names are those of the specification")]
        pub struct LevelZero {
            $(pub $name: <$ty as Entry>::Fn,)*
            $(pub $new: $new_ty,)*
            _library: Library,
        }

        impl LevelZero {
            /// Opens the loader.
            pub fn open() -> Result<LevelZero, LoadError> {
                // SAFETY: the initialisers of the loader have no preconditions.
                let library = unsafe { Library::new(LIBRARY) }.map_err(|e| LoadError::Library {
                    library: LIBRARY,
                    reason: e.to_string(),
                })?;
                Ok(LevelZero {
                    $($name: {
                        let name = concat!(stringify!($name), "\0").as_bytes();
                        // SAFETY: the type is that of the specification.
                        let symbol = unsafe { library.get::<<$ty as Entry>::Fn>(name) };
                        *symbol.map_err(|_| LoadError::Symbol {
                            library: LIBRARY,
                            symbol: stringify!($name),
                        })?
                    },)*
                    $($new: {
                        let name = concat!(stringify!($new), "\0").as_bytes();
                        // SAFETY: as above; a missing symbol is `None`.
                        unsafe { library.get::<<$new_ty as Entry>::Fn>(name) }.ok().map(|f| *f)
                    },)*
                    _library: library,
                })
            }
        }
    };
}

entry_points! {
    required {
        zeInit: ze_pfnInit_t,
        zeDriverGet: ze_pfnDriverGet_t,
        zeDriverGetApiVersion: ze_pfnDriverGetApiVersion_t,
        zeDriverGetProperties: ze_pfnDriverGetProperties_t,
        zeDeviceGet: ze_pfnDeviceGet_t,
        zeDeviceGetProperties: ze_pfnDeviceGetProperties_t,
        zeDeviceGetComputeProperties: ze_pfnDeviceGetComputeProperties_t,
        zeDeviceGetModuleProperties: ze_pfnDeviceGetModuleProperties_t,
        zeDeviceGetMemoryProperties: ze_pfnDeviceGetMemoryProperties_t,
        zeDeviceGetCommandQueueGroupProperties: ze_pfnDeviceGetCommandQueueGroupProperties_t,
        zeContextCreate: ze_pfnContextCreate_t,
        zeContextDestroy: ze_pfnContextDestroy_t,
        zeMemAllocDevice: ze_pfnMemAllocDevice_t,
        zeMemAllocHost: ze_pfnMemAllocHost_t,
        zeMemFree: ze_pfnMemFree_t,
        zeModuleCreate: ze_pfnModuleCreate_t,
        zeModuleDestroy: ze_pfnModuleDestroy_t,
        zeModuleGetNativeBinary: ze_pfnModuleGetNativeBinary_t,
        zeModuleBuildLogGetString: ze_pfnModuleBuildLogGetString_t,
        zeModuleBuildLogDestroy: ze_pfnModuleBuildLogDestroy_t,
        zeKernelCreate: ze_pfnKernelCreate_t,
        zeKernelDestroy: ze_pfnKernelDestroy_t,
        zeKernelSetGroupSize: ze_pfnKernelSetGroupSize_t,
        zeKernelSetArgumentValue: ze_pfnKernelSetArgumentValue_t,
        zeKernelGetProperties: ze_pfnKernelGetProperties_t,
        zeCommandListCreateImmediate: ze_pfnCommandListCreateImmediate_t,
        zeCommandListDestroy: ze_pfnCommandListDestroy_t,
        zeCommandListAppendBarrier: ze_pfnCommandListAppendBarrier_t,
        zeCommandListAppendMemoryCopy: ze_pfnCommandListAppendMemoryCopy_t,
        zeCommandListAppendMemoryFill: ze_pfnCommandListAppendMemoryFill_t,
        zeCommandListAppendLaunchKernel: ze_pfnCommandListAppendLaunchKernel_t,
        zeEventPoolCreate: ze_pfnEventPoolCreate_t,
        zeEventPoolDestroy: ze_pfnEventPoolDestroy_t,
        zeEventCreate: ze_pfnEventCreate_t,
        zeEventDestroy: ze_pfnEventDestroy_t,
        zeEventHostSynchronize: ze_pfnEventHostSynchronize_t,
        zeEventHostReset: ze_pfnEventHostReset_t,
        zeEventQueryKernelTimestamp: ze_pfnEventQueryKernelTimestamp_t,
    }
    later {
        zeCommandListHostSynchronize: ze_pfnCommandListHostSynchronize_t,
    }
}
