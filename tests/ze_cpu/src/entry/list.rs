//! Immediate command lists.

use super::device::DEVICE;
use super::{NULL_HANDLE, OK, get, need};
use crate::world::{Command, List, Work, say, wait, world};
use level_zero_sys::*;
use std::collections::VecDeque;
use std::ffi::c_void;
use std::ptr::null_mut;

pub unsafe extern "C" fn zeCommandListCreateImmediate(
    c: ze_context_handle_t,
    d: ze_device_handle_t,
    desc: *const ze_command_queue_desc_t,
    out: *mut ze_command_list_handle_t,
) -> ze_result_t {
    let mut w = world();
    need!(
        w.contexts.contains(&(c as usize)) && d as usize == DEVICE,
        NULL_HANDLE
    );
    if ((*desc).ordinal, (*desc).index) != (1, 0) {
        say("group 1 is the only one that computes");
        return ZE_RESULT_ERROR_INVALID_ARGUMENT;
    }
    need!(!w.fails("list"), ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY);
    let h = w.handle();
    let in_order = (*desc).flags & ZE_COMMAND_QUEUE_FLAG_IN_ORDER != 0;
    w.lists.insert(
        h,
        List {
            pending: VecDeque::new(),
            in_order,
            lost: false,
        },
    );
    *out = h as _;
    OK
}

pub unsafe extern "C" fn zeCommandListDestroy(l: ze_command_list_handle_t) -> ze_result_t {
    let list = get!(world().lists.remove(&(l as usize)), NULL_HANDLE);
    if !list.pending.is_empty() && !list.lost {
        say("a command list was destroyed with work in it");
        return ZE_RESULT_ERROR_HANDLE_OBJECT_IN_USE;
    }
    OK
}

pub unsafe extern "C" fn zeCommandListHostSynchronize(
    l: ze_command_list_handle_t,
    timeout: u64,
) -> ze_result_t {
    wait(timeout, |w| match w.lists.get(&(l as usize)) {
        None => Some(NULL_HANDLE),
        Some(list) if list.lost => Some(ZE_RESULT_ERROR_DEVICE_LOST),
        Some(list) => list.pending.is_empty().then_some(OK),
    })
}

/// Appends a command; what it addresses has been checked.
unsafe fn append(
    l: ze_command_list_handle_t,
    work: Work,
    signal: ze_event_handle_t,
    (count, events): (u32, *mut ze_event_handle_t),
) -> ze_result_t {
    let mut w = world();
    let waits: Vec<usize> = (0..count as usize)
        .map(|k| *events.add(k) as usize)
        .collect();
    let known = |e: &usize| w.events.contains_key(e);
    let signals = signal.is_null() || known(&(signal as usize));
    need!(
        waits.iter().all(known) && signals,
        ZE_RESULT_ERROR_INVALID_SYNCHRONIZATION_OBJECT
    );
    let list = get!(w.lists.get_mut(&(l as usize)), NULL_HANDLE);
    need!(!list.lost, ZE_RESULT_ERROR_DEVICE_LOST);
    list.pending.push_back(Command {
        work,
        signal: signal as usize,
        waits,
    });
    OK
}

pub unsafe extern "C" fn zeCommandListAppendBarrier(
    l: ze_command_list_handle_t,
    signal: ze_event_handle_t,
    n: u32,
    events: *mut ze_event_handle_t,
) -> ze_result_t {
    append(l, Work::Barrier, signal, (n, events))
}

fn inside(address: usize, bytes: usize) -> bool {
    let holds = world().holds(address, bytes);
    if !holds {
        say("a command goes beyond an allocation");
    }
    holds
}

pub unsafe extern "C" fn zeCommandListAppendMemoryCopy(
    l: ze_command_list_handle_t,
    to: *mut c_void,
    from: *const c_void,
    bytes: usize,
    signal: ze_event_handle_t,
    n: u32,
    events: *mut ze_event_handle_t,
) -> ze_result_t {
    let (to, from) = (to as usize, from as usize);
    need!(
        inside(to, bytes) && inside(from, bytes),
        ZE_RESULT_ERROR_INVALID_SIZE
    );
    append(l, Work::Copy { to, from, bytes }, signal, (n, events))
}

pub unsafe extern "C" fn zeCommandListAppendMemoryFill(
    l: ze_command_list_handle_t,
    to: *mut c_void,
    pattern: *const c_void,
    size: usize,
    bytes: usize,
    signal: ze_event_handle_t,
    n: u32,
    events: *mut ze_event_handle_t,
) -> ze_result_t {
    need!(
        size.is_power_of_two() && size <= 16,
        ZE_RESULT_ERROR_INVALID_SIZE
    );
    need!(inside(to as usize, bytes), ZE_RESULT_ERROR_INVALID_SIZE);
    let pattern = std::slice::from_raw_parts(pattern.cast::<u8>(), size).to_vec();
    append(
        l,
        Work::Fill {
            to: to as usize,
            pattern,
            bytes,
        },
        signal,
        (n, events),
    )
}

pub unsafe extern "C" fn zeCommandListAppendLaunchKernel(
    l: ze_command_list_handle_t,
    k: ze_kernel_handle_t,
    groups: *const ze_group_count_t,
    signal: ze_event_handle_t,
    n: u32,
    events: *mut ze_event_handle_t,
) -> ze_result_t {
    // The arguments of a launch are those of this moment.
    let kernel = get!(world().kernels.get(&(k as usize)), NULL_HANDLE).clone();
    if let Some(missing) = kernel.arguments.iter().position(Option::is_none) {
        say(&format!(
            "{:?}: argument {missing} was never set",
            kernel.name
        ));
        return ZE_RESULT_ERROR_INVALID_ARGUMENT;
    }
    let groups = [
        (*groups).groupCountX,
        (*groups).groupCountY,
        (*groups).groupCountZ,
    ];
    let work = if groups.contains(&0) {
        Work::Barrier
    } else {
        Work::Launch(Box::new(kernel), k as usize, groups)
    };
    append(
        l,
        work,
        if signal.is_null() { null_mut() } else { signal },
        (n, events),
    )
}
