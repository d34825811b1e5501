//! Convolutions of a plan, on kernels of our own.

use super::packed::Packed;
use super::shared::Slot;
use super::{BufferId, CallArg, Callable, ExternalCall, Route, TensorRef, Then};
use crate::aten::dispatch::{Argument, Operator, Return};
use crate::aten::{Aten, Place, Tensor};
use crate::conv::last::{self, Tensors};
use crate::conv::{self, Operation, Pointers, Shape, Threads, Weights};
use crate::cpu::Isa;
use crate::{DType, Error};
use std::sync::Arc;

/// A convolution, and perhaps a kernel that runs on its planes while they are in cache.
#[derive(Clone)]
#[expect(missing_docs, reason = "the fields are named by their role")]
pub struct ConvolutionStep {
    pub operation: Operation,
    pub shape: Shape,
    /// Whether image, weights and result lie in channels-last order.
    pub last: bool,
    pub image: TensorRef,
    pub weight: Option<TensorRef>,
    pub bias: Option<TensorRef>,
    /// All of this buffer.
    pub result: BufferId,
    /// The weight never changes: where its transformed form is kept between calls
    /// ([`super::Plan::packs`]).
    pub pack: Option<u32>,
    pub then: Option<Then>,
}

impl ConvolutionStep {
    /// Computes it. `data` holds the first byte of each buffer, `args` those of the parameters of
    /// [`ConvolutionStep::then`].
    ///
    /// # Safety
    /// The buffers hold what the step's tensors and the kernel's parameters address.
    pub unsafe fn run(
        &self,
        data: &[*mut u8],
        args: &[*mut u8],
        aten: &'static Aten,
        packs: &[Slot],
    ) -> Result<(), Error> {
        if self.last {
            // SAFETY: by contract.
            return unsafe { self.run_last(data, args, aten, packs) };
        }
        // What is not row-major is copied, and the copies live until the convolution is done.
        let mut copies: Vec<Tensor> = Vec::new();
        let mut rows = |t: &TensorRef| -> Result<*const f32, Error> {
            // SAFETY: by contract.
            unsafe { lying(t, &t.row_major(), data, aten, &mut copies) }.map(|p| p.cast())
        };
        let pointers = Pointers {
            image: rows(&self.image)?,
            weight: match &self.weight {
                Some(weight) => rows(weight)?,
                None => std::ptr::null(),
            },
            bias: self.bias.as_ref().map(&mut rows).transpose()?,
            result: data[self.result.0 as usize].cast(),
        };
        // SAFETY: by contract.
        let weights = unsafe { self.transformed(&pointers, aten, packs) }?;
        let convolve = |then: Option<conv::Then>| {
            let (isa, operation) = (Isa::detect(), self.operation);
            // SAFETY: the plan's tensors have the shape's sizes.
            unsafe { conv::run(&self.shape, operation, isa, pointers, weights, aten, then) }
        };
        let Some(then) = &self.then else {
            return convolve(None);
        };
        // SAFETY: by contract.
        let run = unsafe { following(then, args) };
        let (planes, unit) = (self.shape.images * self.shape.outputs, then.planes as usize);
        if planes / unit >= aten.count() {
            return convolve(Some(conv::Then { unit, run: &run }));
        }
        // Too few pieces for all threads.
        convolve(None)?;
        run(0, planes);
        Ok(())
    }

