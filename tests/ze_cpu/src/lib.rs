//! ze_cpu: a Level Zero driver for tests.
//!
//! The real loader loads it (`ZE_ENABLE_ALT_DRIVERS`), and so every call of a program under test passes through Intel's own
//! loader, and through its validation layer where that is asked for. Kernels are the very SPIR-V that a GPU would get; they
//! run on Intel's OpenCL runtime for CPUs, where the matrix instructions (DPAS) and loads of 2D blocks are functions in `emulation.cl` and `pairs.cl`.
//!
//! It is hostile where the specification promises nothing:
//! - work runs only while the host waits;
//! - commands that no barrier, event or in-order list orders run last-first;
//! - device memory faults when the host touches it, ends at a guard page, and is never zero at first;
//! - handles are never used again; what they are destroyed twice, or out of order, is an error; a kernel that is destroyed
//!   before its launch has run loses the device;
//! - sizes and indices of kernel arguments are checked against the module, pointers against live allocations;
//! - matrix instructions at a sub-group size that the device does not have fail the build.
//!
//! | variable | meaning |
//! |---|---|
//! | `ZE_CPU_OPENCL` | the runtime's library |
//! | `ZE_CPU_DEVICE` | `hpg` (sub-groups of 8 for DPAS; default), `lpg` (8, without pairs), `hpc` (16), `xe2` (16), `plain` (no DPAS) |
//! | `ZE_CPU_BLOCKS` | 0: the compiler of `hpc` and `xe2` does not know loads of 2D blocks |
//! | `ZE_CPU_API` | minor version of the API: 4 (default), 7 has in-order lists |
//!
//! [`control`] makes the next calls fail and counts what is alive; [`environment`] finds the parts and makes the variables.
#![allow(
    non_snake_case,
    clippy::missing_safety_doc,
    unsafe_op_in_unsafe_fn,
    reason = "entry points bear the specification's names; their pointers are the caller's duty in all of each function"
)]

pub mod control;
mod entry;
pub mod environment;
mod opencl;
mod pairs;
mod signature;
mod slots;
mod tables;
pub mod tiers;
mod world;
