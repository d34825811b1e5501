//! Convolutions of f16 and bf16 by matrix instructions: weights times the windows of the image, packed as a second matrix.
//!
//! For each image and group `result[outputs, pixels] = weight[outputs, inputs * taps] @ windows[inputs * taps, pixels]`, so
//! that the result is row-major as it should be. In channels-last order it is `result[pixels, outputs] = windows[pixels, inputs *
//! taps] @ weight^T`, of all images at once, and the windows are copied as rows, unless they are pixels and lie there.

use super::super::{ConvolutionStep, Plan, TensorRef};
use super::state::{State, cached};
use super::window::{Pointers, numbers};
use super::{OnDevice, failed};
use crate::conv::Operation;
use crate::gemm::Precision;
use crate::level_zero::Argument;
use crate::level_zero::blocks::Layout;
use crate::level_zero::epilogue::{Axis, Epilogue};
use crate::level_zero::pack::Packed;
use crate::level_zero::product::{Extra, Operand, Product, Rows};
use crate::{DType, Error};

/// Outputs of a group from which a tile of rows is not mostly empty.
const OUTPUTS: usize = 8;

impl OnDevice {
    /// Whether matrix instructions compute a convolution.
    pub(super) fn convolves(&self, step: &ConvolutionStep, dtype: DType) -> bool {
        let s = &step.shape;
        step.operation == Operation::Sum
            && self.multiplies(dtype, Precision::Full)
            && s.outputs / s.groups >= OUTPUTS
            && (!step.last || s.groups == 1)
            && step
                .weight
                .as_ref()
                .is_some_and(|w| w.is_row_major() || step.last && is_by_tap(w))
    }

    /// Queues a convolution that [`OnDevice::convolves`]. `pointers` and `extra` are on the device.
    pub(super) fn convolution(
        &self,
        plan: &Plan,
        n: usize,
        step: &ConvolutionStep,
        pointers: &Pointers,
        (mut epilogue, factor, mut extra): (Epilogue, f32, Extra),
        state: &mut State,
    ) -> Result<(), Error> {
        let s = &step.shape;
        let (Some([h, w]), Some(weight)) = (s.result(), &step.weight) else {
            return Err(Error::Plan("a convolution that does not fit".into()));
        };
        let fixed = self.is_fixed(plan, weight.buffer.0 as usize);
        if step.last {
            let follows = (epilogue, factor, extra);
            return self.channels_last(n, step, pointers, fixed, follows, state);
        }
        let (rows, pixels) = (s.outputs / s.groups, h * w);
        let depth = s.inputs / s.groups * s.kernel[0] * s.kernel[1];
        let operand = |data: *const u8, row: usize, rows: usize| Operand {
            data,
            strides: [(row * rows) as i64, row as i64, 1],
        };
        let result = operand(pointers.result, pixels, rows);
        if step.bias.is_some() {
            epilogue.bias = Some(Axis::Row);
            extra.bias = pointers.bias;
        }
        extra.residual.strides = result.strides;
        let p = Product {
            dtype: pointers.dtype,
            result: pointers.dtype,
            sizes: [s.images * s.groups, rows, pixels, depth],
            a: operand(pointers.weight, depth, rows),
            b: Operand {
                data: pointers.image,
                strides: [0; 3],
            },
            c: result,
            input: None,
            alpha: factor,
            beta: 0.0,
            repeat: s.groups,
        };
        let packed = self.columns(n, step, &p, state)?;
        let first = self.first(n, &p, fixed, state)?;
        let second = (Some(&packed), Layout::Packed);
        self.by_matrix(n, &p, first.as_ref(), second, (epilogue, &extra), state)
    }

    /// The same with a result in channels-last order, of one group.
    fn channels_last(
        &self,
        n: usize,
        step: &ConvolutionStep,
        pointers: &Pointers,
        fixed: bool,
        (mut epilogue, factor, mut extra): (Epilogue, f32, Extra),
        state: &mut State,
    ) -> Result<(), Error> {
        let s = &step.shape;
        let pixels = s.images * s.result().map_or(0, |[h, w]| h * w);
        let depth = s.inputs * s.kernel[0] * s.kernel[1];
        let rows = |data: *const u8, row: usize| Operand {
            data,
            strides: [0, row as i64, 1],
        };
        if step.bias.is_some() {
            epilogue.bias = Some(Axis::Column);
            extra.bias = pointers.bias;
        }
        extra.residual.strides = [0, s.outputs as i64, 1];
        let p = Product {
            dtype: pointers.dtype,
            result: pointers.dtype,
            sizes: [1, pixels, s.outputs, depth],
            a: rows(pointers.image, s.inputs),
            b: Operand {
                data: pointers.weight,
                strides: [0, 1, depth as i64],
            },
            c: rows(pointers.result, s.outputs),
            input: None,
            alpha: factor,
            beta: 0.0,
            repeat: 0,
        };
        let first = match is_of_pixels(step) && self.reads_in_place(&p) {
            true => None,
            false => Some(self.windows(n, step, pixels, depth, pointers.image, state)?),
        };
        let (packed, layout) = self.second(n, &p, first.as_ref(), fixed, state)?;
        let second = (packed.as_ref(), layout);
        self.by_matrix(n, &p, first.as_ref(), second, (epilogue, &extra), state)
    }

