//! libtorch through its stable C ABI.

pub mod dispatch;
mod ffi;
pub mod onednn;
mod team;
mod tensor;
mod threads;

pub use ffi::{Aten, Handle};
pub use tensor::{Place, Tensor};
