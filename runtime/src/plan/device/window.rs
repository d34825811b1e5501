//! Convolutions and maxima over windows on the device.

use super::super::{ConvolutionStep, Plan, TensorRef};
use super::state::{State, cached};
use super::{OnDevice, failed};
use crate::Error;
use crate::conv::Operation;
use crate::level_zero::Argument;

/// Items of a group.
const ITEMS: usize = 64;
/// Output channels of an item, as in `window.cl`.
const CHANNELS: usize = 4;

/// Why the kernel does not compute this.
pub fn refusal(step: &ConvolutionStep) -> Option<String> {
    if step.shape.result().is_none() {
        return Some("sizes that do not fit".into());
    }
    let four = |t: &TensorRef| t.sizes.len() == 4;
    let fits = four(&step.image) && step.weight.as_ref().is_none_or(four);
    (!fits).then(|| "images that are not of two dimensions".into())
}

impl OnDevice {
    /// Queues a convolution or maximum.
    pub(in crate::plan) fn window(
        &self,
        plan: &Plan,
        n: usize,
        step: &ConvolutionStep,
        state: &mut State,
        data: &[*mut u8],
    ) -> Result<(), Error> {
        let mut tensor = |t: &TensorRef| -> Result<*const u8, Error> {
            let start = self.read(plan, state, t.buffer, data[t.buffer.0 as usize])?;
            Ok(start.wrapping_offset(4 * t.offset as isize))
        };
        let image = tensor(&step.image)?;
        let weight = step.weight.as_ref().map(&mut tensor).transpose()?;
        let bias = step.bias.as_ref().map(&mut tensor).transpose()?;
        let out = step.result;
        let result = self.write(plan, state, out, data[out.0 as usize])?;
        let s = &step.shape;
        let size = s
            .result()
            .ok_or_else(|| Error::Plan("a window that does not fit".into()))?;
        let null = std::ptr::null();
        let pointers = [image, weight.unwrap_or(null), bias.unwrap_or(null), result];
        let mut arguments: Vec<Argument> = pointers.map(Argument::Address).to_vec();
        let counts = [s.images, s.groups, s.inputs, s.outputs];
        let pairs = [s.image, s.kernel, s.stride, s.padding, s.dilation, size];
        let numbers = counts.into_iter().chain(pairs.into_iter().flatten());
        arguments.extend(numbers.map(|n| Argument::I32(n as i32)));
        let none = [0; 4];
        let weights = step.weight.as_ref().map_or(&none[..], |w| &w.strides);
        arguments.extend(
            step.image
                .strides
                .iter()
                .chain(weights)
                .map(|&s| Argument::I64(s)),
        );
        let is_max = step.operation == Operation::Max;
        arguments.extend([is_max, bias.is_some()].map(|b| Argument::I32(b.into())));
        let blocks = (s.outputs / s.groups).div_ceil(CHANNELS) * s.groups;
        let items = s.images * blocks * size[0] * size[1];
        let State {
            kernels, stream, ..
        } = state;
        let kernel = cached(kernels, (n, 0), || {
            let mut kernel = self.library.window()?.kernel("window")?;
            kernel.set_group([ITEMS as u32, 1, 1])?;
            Ok(kernel)
        })?;
        let groups = [items.div_ceil(ITEMS) as u32, 1, 1];
        // SAFETY: the plan's tensors have the shape's sizes, in buffers that the state keeps.
        unsafe { stream.launch(kernel, groups, &arguments, None) }.map_err(failed)?;
        self.launched(1);
        Ok(())
    }
}
