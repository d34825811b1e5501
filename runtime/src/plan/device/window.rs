//! Convolutions and maxima over windows on the device.

use super::super::{ConvolutionStep, Plan, TensorRef};
use super::state::{State, cached};
use super::{OnDevice, failed};
use crate::conv::{Operation, Shape};
use crate::level_zero::Argument;
use crate::level_zero::epilogue::Epilogue;
use crate::level_zero::product::Extra;
use crate::{DType, Error};

/// Items of a group.
const ITEMS: usize = 64;
/// Output channels of an item, as in `window.cl`.
const CHANNELS: usize = 4;

/// Why the kernels do not compute this.
pub fn refusal(step: &ConvolutionStep) -> Option<String> {
    if step.shape.result().is_none() {
        return Some("sizes that do not fit".into());
    }
    let four = |t: &TensorRef| t.sizes.len() == 4;
    let fits = four(&step.image) && step.weight.as_ref().is_none_or(four);
    (!fits).then(|| "images that are not of two dimensions".into())
}

/// Addresses on the device, null where there is no such tensor, and the type of all of them.
pub(super) struct Pointers {
    pub dtype: DType,
    pub image: *const u8,
    pub weight: *const u8,
    pub bias: *const u8,
    pub result: *const u8,
}

/// What kernels are told of a shape, from the image's size to the result's.
pub(super) fn numbers(s: &Shape) -> Vec<i32> {
    let result = s.result().unwrap_or([0; 2]);
    let pairs = [s.image, s.kernel, s.stride, s.padding, s.dilation, result];
    pairs.into_iter().flatten().map(|n| n as i32).collect()
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
        let dtype = DType::from_torch(step.image.scalar_type);
        let dtype = dtype.ok_or_else(|| Error::Plan("an image of no type".into()))?;
        let mut tensor = |t: Option<&TensorRef>| -> Result<*const u8, Error> {
            let Some(t) = t else {
                return Ok(std::ptr::null());
            };
            let start = self.read(plan, state, t.buffer, data[t.buffer.0 as usize])?;
            Ok(start.wrapping_offset(dtype.size() as isize * t.offset as isize))
        };
        let (image, weight) = (tensor(Some(&step.image))?, tensor(step.weight.as_ref())?);
        let bias = tensor(step.bias.as_ref())?;
        let follows = self.extra(plan, state, step.then.as_ref(), data)?;
        let out = step.result;
        let pointers = Pointers {
            dtype,
            image,
            weight,
            bias,
            result: self.write(plan, state, out, data[out.0 as usize])?,
        };
        let s = &step.shape;
        if s.images * s.outputs == 0 || s.result().is_none_or(|size| size.contains(&0)) {
            return Ok(());
        }
        if self.convolves(step, dtype) {
            return self.convolution(plan, n, step, &pointers, follows, state);
        }
        self.direct(n, step, &pointers, follows, state)
    }

    /// Without matrix instructions.
    fn direct(
        &self,
        n: usize,
        step: &ConvolutionStep,
        pointers: &Pointers,
        (epilogue, _, extra): (Epilogue, f32, Extra),
        state: &mut State,
    ) -> Result<(), Error> {
        let s = &step.shape;
        let size = s.result().unwrap_or([0; 2]);
        let addresses = [
            pointers.image,
            pointers.weight,
            pointers.bias,
            pointers.result,
            extra.bias,
            extra.scale,
            extra.residual.data,
        ];
        let mut arguments: Vec<Argument> = addresses.map(Argument::Address).to_vec();
        let counts = [s.images, s.groups, s.inputs, s.outputs];
        arguments.extend(counts.map(|n| Argument::I32(n as i32)));
        arguments.extend(numbers(s).into_iter().map(Argument::I32));
        let none = [0; 4];
        let weights = step.weight.as_ref().map_or(&none[..], |w| &w.strides);
        let strides = step.image.strides.iter().chain(weights);
        arguments.extend(strides.map(|&s| Argument::I64(s)));
        let [h, w, channels] = [size[0], size[1], s.outputs].map(|n| n as i64);
        let result = match step.last {
            true => [h * w * channels, 1, w * channels, channels],
            false => [channels * h * w, h * w, w, 1],
        };
        arguments.extend(result.map(Argument::I64));
        let is_max = step.operation == Operation::Max;
        arguments.extend([is_max, step.bias.is_some()].map(|b| Argument::I32(b.into())));
        let blocks = (s.outputs / s.groups).div_ceil(CHANNELS) * s.groups;
        let items = s.images * blocks * size[0] * size[1];
        let State {
            kernels, stream, ..
        } = state;
        let kernel = cached(kernels, (n, 0), || {
            let mut kernel = self
                .library
                .window(pointers.dtype, epilogue)?
                .kernel("window")?;
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
