//! USM: guard pages on both sides, the end flush with the upper one.

use super::device::DEVICE;
use super::{NULL_HANDLE, OK, get, need};
use crate::world::{Allocation, PAGE, world};
use level_zero_sys::*;
use std::ffi::c_void;
use std::ptr::null_mut;

/// What fresh memory is filled with: neither zero nor a plausible number.
const FRESH: u8 = 0xcd;

unsafe fn allocate(
    context: ze_context_handle_t,
    (size, align): (usize, usize),
    kind: ze_memory_type_t,
    out: *mut *mut c_void,
) -> ze_result_t {
    let mut w = world();
    need!(w.contexts.contains(&(context as usize)), NULL_HANDLE);
    need!(
        (1..=4 << 30).contains(&size),
        ZE_RESULT_ERROR_UNSUPPORTED_SIZE
    );
    need!(
        align == 0 || align.is_power_of_two(),
        ZE_RESULT_ERROR_UNSUPPORTED_ALIGNMENT
    );
    need!(!w.fails("memory"), ZE_RESULT_ERROR_OUT_OF_DEVICE_MEMORY);
    let align = align.max(64);
    let room = (size + align).next_multiple_of(PAGE);
    let map_len = room + 2 * PAGE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let map = libc::mmap(null_mut(), map_len, libc::PROT_NONE, flags, -1, 0);
    need!(
        map != libc::MAP_FAILED,
        ZE_RESULT_ERROR_OUT_OF_DEVICE_MEMORY
    );
    let map = map as usize;
    let pages = (map + PAGE) as *mut c_void;
    libc::mprotect(pages, room, libc::PROT_READ | libc::PROT_WRITE);
    let start = (map + PAGE + room - size) & !(align - 1);
    std::ptr::write_bytes(start as *mut u8, FRESH, size);
    if kind == ZE_MEMORY_TYPE_DEVICE {
        libc::mprotect(pages, room, libc::PROT_NONE);
    }
    w.memory.insert(
        start,
        Allocation {
            size,
            kind,
            map,
            map_len,
        },
    );
    *out = start as _;
    OK
}

pub unsafe extern "C" fn zeMemAllocDevice(
    c: ze_context_handle_t,
    _: *const ze_device_mem_alloc_desc_t,
    size: usize,
    align: usize,
    d: ze_device_handle_t,
    out: *mut *mut c_void,
) -> ze_result_t {
    need!(d as usize == DEVICE, NULL_HANDLE);
    allocate(c, (size, align), ZE_MEMORY_TYPE_DEVICE, out)
}

pub unsafe extern "C" fn zeMemAllocHost(
    c: ze_context_handle_t,
    _: *const ze_host_mem_alloc_desc_t,
    size: usize,
    align: usize,
    out: *mut *mut c_void,
) -> ze_result_t {
    allocate(c, (size, align), ZE_MEMORY_TYPE_HOST, out)
}

pub unsafe extern "C" fn zeMemFree(c: ze_context_handle_t, p: *mut c_void) -> ze_result_t {
    let mut w = world();
    need!(w.contexts.contains(&(c as usize)), NULL_HANDLE);
    let a = get!(
        w.memory.remove(&(p as usize)),
        ZE_RESULT_ERROR_INVALID_ARGUMENT
    );
    libc::munmap(a.map as _, a.map_len);
    OK
}
