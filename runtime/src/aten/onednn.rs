//! Convolutions by oneDNN with what follows them, through the functions that Inductor's generated code calls
//! (`torch/csrc/inductor/aoti_torch/c/shim_cpu.h` of PyTorch 2.15; absent where it was built without oneDNN).

use super::dispatch::{Argument, Operator, Return};
use super::{Aten, Handle, Tensor};
use crate::Error;
use std::ffi::{CStr, c_char};
use std::ptr::null;

/// Where windows lie.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "ATen's names")]
pub struct Window {
    pub stride: Vec<i64>,
    pub padding: Vec<i64>,
    pub dilation: Vec<i64>,
    pub output_padding: Vec<i64>,
    pub groups: i64,
    pub transposed: bool,
}

/// A function of the result that oneDNN computes in the same loop, where that is faster than a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "PyTorch's names")]
pub enum PostOp {
    None,
    Hardswish,
    /// With this slope below 0.
    LeakyRelu(f64),
}

impl PostOp {
    /// The function's name there.
    fn name(self) -> &'static CStr {
        match self {
            PostOp::None => c"none",
            PostOp::Hardswish => c"hardswish",
            PostOp::LeakyRelu(_) => c"leaky_relu",
        }
    }
}

/// The convolution, into a tensor of its own.
pub fn convolve(
    image: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    window: &Window,
    then: PostOp,
) -> Result<Tensor, Error> {
    let aten = image.aten();
    let bias = bias.map(Tensor::handle);
    let bias: *const Handle = bias.as_ref().map_or(null(), |b| b);
    let slope = match then {
        PostOp::LeakyRelu(slope) => Some(slope),
        _ => None,
    };
    let numbers: Vec<*const f64> = slope.iter().map(|s| s as *const f64).collect();
    // Only GELU has several.
    let (name, formula): (_, *const *const c_char) = (then.name(), null());
    let (image, weight) = (image.handle(), weight.handle());
    let [padding, more, stride, dilation] = [
        &window.padding,
        &window.output_padding,
        &window.stride,
        &window.dilation,
    ]
    .map(|list| (list.as_ptr(), list.len() as i64));
    let (groups, name, numbers) = (
        window.groups,
        name.as_ptr(),
        (numbers.as_ptr(), numbers.len() as i64),
    );
    if window.transposed {
        let symbol = "aoti_torch_cpu_mkldnn__convolution_transpose_pointwise";
        let call = aten.aoti_torch_cpu_mkldnn__convolution_transpose_pointwise;
        let call = call.ok_or_else(|| Error::Symbol(symbol.into()))?;
        // SAFETY: handles, lists and names outlive the call.
        return Tensor::make(aten, "oneDNN", |out| unsafe {
            call(
                image, weight, bias, padding.0, padding.1, more.0, more.1, stride.0, stride.1,
                dilation.0, dilation.1, groups, name, numbers.0, numbers.1, formula, out,
            )
        });
    }
    let symbol = "aoti_torch_cpu_mkldnn__convolution_pointwise";
    let call = aten.aoti_torch_cpu_mkldnn__convolution_pointwise;
    let call = call.ok_or_else(|| Error::Symbol(symbol.into()))?;
    // SAFETY: as above.
    Tensor::make(aten, "oneDNN", |out| unsafe {
        call(
            image, weight, bias, padding.0, padding.1, stride.0, stride.1, dilation.0, dilation.1,
            groups, name, numbers.0, numbers.1, formula, out,
        )
    })
}

/// Weights in the order that oneDNN wants them in for images of these sizes: a tensor that only [`convolve`] can read.
pub fn pack(
    aten: &'static Aten,
    weight: Tensor,
    window: &Window,
    image: &[i64],
) -> Result<Tensor, Error> {
    let list =
        |all: &[i64]| Argument::List(all.iter().map(|&n| Argument::Word(n as u64)).collect());
    let mut arguments = vec![Argument::Tensor, list(&window.padding)];
    if window.transposed {
        arguments.push(list(&window.output_padding));
    }
    arguments.extend([
        list(&window.stride),
        list(&window.dilation),
        Argument::Word(window.groups as u64),
        Argument::Present(Box::new(list(image))),
    ]);
    let name = match window.transposed {
        true => c"mkldnn::_reorder_convolution_transpose_weight",
        false => c"mkldnn::_reorder_convolution_weight",
    };
    let operator = Operator {
        name: name.into(),
        overload: c"".into(),
        arguments,
        returns: vec![Return::Tensor],
    };
    let mut packed = operator.call(aten, vec![weight])?;
    let missing = || Error::Plan("packing returned nothing".into());
    packed.pop().ok_or_else(missing)
}
