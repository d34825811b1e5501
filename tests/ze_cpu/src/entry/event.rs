//! Events.

use super::{NULL_HANDLE, OK, get, need};
use crate::world::{Event, wait, world};
use level_zero_sys::*;

pub unsafe extern "C" fn zeEventPoolCreate(
    c: ze_context_handle_t,
    desc: *const ze_event_pool_desc_t,
    _: u32,
    _: *mut ze_device_handle_t,
    out: *mut ze_event_pool_handle_t,
) -> ze_result_t {
    let mut w = world();
    need!(w.contexts.contains(&(c as usize)), NULL_HANDLE);
    let h = w.handle();
    let timed = (*desc).flags & ZE_EVENT_POOL_FLAG_KERNEL_TIMESTAMP != 0;
    w.pools.insert(h, ((*desc).count, timed));
    *out = h as _;
    OK
}

pub unsafe extern "C" fn zeEventPoolDestroy(p: ze_event_pool_handle_t) -> ze_result_t {
    let mut w = world();
    let used = w.events.values().any(|e| e.pool == p as usize);
    need!(!used, ZE_RESULT_ERROR_HANDLE_OBJECT_IN_USE);
    w.pools.remove(&(p as usize)).map_or(NULL_HANDLE, |_| OK)
}

pub unsafe extern "C" fn zeEventCreate(
    p: ze_event_pool_handle_t,
    desc: *const ze_event_desc_t,
    out: *mut ze_event_handle_t,
) -> ze_result_t {
    let mut w = world();
    let &(count, timed) = get!(w.pools.get(&(p as usize)), NULL_HANDLE);
    need!((*desc).index < count, ZE_RESULT_ERROR_INVALID_ARGUMENT);
    let h = w.handle();
    w.events.insert(
        h,
        Event {
            pool: p as usize,
            timed,
            ..Event::default()
        },
    );
    *out = h as _;
    OK
}

pub unsafe extern "C" fn zeEventDestroy(e: ze_event_handle_t) -> ze_result_t {
    world()
        .events
        .remove(&(e as usize))
        .map_or(NULL_HANDLE, |_| OK)
}

pub unsafe extern "C" fn zeEventHostReset(e: ze_event_handle_t) -> ze_result_t {
    get!(world().events.get_mut(&(e as usize)), NULL_HANDLE).signaled = false;
    OK
}

pub unsafe extern "C" fn zeEventHostSynchronize(e: ze_event_handle_t, timeout: u64) -> ze_result_t {
    wait(timeout, |w| match w.events.get(&(e as usize)) {
        None => Some(NULL_HANDLE),
        Some(_) if w.lists.values().any(|l| l.lost) => Some(ZE_RESULT_ERROR_DEVICE_LOST),
        Some(e) => e.signaled.then_some(OK),
    })
}

pub unsafe extern "C" fn zeEventQueryKernelTimestamp(
    e: ze_event_handle_t,
    out: *mut ze_kernel_timestamp_result_t,
) -> ze_result_t {
    let w = world();
    let e = get!(w.events.get(&(e as usize)), NULL_HANDLE);
    need!(e.timed, ZE_RESULT_ERROR_INVALID_ARGUMENT);
    need!(e.signaled, ZE_RESULT_NOT_READY);
    let data = ze_kernel_timestamp_data_t {
        kernelStart: e.start,
        kernelEnd: e.end,
    };
    *out = ze_kernel_timestamp_result_t {
        global: data,
        context: data,
    };
    OK
}
