//! Arguments and results that are tensors of PyTorch's `xpu` device.
//!
//! Their memory is the device's side of a buffer: kernels read and write it in place, and nothing goes up or down. Calls of PyTorch
//! run there too (`execute/gpu.rs`). A step that the CPU does gets a copy ([`OnDevice::bring`]), and what it wrote goes up again before a
//! kernel reads it or the call ends. PyTorch's own commands are in a queue of SYCL's: a call waits for that queue before it begins, and for its own stream before it returns, so that
//! whatever is queued next finds the results.

use super::super::{Buffer, BufferId, ExternalCall, Plan, Step};
use super::residence::Place;
use super::state::{State, bytes_of, touched};
use super::{OnDevice, failed};
use crate::aten::{self, Aten, Tensor};
use crate::level_zero::sycl::{NoQueue, Sycl};
use crate::level_zero::{self, Device};
use crate::{DType, Error};
use std::ffi::c_void;
use std::sync::atomic::Ordering;

/// A device of PyTorch's, and how its queues are waited for.
#[derive(Clone)]
pub struct Xpu {
    aten: &'static Aten,
    sycl: Sycl,
    index: i32,
}

impl Xpu {
    /// The n-th, and what it is to Level Zero.
    pub fn open(aten: &'static Aten, index: i32) -> Result<(Xpu, Device), level_zero::Error> {
        let sycl = Sycl::find(|name| aten.symbol(name))?;
        let xpu = Xpu { aten, sycl, index };
        let queue = xpu
            .queue()
            .map_err(|e| NoQueue::PyTorch(index, e.to_string()))?;
        // SAFETY: PyTorch's queue, of the library that it needs.
        let device = unsafe { sycl.device(queue) }?;
        Ok((xpu, device))
    }

    /// The queue of this thread's current stream.
    fn queue(&self) -> Result<*const c_void, Error> {
        const NAME: &str = "aoti_torch_get_current_xpu_stream";
        let current = self.aten.aoti_torch_get_current_xpu_stream;
        let current = current.ok_or_else(|| Error::Symbol(NAME.into()))?;
        let mut queue = std::ptr::null_mut();
        // SAFETY: writes the pointer.
        let status = unsafe { current(self.index, &mut queue) };
        self.aten.check(NAME, status)?;
        Ok(queue)
    }

    /// Waits until what PyTorch gave to the current stream has run.
    fn wait(&self) -> Result<(), Error> {
        let queue = self.queue()?;
        // SAFETY: as in `open`.
        unsafe { self.sycl.wait(queue) };
        Ok(())
    }
}

impl OnDevice {
    /// Where results are: on PyTorch's device if arguments are.
    pub(in crate::plan) fn home(&self) -> Option<aten::Place> {
        let xpu = self.target.xpu.as_ref();
        xpu.map(|xpu| aten::Place::Xpu(xpu.index))
    }

    /// Waits for what PyTorch has queued.
    pub(in crate::plan) fn after_pytorch(&self) -> Result<(), Error> {
        self.target.xpu.as_ref().map_or(Ok(()), Xpu::wait)
    }

    /// Takes a tensor as the memory of a buffer on the device; given back if it is the CPU's.
    pub(in crate::plan) fn take(
        &self,
        state: &mut State,
        k: usize,
        tensor: Tensor,
        buffer: &Buffer,
    ) -> Result<Option<Tensor>, Error> {
        let filled = !matches!(buffer, Buffer::Output { .. });
        if filled {
            state.bytes[k] = bytes_of(&tensor)?;
        }
        if self.target.xpu.is_none() || !tensor.is_xpu()? {
            return Ok(Some(tensor));
        }
        if filled {
            state.places[k] = Place::Device;
        }
        state.tensors[k] = Some(tensor);
        Ok(None)
    }

