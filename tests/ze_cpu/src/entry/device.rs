//! Drivers, devices, contexts.

use super::{NULL_HANDLE, OK, list_of, need};
use crate::opencl::OpenCl;
use crate::world::{say, world};
use level_zero_sys::*;
use std::ffi::c_char;

const DRIVER: usize = 0x1001;
pub const DEVICE: usize = 0x1002;

/// The kind of device that is played.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    name: &'static str,
    id: u32,
    pub sub_groups: &'static [u32],
    /// Size of the sub-groups that have matrix instructions, or 0.
    pub matrix: u32,
    pub f64: bool,
}

const KINDS: [(&str, Kind); 5] = [
    (
        "hpg",
        Kind {
            name: "ze_cpu (Xe-HPG)",
            id: 0x56a0,
            sub_groups: &[8, 16, 32],
            matrix: 8,
            f64: false,
        },
    ),
    (
        "lpg",
        Kind {
            name: "ze_cpu (Arrow Lake H)",
            id: 0x7d51,
            sub_groups: &[8, 16, 32],
            matrix: 8,
            f64: false,
        },
    ),
    (
        "hpc",
        Kind {
            name: "ze_cpu (Xe-HPC)",
            id: 0x0bd5,
            sub_groups: &[16, 32],
            matrix: 16,
            f64: true,
        },
    ),
    (
        "xe2",
        Kind {
            name: "ze_cpu (Xe2)",
            id: 0xe20b,
            sub_groups: &[16, 32],
            matrix: 16,
            f64: true,
        },
    ),
    (
        "plain",
        Kind {
            name: "ze_cpu (Xe-LP)",
            id: 0x9a49,
            sub_groups: &[8, 16, 32],
            matrix: 0,
            f64: false,
        },
    ),
];

impl Kind {
    /// Whether pairs of sub-groups multiply together.
    pub fn pairs(self) -> bool {
        self.id == 0x56a0
    }

    /// Whether the compiler knows loads of 2D blocks. `ZE_CPU_BLOCKS=0` is one that does not.
    pub fn blocks(self) -> bool {
        self.matrix == 16 && knows_blocks()
    }
}

/// A number of the functions that kernels are linked with.
const EMULATION: u32 = number_of(concat!(
    include_str!("../emulation.cl"),
    include_str!("../pairs.cl")
));

