//! Intel GPUs by Level Zero: devices, memory, modules, kernels, streams.
//!
//! Nothing is linked: the loader is opened when a device is asked for, and where there is none, [`Error::NoDevice`] says
//! what was looked for. Handles are owned by the types here and destroyed in the order that Level Zero asks for; what a queued
//! command uses is kept until its [`Stream`] has been waited for. See `docs/gpu.md`.

mod architecture;
pub mod blocks;
mod cache;
mod context;
mod driver;
pub mod epilogue;
mod error;
mod event;
mod kernel;
pub mod library;
mod memory;
mod module;
pub mod pack;
pub mod product;
mod refusal;
mod stream;
pub mod sycl;
pub mod tile;

pub use architecture::Architecture;
pub use context::Device;
pub use driver::{Selection, devices, open};
pub use error::{Error, NoDevice};
pub use event::Timer;
pub use kernel::{Argument, Kernel};
pub use memory::{Buffer, HostBuffer};
pub use module::{Module, Source};
pub use refusal::NoProduct;
pub use stream::Stream;