    /// Copies the windows of all images as rows.
    fn windows(
        &self,
        n: usize,
        step: &ConvolutionStep,
        pixels: usize,
        depth: usize,
        image: *const u8,
        state: &mut State,
    ) -> Result<Rows, Error> {
        let s = &step.shape;
        let (rows, pitch) = Rows::new(&self.target.device, pixels, depth, 2).map_err(failed)?;
        let mut arguments = vec![
            Argument::Address(image),
            Argument::Memory(rows.elements(), 0),
        ];
        let by_tap = step.weight.as_ref().is_some_and(|w| !w.is_row_major());
        let counts = [s.images, pitch, by_tap.into(), s.inputs];
        arguments.extend(counts.map(|n| Argument::I32(n as i32)));
        arguments.extend(numbers(s).into_iter().map(Argument::I32));
        arguments.extend(step.image.strides.iter().map(|&s| Argument::I64(s)));
        let State {
            kernels, stream, ..
        } = state;
        let kernel = cached(kernels, (n, 2), || {
            let mut kernel = self.library.windows()?.kernel("windows")?;
            kernel.set_group([64, 1, 1])?;
            Ok(kernel)
        })?;
        let groups = [(pixels * pitch).div_ceil(64) as u32, 1, 1];
        // SAFETY: the plan's image has the shape's sizes, in a buffer that the state keeps.
        unsafe { stream.launch(kernel, groups, &arguments, None) }.map_err(failed)?;
        self.launched(1);
        Ok(rows)
    }

    /// Packs the windows of all images.
    fn columns(
        &self,
        n: usize,
        step: &ConvolutionStep,
        p: &Product,
        state: &mut State,
    ) -> Result<Packed, Error> {
        let (s, [batch, _, pixels, depth]) = (&step.shape, p.sizes);
        let device = &self.target.device;
        let (packed, lanes) = Packed::new(device, [batch, pixels, depth], 2).map_err(failed)?;
        let mut arguments = vec![
            Argument::Address(p.b.data),
            Argument::Memory(packed.words(), 0),
        ];
        arguments.extend([s.groups, s.inputs / s.groups].map(|n| Argument::I32(n as i32)));
        arguments.extend(numbers(s).into_iter().map(Argument::I32));
        arguments.extend(step.image.strides.iter().map(|&s| Argument::I64(s)));
        arguments.push(Argument::I32(lanes as i32));
        let State {
            kernels, stream, ..
        } = state;
        let kernel = cached(kernels, (n, 1), || {
            let mut kernel = self.library.columns()?.kernel("columns")?;
            kernel.set_group([64, 1, 1])?;
            Ok(kernel)
        })?;
        // SAFETY: the plan's image has the shape's sizes, in a buffer that the state keeps.
        unsafe { stream.launch(kernel, packed.groups(batch), &arguments, None) }.map_err(failed)?;
        self.launched(1);
        Ok(packed)
    }
}

/// Whether a weight is in channels-last order: of an output all inputs of a tap, then those of the next.
fn is_by_tap(weight: &TensorRef) -> bool {
    let (&[_, inputs, h, w], &[output, input, row, column]) =
        (weight.sizes.as_slice(), weight.strides.as_slice())
    else {
        return false;
    };
    let in_order = |n: i64, stride: i64, want: i64| n == 1 || stride == want;
    input == 1
        && in_order(w, column, inputs)
        && in_order(h, row, inputs * w)
        && in_order(weight.sizes[0], output, inputs * w * h)
}

/// Whether windows are the pixels of an image in channels-last order, one after the other.
fn is_of_pixels(step: &ConvolutionStep) -> bool {
    let s = &step.shape;
    let &[image, channel, row, column] = step.image.strides.as_slice() else {
        return false;
    };
    let [h, w, inputs] = [s.image[0], s.image[1], s.inputs].map(|n| n as i64);
    let in_order = channel == 1 && column == inputs && row == w * column && image == h * row;
    in_order && s.kernel == [1; 2] && s.stride == [1; 2] && s.padding == [0; 2]
}
