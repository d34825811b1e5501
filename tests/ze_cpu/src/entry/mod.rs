//! The entry points, by topic.

pub mod device;
pub mod event;
pub mod list;
pub mod memory;
pub mod module;

use level_zero_sys::*;

pub const OK: ze_result_t = ZE_RESULT_SUCCESS;
pub const NULL_HANDLE: ze_result_t = ZE_RESULT_ERROR_INVALID_NULL_HANDLE;

/// Returns an error unless a condition holds.
macro_rules! need {
    ($condition:expr, $error:expr) => {
        if !$condition {
            return $error;
        }
    };
}

/// The value, or a return of this error.
macro_rules! get {
    ($option:expr, $error:expr) => {
        match $option {
            Some(value) => value,
            None => return $error,
        }
    };
}
pub(crate) use {get, need};

/// The usual protocol of lists: a count, then so many elements.
pub unsafe fn list_of<T: Copy>(count: *mut u32, out: *mut T, items: &[T]) -> ze_result_t {
    need!(!count.is_null(), ZE_RESULT_ERROR_INVALID_NULL_POINTER);
    if *count == 0 || out.is_null() {
        *count = items.len() as u32;
        return OK;
    }
    *count = (*count).min(items.len() as u32);
    std::ptr::copy_nonoverlapping(items.as_ptr(), out, *count as usize);
    OK
}