const fn number_of(text: &str) -> u32 {
    let (bytes, mut at, mut sum) = (text.as_bytes(), 0, 0x811c_9dc5_u32);
    while at < bytes.len() {
        sum = (sum ^ bytes[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    sum
}

fn knows_blocks() -> bool {
    std::env::var_os("ZE_CPU_BLOCKS").is_none_or(|v| v != "0")
}

/// The device that the environment asks for.
pub fn kind() -> Kind {
    let asked = std::env::var("ZE_CPU_DEVICE").unwrap_or_else(|_| "hpg".into());
    let found = KINDS.iter().find(|(name, _)| *name == asked);
    found
        .unwrap_or_else(|| {
            say(&format!("no device {asked}; this is {}", KINDS[0].0));
            &KINDS[0]
        })
        .1
}

/// Minor version of the API.
fn minor() -> u32 {
    std::env::var("ZE_CPU_API")
        .ok()
        .and_then(|v| v.parse().ok())
        .unwrap_or(4)
}

pub unsafe extern "C" fn zeInit(_: ze_init_flags_t) -> ze_result_t {
    match OpenCl::get() {
        Ok(_) => OK,
        Err(why) => {
            say(&why);
            ZE_RESULT_ERROR_UNINITIALIZED
        }
    }
}

pub unsafe extern "C" fn zeDriverGet(n: *mut u32, out: *mut ze_driver_handle_t) -> ze_result_t {
    list_of(n, out, &[DRIVER as ze_driver_handle_t])
}

pub unsafe extern "C" fn zeDriverGetApiVersion(
    _: ze_driver_handle_t,
    v: *mut ze_api_version_t,
) -> ze_result_t {
    *v = api_version(1, minor()) as ze_api_version_t;
    OK
}

pub unsafe extern "C" fn zeDriverGetProperties(
    _: ze_driver_handle_t,
    p: *mut ze_driver_properties_t,
) -> ze_result_t {
    // What one of them has compiled is not for the other, nor for one with another emulation.
    (*p).driverVersion = EMULATION.wrapping_mul(2) + u32::from(knows_blocks());
    (*p).uuid.id = *b"ze_cpu test drv\0";
    OK
}

pub unsafe extern "C" fn zeDeviceGet(
    d: ze_driver_handle_t,
    n: *mut u32,
    out: *mut ze_device_handle_t,
) -> ze_result_t {
    need!(d as usize == DRIVER, NULL_HANDLE);
    list_of(n, out, &[DEVICE as ze_device_handle_t])
}

unsafe fn write_text(to: &mut [c_char], text: &str) {
    for (to, byte) in to.iter_mut().zip(text.bytes().chain([0])) {
        *to = byte as c_char;
    }
}

pub unsafe extern "C" fn zeDeviceGetProperties(
    d: ze_device_handle_t,
    p: *mut ze_device_properties_t,
) -> ze_result_t {
    need!(d as usize == DEVICE, NULL_HANDLE);
    let (p, kind) = (&mut *p, kind());
    need!(
        p.stype == ZE_STRUCTURE_TYPE_DEVICE_PROPERTIES,
        ZE_RESULT_ERROR_INVALID_ARGUMENT
    );
    (p.type_, p.vendorId, p.deviceId) = (ZE_DEVICE_TYPE_GPU, 0x8086, kind.id);
    (p.coreClockRate, p.maxMemAllocSize) = (2400, 4 << 30);
    (p.numThreadsPerEU, p.physicalEUSimdWidth) = (8, kind.sub_groups[0]);
    (p.numEUsPerSubslice, p.numSubslicesPerSlice, p.numSlices) = (16, 4, 8);
    (
        p.timerResolution,
        p.timestampValidBits,
        p.kernelTimestampValidBits,
    ) = (1, 64, 64);
    p.uuid.id = *b"ze_cpu device 0\0";
    write_text(&mut p.name, kind.name);
    OK
}

pub unsafe extern "C" fn zeDeviceGetComputeProperties(
    d: ze_device_handle_t,
    p: *mut ze_device_compute_properties_t,
) -> ze_result_t {
    need!(d as usize == DEVICE, NULL_HANDLE);
    let (p, sizes) = (&mut *p, kind().sub_groups);
    p.maxTotalGroupSize = 1024;
    (p.maxGroupSizeX, p.maxGroupSizeY, p.maxGroupSizeZ) = (1024, 1024, 1024);
    (p.maxGroupCountX, p.maxGroupCountY, p.maxGroupCountZ) = (u32::MAX, u32::MAX, u32::MAX);
    p.maxSharedLocalMemory = 65536;
    p.numSubGroupSizes = sizes.len() as u32;
    p.subGroupSizes[..sizes.len()].copy_from_slice(sizes);
    OK
}

pub unsafe extern "C" fn zeDeviceGetModuleProperties(
    _: ze_device_handle_t,
    p: *mut ze_device_module_properties_t,
) -> ze_result_t {
    let p = &mut *p;
    p.spirvVersionSupported = api_version(1, 2);
    p.flags = ZE_DEVICE_MODULE_FLAG_FP16;
    if kind().f64 {
        p.flags |= ZE_DEVICE_MODULE_FLAG_FP64;
    }
    (p.maxArgumentsSize, p.printfBufferSize) = (2048, 4 << 20);
    OK
}

pub unsafe extern "C" fn zeDeviceGetCommandQueueGroupProperties(
    _: ze_device_handle_t,
    n: *mut u32,
    out: *mut ze_command_queue_group_properties_t,
) -> ze_result_t {
    if *n == 0 || out.is_null() {
        *n = 2;
        return OK;
    }
    *n = (*n).min(2);
    for k in 0..*n as usize {
        let p = &mut *out.add(k);
        let copy = ZE_COMMAND_QUEUE_GROUP_PROPERTY_FLAG_COPY;
        // A group that only copies comes first: programs that take the first one are wrong.
        p.flags = if k == 0 {
            copy
        } else {
            copy | ZE_COMMAND_QUEUE_GROUP_PROPERTY_FLAG_COMPUTE
        };
        (p.maxMemoryFillPatternSize, p.numQueues) = (16, 1);
    }
    OK
}

pub unsafe extern "C" fn zeDeviceGetMemoryProperties(
    _: ze_device_handle_t,
    n: *mut u32,
    out: *mut ze_device_memory_properties_t,
) -> ze_result_t {
    if *n > 0 && !out.is_null() {
        (*out).totalSize = 8 << 30;
        ((*out).maxClockRate, (*out).maxBusWidth) = (2000, 256);
    }
    *n = 1;
    OK
}

pub unsafe extern "C" fn zeContextCreate(
    d: ze_driver_handle_t,
    _: *const ze_context_desc_t,
    out: *mut ze_context_handle_t,
) -> ze_result_t {
    need!(d as usize == DRIVER, NULL_HANDLE);
    let mut w = world();
    let h = w.handle();
    w.contexts.insert(h);
    *out = h as _;
    OK
}

pub unsafe extern "C" fn zeContextDestroy(c: ze_context_handle_t) -> ze_result_t {
    if world().contexts.remove(&(c as usize)) {
        OK
    } else {
        NULL_HANDLE
    }
}
