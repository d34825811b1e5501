//! Runs a plan on a GPU.

use super::super::device::{self, OnDevice};
use super::super::{CallArg, ExternalCall, Output, Route, Step, TensorRef};
use super::{Executable, Host, State};
use crate::Error;
use crate::aten::Tensor;
use std::time::{Duration, Instant};

impl Executable {
    /// Runs the steps on the GPU, or on the CPU where that has no kernel; results end on the CPU. A profile has what the device says
    /// of each launch, and the clock of what the CPU does.
    pub(super) fn on_gpu(
        &self,
        on_device: &OnDevice,
        state: &mut State,
        host: &mut dyn Host,
    ) -> Result<(), Error> {
        let Some(mut mine) = state.device.take() else {
            return Err(Error::Plan("a call without a device".into()));
        };
        mine.stream.collect_times(self.profile.is_some());
        let ran = self.on_gpu_with(on_device, &mut mine, state, host);
        // Whatever happened, nothing may be running when the arguments are given back.
        let waited = mine.stream.times().map_err(device::failed);
        state.device = Some(mine);
        let (mut times, on_device) = (ran?, waited?);
        if let Some(profile) = &self.profile {
            on_device.into_iter().for_each(|(n, time)| times[n] += time);
            profile.add(&self.plan, &times);
        }
        Ok(())
    }

    fn on_gpu_with(
        &self,
        on_device: &OnDevice,
        mine: &mut device::State,
        state: &mut State,
        host: &mut dyn Host,
    ) -> Result<Vec<Duration>, Error> {
        let steps = self.profile.as_ref().map_or(0, |_| self.plan.steps.len());
        let mut times = vec![Duration::ZERO; steps];
        on_device.after_pytorch()?;
        self.kept.fill(|| {
            let mut once = self.plan.once.iter();
            once.try_for_each(|step| self.on_cpu(step, on_device, mine, state, host))
        })?;
        for (n, step) in self.plan.steps.iter().enumerate() {
            mine.stream.set_label(n);
            // SAFETY: the plan's tensors lie in their buffers.
            if !unsafe { on_device.step(&self.plan, n, mine, &state.data) }? {
                let start = self.profile.as_ref().map(|_| Instant::now());
                self.on_cpu(step, on_device, mine, state, host)?;
                if let Some(start) = start {
                    times[n] = start.elapsed();
                }
            }
        }
        if on_device.home().is_some() {
            on_device.settle(&self.plan, mine, &state.data, &state.tensors)?;
        }
        for output in &self.plan.outputs {
            let buffer = match output {
                Output::Tensor(t) | Output::View(t) => t.buffer,
                Output::Whole(buffer) => *buffer,
                _ => continue,
            };
            let k = buffer.0 as usize;
            if mine.tensors[k].is_none() {
                on_device.fetch(&self.plan, mine, buffer, state.data[k])?;
            }
        }
        Ok(times)
    }

