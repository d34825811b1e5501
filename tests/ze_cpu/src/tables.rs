//! The tables that the loader asks for.
//!
//! A table is an array of function pointers. Only the slots of functions that exist here are written: the loader's
//! table may be shorter than the headers' of today.

use crate::entry::{device::*, event::*, list::*, memory::*, module::*};
use crate::slots;
use level_zero_sys::*;
use std::ffi::c_void;

macro_rules! functions {
    ($($name:ident)*) => {
        /// The function of this name, if this driver has it.
        fn find(name: &str) -> Option<*const c_void> {
            Some(match name {
                $(stringify!($name) => $name as *const c_void,)*
                _ => return None,
            })
        }
    };
}

functions! {
    zeInit zeDriverGet zeDriverGetApiVersion zeDriverGetProperties zeDeviceGet zeDeviceGetProperties
    zeDeviceGetComputeProperties zeDeviceGetModuleProperties zeDeviceGetMemoryProperties
    zeDeviceGetCommandQueueGroupProperties zeContextCreate zeContextDestroy
    zeMemAllocDevice zeMemAllocHost zeMemFree
    zeModuleCreate zeModuleDestroy zeModuleGetNativeBinary zeModuleBuildLogGetString zeModuleBuildLogDestroy
    zeKernelCreate zeKernelDestroy zeKernelSetGroupSize zeKernelSetArgumentValue zeKernelGetProperties
    zeCommandListCreateImmediate zeCommandListDestroy zeCommandListHostSynchronize
    zeCommandListAppendBarrier zeCommandListAppendMemoryCopy zeCommandListAppendMemoryFill
    zeCommandListAppendLaunchKernel
    zeEventPoolCreate zeEventPoolDestroy zeEventCreate zeEventDestroy zeEventHostSynchronize zeEventHostReset
    zeEventQueryKernelTimestamp
}

unsafe fn fill(
    version: ze_api_version_t,
    table: *mut *const c_void,
    names: &[&str],
) -> ze_result_t {
    if table.is_null() {
        return ZE_RESULT_ERROR_INVALID_NULL_POINTER;
    }
    if version >> 16 != 1 {
        return ZE_RESULT_ERROR_UNSUPPORTED_VERSION;
    }
    // The headers of the slots are those of 1.4; a newer loader has a longer table.
    let newer = match version & 0xffff {
        6.. if names == slots::COMMAND_LIST => &["zeCommandListHostSynchronize"][..],
        _ => &[],
    };
    for (slot, name) in names.iter().chain(newer).enumerate() {
        if let Some(f) = find(name) {
            *table.add(slot) = f;
        }
    }
    ZE_RESULT_SUCCESS
}

macro_rules! tables {
    ($($getter:ident $names:ident;)*) => {
        $(#[unsafe(no_mangle)]
        unsafe extern "C" fn $getter(version: ze_api_version_t, table: *mut *const c_void) -> ze_result_t {
            fill(version, table, slots::$names)
        })*
    };
}

/// The loader wants these to exist; nothing is in them.
macro_rules! empty {
    ($($getter:ident)*) => {
        $(#[unsafe(no_mangle)]
        unsafe extern "C" fn $getter(version: ze_api_version_t, table: *mut *const c_void) -> ze_result_t {
            fill(version, table, &[])
        })*
    };
}

tables! {
    zeGetGlobalProcAddrTable GLOBAL;
    zeGetDriverProcAddrTable DRIVER;
    zeGetDeviceProcAddrTable DEVICE;
    zeGetContextProcAddrTable CONTEXT;
    zeGetCommandListProcAddrTable COMMAND_LIST;
    zeGetEventPoolProcAddrTable EVENT_POOL;
    zeGetEventProcAddrTable EVENT;
    zeGetMemProcAddrTable MEM;
    zeGetModuleProcAddrTable MODULE;
    zeGetModuleBuildLogProcAddrTable MODULE_BUILD_LOG;
    zeGetKernelProcAddrTable KERNEL;
}

empty! {
    zeGetCommandQueueProcAddrTable zeGetFenceProcAddrTable
    zeGetImageProcAddrTable zeGetPhysicalMemProcAddrTable zeGetSamplerProcAddrTable zeGetVirtualMemProcAddrTable
    zetGetDeviceProcAddrTable zetGetContextProcAddrTable zetGetCommandListProcAddrTable
    zetGetKernelProcAddrTable zetGetModuleProcAddrTable zetGetDebugProcAddrTable zetGetMetricProcAddrTable
    zetGetMetricGroupProcAddrTable zetGetMetricQueryProcAddrTable zetGetMetricQueryPoolProcAddrTable
    zetGetMetricStreamerProcAddrTable zetGetTracerExpProcAddrTable
    zesGetDeviceProcAddrTable zesGetDriverProcAddrTable zesGetDiagnosticsProcAddrTable
    zesGetEngineProcAddrTable zesGetFabricPortProcAddrTable zesGetFanProcAddrTable
    zesGetFirmwareProcAddrTable zesGetFrequencyProcAddrTable zesGetLedProcAddrTable
    zesGetMemoryProcAddrTable zesGetPerformanceFactorProcAddrTable zesGetPowerProcAddrTable
    zesGetPsuProcAddrTable zesGetRasProcAddrTable zesGetSchedulerProcAddrTable
    zesGetStandbyProcAddrTable zesGetTemperatureProcAddrTable
}
