//! Raw bindings to Level Zero, Intel's interface to its GPUs.
//!
//! [`bindings`](crate) are generated from the official headers by `generate.sh`; [`LevelZero`] is the table of entry
//! points in a loader (`libze_loader.so.1`) that is opened when it is first asked for: nothing links to it.
#![allow(
    non_camel_case_types,
    non_snake_case,
    reason = "the names are those of the C headers"
)]

#[allow(
    missing_docs,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    reason = "generated; the names are those of the specification, and zeroes are valid values of its structures"
)]
mod bindings;
mod loader;

pub use bindings::*;
pub use loader::{LevelZero, LoadError};

/// Commands of an immediate list run in the order in which they were appended (API 1.7).
pub const ZE_COMMAND_QUEUE_FLAG_IN_ORDER: ze_command_queue_flags_t = 1 << 1;

/// `zeCommandListHostSynchronize` (API 1.6): waits until an immediate list has run, or nanoseconds have passed.
pub type ze_pfnCommandListHostSynchronize_t =
    Option<unsafe extern "C" fn(list: ze_command_list_handle_t, timeout: u64) -> ze_result_t>;

/// The version number that stands for `major.minor`.
pub const fn api_version(major: u32, minor: u32) -> u32 {
    major << 16 | minor
}