    /// As [`ConvolutionStep::run`], of images in channels-last order, where a pixel of the result is a plane.
    unsafe fn run_last(
        &self,
        data: &[*mut u8],
        args: &[*mut u8],
        aten: &'static Aten,
        packs: &[Slot],
    ) -> Result<(), Error> {
        let dtype = DType::from_torch(self.image.scalar_type);
        let (Some(dtype), Some(weight)) = (dtype, &self.weight) else {
            return Err(Error::Plan("no kernel for this convolution".into()));
        };
        let mut copies: Vec<Tensor> = Vec::new();
        let mut lie = |t: &TensorRef, strides: &[i64]| {
            // SAFETY: by contract.
            unsafe { lying(t, strides, data, aten, &mut copies) }
        };
        let image = lie(&self.image, &self.image_strides())?;
        let mut pixels = |t: &TensorRef| lie(t, &pixel_by_pixel(t));
        let tensors = Tensors {
            dtype,
            image,
            planes: self.planes(),
            weight: pixels(weight)?,
            bias: self.bias.as_ref().map(&mut pixels).transpose()?,
            result: data[self.result.0 as usize],
        };
        let (shape, isa) = (&self.shape, Isa::detect());
        let slot = self.pack.and_then(|n| packs.get(n as usize));
        if let Some(slot) = slot.filter(|slot| slot.get().is_none()) {
            // SAFETY: by contract.
            let made = unsafe { last::pack(shape, dtype, isa, tensors.weight, aten) }?;
            slot.get_or_init(|| Packed::Product(made));
        }
        let packed = match slot.and_then(|slot| slot.get()) {
            Some(Packed::Product(packed)) => Some(packed),
            _ => None,
        };
        let convolve = |then: Option<&last::Then>| {
            // SAFETY: the plan's tensors have the shape's sizes and this order.
            unsafe { last::run(shape, isa, tensors, packed, aten, then) }
        };
        let Some(then) = &self.then else {
            return convolve(None);
        };
        // SAFETY: by contract.
        let run = unsafe { following(then, args) };
        if then.planes == 1 {
            return convolve(Some(&|pixels| run(pixels.start, pixels.end)));
        }
        convolve(None)?;
        let [height, width] = shape.result().unwrap_or([0; 2]);
        let (pixels, unit) = (shape.images * height * width, then.planes as usize);
        let grain = (then.grain / then.iterations).max(1) as usize;
        aten.split(pixels / unit, grain, &|begin, end| {
            run(begin * unit, end * unit)
        })
    }

    /// Whether the image is read as it lies, row by row, by kernels for channels-last order.
    fn planes(&self) -> bool {
        let dtype = DType::from_torch(self.image.scalar_type);
        let reads = |dtype| last::reads_planes(&self.shape, dtype, Isa::detect());
        self.last && self.image.is_row_major() && dtype.is_some_and(reads)
    }

    /// How the image has to lie.
    fn image_strides(&self) -> Vec<i64> {
        match self.last && !self.planes() {
            true => pixel_by_pixel(&self.image),
            false => self.image.row_major(),
        }
    }

    /// Whether ATen copies a tensor first, since it lies in another order.
    pub(super) fn copies(&self) -> bool {
        let order = |t: &TensorRef| match self.last {
            true => pixel_by_pixel(t),
            false => t.row_major(),
        };
        let others = [self.weight.as_ref(), self.bias.as_ref()];
        let mut others = others.iter().flatten();
        !lies(&self.image, &self.image_strides()) || !others.all(|t| lies(t, &order(t)))
    }

    /// The same by ATen, into a tensor of its own; none for maxima. `result` is all of this step's result.
    pub fn rival(&self, result: TensorRef) -> Option<ExternalCall> {
        let weight = self
            .weight
            .as_ref()
            .filter(|_| self.operation == Operation::Sum)?;
        let dims = self.image.sizes.len().checked_sub(2)?;
        let of = |pair: [usize; 2]| {
            let last = pair[2usize.checked_sub(dims)?..].iter();
            Some(Argument::List(
                last.map(|&n| Argument::Word(n as u64)).collect(),
            ))
        };
        let s = &self.shape;
        let bias = match &self.bias {
            Some(_) => Argument::Present(Box::new(Argument::Tensor)),
            None => Argument::Word(0),
        };
        let operator = Operator {
            name: c"aten::convolution".into(),
            overload: c"".into(),
            arguments: vec![
                Argument::Tensor,
                Argument::Tensor,
                bias,
                of(s.stride)?,
                of(s.padding)?,
                of(s.dilation)?,
                Argument::Word(0),
                of([0, 0])?,
                Argument::Word(s.groups as u64),
            ],
            returns: vec![Return::Tensor],
        };
        let tensors = [Some(&self.image), Some(weight), self.bias.as_ref()];
        Some(ExternalCall {
            name: "aten.convolution.default".into(),
            route: Route::Dispatcher {
                operator: Arc::new(operator),
                // There is none: what fails is not taken.
                callable: Callable {
                    index: u32::MAX,
                    numbers: Vec::new(),
                },
            },
            keeps: false,
            args: tensors
                .into_iter()
                .flatten()
                .cloned()
                .map(CallArg::Tensor)
                .collect(),
            outputs: vec![Some(result)],
        })
    }