    /// A step that the GPU leaves to the CPU, with what it reads on that side.
    fn on_cpu(
        &self,
        step: &Step,
        on_device: &OnDevice,
        mine: &mut device::State,
        state: &mut State,
        host: &mut dyn Host,
    ) -> Result<(), Error> {
        if let Step::External(call) = step
            && on_device.home().is_some()
            && matches!(call.route, Route::Python(_) | Route::Dispatcher { .. })
        {
            match self.all_there(call, on_device, mine, state) {
                Ok(tensors) => return self.on_xpu(call, tensors, on_device, mine, state, host),
                // PyTorch does not take our memory; the CPU can do it.
                Err(Error::Aten { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        on_device.bring(&self.plan, step, mine, &mut state.data, &mut state.tensors)?;
        self.step(step, state, host)?;
        on_device.written(step, mine);
        if let Step::External(call) = step {
            on_device.adopt(call, mine, &mut state.data, &mut state.tensors)?;
        }
        Ok(())
    }

    /// A call that PyTorch carries out on its device: on tensors of the memory that kernels use.
    fn on_xpu(
        &self,
        call: &ExternalCall,
        tensors: Vec<Tensor>,
        on_device: &OnDevice,
        mine: &mut device::State,
        state: &mut State,
        host: &mut dyn Host,
    ) -> Result<(), Error> {
        let mut again = || tensors.iter().map(Tensor::share).collect();
        let results = self.in_pytorch(call, host, &mut again)?;
        let own = results.into_iter().map(|r| on_device.unlent(mine, r));
        self.take_over(call, own.collect::<Result<_, _>>()?, state)?;
        on_device.adopt(call, mine, &mut state.data, &mut state.tensors)?;
        on_device.after_pytorch()
    }

    /// The tensors among a call's arguments, of the device's memory; what was queued to write it has run.
    fn all_there(
        &self,
        call: &ExternalCall,
        on_device: &OnDevice,
        mine: &mut device::State,
        state: &State,
    ) -> Result<Vec<Tensor>, Error> {
        let mut tensors = Vec::new();
        for arg in &call.args {
            let CallArg::Tensor(t) = arg else { continue };
            tensors.push((t, self.there(t, on_device, mine, state)?));
        }
        // PyTorch's commands know nothing of ours.
        mine.stream.wait().map_err(device::failed)?;
        let keeps = |t: &TensorRef| call.keeps && mine.tensors[t.buffer.0 as usize].is_none();
        let tensors = tensors.into_iter().map(|(t, tensor)| match keeps(t) {
            true => tensor.copied(&t.strides, t.scalar_type),
            false => Ok(tensor),
        });
        tensors.collect()
    }

    /// A tensor of a buffer's memory on the device.
    fn there(
        &self,
        t: &TensorRef,
        on_device: &OnDevice,
        mine: &mut device::State,
        state: &State,
    ) -> Result<Tensor, Error> {
        let k = t.buffer.0 as usize;
        if let (None, Some(here)) = (&mine.tensors[k], &state.tensors[k])
            && mine.places[k] != device::Place::Device
        {
            return self.part(&on_device.lift(here)?, t);
        }
        let address = on_device.read(&self.plan, mine, t.buffer, state.data[k])?;
        match (&mine.tensors[k], on_device.home()) {
            (Some(owner), _) => self.part(owner, t),
            (None, Some(home)) => {
                // SAFETY: the plan keeps views inside their buffer, and calls do not outlive the state.
                unsafe { Tensor::over(self.aten, home, address.cast_mut(), t) }
            }
            (None, None) => Err(Error::Plan("a call on no device".into())),
        }
    }

    /// A result on PyTorch's device; one that the CPU has made goes there.
    pub(super) fn at_home(
        &self,
        output: &Output,
        on_device: &OnDevice,
        state: &mut State,
    ) -> Result<Tensor, Error> {
        let (Output::Tensor(TensorRef { buffer, .. })
        | Output::View(TensorRef { buffer, .. })
        | Output::Whole(buffer)) = output
        else {
            return Err(Error::Plan("a result that is no tensor".into()));
        };
        let k = buffer.0 as usize;
        let homes = state.device.as_ref().map(|mine| &mine.tensors);
        if homes.is_none_or(|tensors| tensors[k].is_none()) {
            let here = match (&state.tensors[k], output) {
                (Some(owner), _) => owner.share()?,
                (None, Output::Tensor(t) | Output::View(t)) => {
                    return on_device.lift(&self.tensor(t, state)?);
                }
                _ => return Err(Error::Plan(format!("result {k} is gone"))),
            };
            let there = on_device.lift(&here)?;
            if let Some(mine) = &mut state.device {
                mine.tensors[k] = Some(there);
            }
        }
        let owner = state.device.as_ref().and_then(|d| d.tensors[k].as_ref());
        match (owner, output) {
            (Some(owner), Output::Tensor(t)) => self.part(owner, t),
            (Some(owner), Output::View(t)) => owner.view(&t.sizes, &t.strides, t.offset),
            (Some(owner), _) => owner.share(),
            (None, _) => Err(Error::Plan(format!("result {k} is gone"))),
        }
    }
}