    /// Brings what a step of the CPU reads, or writes in part, to its memory. `data` and `tensors` are the CPU's.
    pub(in crate::plan) fn bring(
        &self,
        plan: &Plan,
        step: &Step,
        state: &mut State,
        data: &mut [*mut u8],
        tensors: &mut [Option<Tensor>],
    ) -> Result<(), Error> {
        for id in touched(step).0 {
            let k = id.0 as usize;
            self.mirror(state, k, data, tensors)?;
            if self.fetch(plan, state, id, data[k])? {
                self.counters.round_trips.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Gives a buffer that lies in PyTorch's memory of the device some of the CPU's.
    fn mirror(
        &self,
        state: &mut State,
        k: usize,
        data: &mut [*mut u8],
        tensors: &mut [Option<Tensor>],
    ) -> Result<(), Error> {
        let Some(tensor) = state.tensors[k].as_ref().filter(|_| tensors[k].is_none()) else {
            return Ok(());
        };
        let kind = tensor.scalar_type()?;
        let copy = if DType::from_torch(kind).is_some() {
            let (sizes, strides) = tensor.layout()?;
            Tensor::empty(tensor.aten(), sizes, strides, kind)?
        } else {
            // No kernel has this type, so PyTorch moves it.
            state.stream.wait().map_err(failed)?;
            self.counters.downloads.fetch_add(1, Ordering::Relaxed);
            state.places[k] = Place::Both;
            tensor.moved(aten::Place::Cpu)?
        };
        data[k] = copy.data()?;
        tensors[k] = Some(copy);
        Ok(())
    }

    /// Takes over results that a call has made on the device. `data` and `tensors` are the CPU's.
    pub(in crate::plan) fn adopt(
        &self,
        call: &ExternalCall,
        state: &mut State,
        data: &mut [*mut u8],
        tensors: &mut [Option<Tensor>],
    ) -> Result<(), Error> {
        for out in call.outputs.iter().flatten() {
            let k = out.buffer.0 as usize;
            let Some(tensor) = tensors[k].take() else {
                continue;
            };
            tensors[k] = self.take(state, k, tensor, &Buffer::External)?;
            if tensors[k].is_none() {
                data[k] = std::ptr::null_mut();
            } else {
                state.places[k] = Place::Host;
            }
        }
        Ok(())
    }

    /// A result of PyTorch's in memory of its own: a view of an operand may lie in ours.
    pub(in crate::plan) fn unlent(&self, state: &State, result: Tensor) -> Result<Tensor, Error> {
        let data = result.data()?.addr();
        let ours = |b: &level_zero::Buffer| {
            let start = b.address(0).addr();
            (start..start + b.bytes()).contains(&data)
        };
        let mut buffers = state.buffers.iter().flatten().chain(&state.arena);
        if !buffers.any(ours) {
            return Ok(result);
        }
        let (_, strides) = result.layout()?;
        result.copied(strides, result.scalar_type()?)
    }

    /// Ends the steps of a call whose results belong to the device: what the CPU wrote of tensors there goes up, and what a kernel
    /// wrote of the CPU's comes down. `data` and `tensors` are the CPU's.
    pub(in crate::plan) fn settle(
        &self,
        plan: &Plan,
        state: &mut State,
        data: &[*mut u8],
        tensors: &[Option<Tensor>],
    ) -> Result<(), Error> {
        for (k, buffer) in plan.buffers.iter().enumerate() {
            let id = BufferId(k as u32);
            match (&state.tensors[k], buffer) {
                (Some(_), _) if state.places[k] != Place::Host => {}
                (Some(tensor), _) if DType::from_torch(tensor.scalar_type()?).is_none() => {
                    if let Some(copy) = &tensors[k] {
                        tensor.copy_from(copy)?;
                    }
                }
                (Some(_), _) => {
                    self.read(plan, state, id, data[k])?;
                }
                (None, Buffer::Input(_)) => {
                    self.fetch(plan, state, id, data[k])?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A result that lies on the CPU, on PyTorch's device.
    pub(in crate::plan) fn lift(&self, tensor: &Tensor) -> Result<Tensor, Error> {
        self.counters.uploads.fetch_add(1, Ordering::Relaxed);
        tensor.moved(self.home().unwrap_or(aten::Place::Cpu))
    }
}
