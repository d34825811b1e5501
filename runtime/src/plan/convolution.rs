//! Convolutions of a plan, on kernels of our own.

use super::packed::Packed;
use super::shared::Slot;
use super::{BufferId, CallArg, Callable, ExternalCall, Route, TensorRef, Then};
use crate::Error;
use crate::aten::dispatch::{Argument, Operator, Return};
use crate::aten::{Aten, Tensor};
use crate::conv::{self, Operation, Pointers, Shape, Threads, Weights};
use crate::cpu::Isa;
use std::sync::Arc;

/// A convolution, and perhaps a kernel that runs on its planes while they are in cache.
#[derive(Clone)]
#[expect(missing_docs, reason = "the fields are named by their role")]
pub struct ConvolutionStep {
    pub operation: Operation,
    pub shape: Shape,
    /// Whether the result lies in channels-last order, which no kernel of the CPU writes.
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
            let reason = "a convolution in channels-last order has no kernel on the CPU";
            return Err(Error::Plan(reason.into()));
        }
        // What is not row-major is copied, and the copies live until the convolution is done.
        let mut copies: Vec<Tensor> = Vec::new();
        let mut rows = |t: &TensorRef| -> Result<*const f32, Error> {
            let buffer = data[t.buffer.0 as usize];
            if t.is_row_major() {
                return Ok(buffer.cast::<f32>().wrapping_offset(t.offset as isize));
            }
            let copy = Tensor::empty(aten, &t.sizes, &t.row_major(), t.scalar_type)?;
            // SAFETY: by contract; the tensor does not outlive this call.
            copy.copy_from(&unsafe { Tensor::over(aten, buffer, t) }?)?;
            let data = copy.data()?;
            copies.push(copy);
            Ok(data.cast())
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
        let args = args.as_ptr() as usize;
        let iteration = |plane: usize| plane as i64 / then.planes * then.iterations;
        let run = |begin: usize, end: usize| {
            // SAFETY: the plan passes what the kernel addresses, for this range of it.
            unsafe {
                (then.code.entry)(args as *const *mut u8, iteration(begin), iteration(end));
            }
        };
        let (planes, unit) = (self.shape.images * self.shape.outputs, then.planes as usize);
        if planes / unit >= aten.count() {
            return convolve(Some(conv::Then { unit, run: &run }));
        }
        // Too few pieces for all threads.
        convolve(None)?;
        run(0, planes);
        Ok(())
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
        let bias = if self.bias.is_some() { ", bias" } else { "" };
        let (image, weight) = (
            &self.image.strides,
            self.weight.as_ref().map(|w| &w.strides),
        );
        format!(
            "{:?} {:?}/{image:?}/{weight:?}{bias}{packed}",
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