    /// The problem that it solves: what a choice between it and ATen depends on.
    pub fn problem(&self) -> String {
        let packed = if self.pack.is_some() { ", packed" } else { "" };
        let dtype = self.image.scalar_type;
        let bias = if self.bias.is_some() { ", bias" } else { "" };
        let (image, weight) = (
            &self.image.strides,
            self.weight.as_ref().map(|w| &w.strides),
        );
        format!(
            "{:?} {:?} of {dtype}/{image:?}/{weight:?}{bias}{packed}",
            self.operation, self.shape
        )
    }

    /// The transformed weights, made by the first call that wants them.
    unsafe fn transformed<'a>(
        &self,
        pointers: &Pointers,
        aten: &'static Aten,
        packs: &'a [Slot],
    ) -> Result<Option<&'a Weights>, Error> {
        let Some(slot) = self.pack.and_then(|n| packs.get(n as usize)) else {
            return Ok(None);
        };
        if slot.get().is_none() {
            let (isa, weight) = (Isa::detect(), pointers.weight);
            // SAFETY: by contract.
            let made = unsafe { conv::transform(&self.shape, self.operation, isa, weight, aten) }?;
            slot.get_or_init(|| Packed::Convolution(made));
        }
        Ok(match slot.get() {
            Some(Packed::Convolution(weights)) => weights.as_ref(),
            _ => None,
        })
    }
}

/// Runs a kernel for a range of planes.
///
/// # Safety
/// `args` holds what its parameters address as long as this is called.
unsafe fn following(then: &Then, args: &[*mut u8]) -> impl Fn(usize, usize) + Sync {
    let args = args.as_ptr() as usize;
    let (entry, planes, iterations) = (then.code.entry, then.planes, then.iterations);
    let iteration = move |plane: usize| plane as i64 / planes * iterations;
    move |begin, end| {
        // SAFETY: by contract, for this range of it.
        unsafe { entry(args as *const *mut u8, iteration(begin), iteration(end)) };
    }
}

/// Strides of these sizes in channels-last order; row-major ones for what is no image.
fn pixel_by_pixel(t: &TensorRef) -> Vec<i64> {
    match *t.sizes.as_slice() {
        [_, c, h, w] => vec![h * w * c, 1, w * c, c],
        _ => t.row_major(),
    }
}

/// Whether a tensor lies with these strides.
fn lies(t: &TensorRef, strides: &[i64]) -> bool {
    let mut all = t.sizes.iter().zip(&t.strides).zip(strides);
    all.all(|((&size, own), wanted)| size == 1 || own == wanted)
}

/// The first element of a tensor that lies with these strides: of a copy, kept in `copies`, if it does not.
///
/// # Safety
/// The buffers hold what the tensor addresses.
unsafe fn lying(
    t: &TensorRef,
    strides: &[i64],
    data: &[*mut u8],
    aten: &'static Aten,
    copies: &mut Vec<Tensor>,
) -> Result<*const u8, Error> {
    let buffer = data[t.buffer.0 as usize];
    if lies(t, strides) {
        let size = DType::from_torch(t.scalar_type).map_or(4, DType::size);
        return Ok(buffer.wrapping_offset(t.offset as isize * size as isize));
    }
    let copy = Tensor::empty(aten, &t.sizes, strides, t.scalar_type)?;
    // SAFETY: by contract; the tensor does not outlive this call.
    copy.copy_from(&unsafe { Tensor::over(aten, Place::Cpu, buffer, t) }?)?;
    let data = copy.data()?;
    copies.push(copy);
    Ok(data.cast())
}
