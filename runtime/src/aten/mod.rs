//! libtorch through its stable C ABI.

mod ffi;
mod tensor;

pub use ffi::{Aten, Handle};
pub use tensor::Tensor;
