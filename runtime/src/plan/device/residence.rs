//! Which side holds a buffer's contents, and how they move.

use super::super::{Buffer, BufferId, Plan};
use super::{OnDevice, State, failed};
use crate::Error;
use crate::level_zero;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

/// Where a buffer's contents are right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::plan) enum Place {
    /// Nothing has been written yet.
    #[default]
    Nowhere,
    /// In the CPU's memory.
    Host,
    /// In the device's.
    Device,
    /// In both.
    Both,
}

/// Device memory of what never changes, by buffer.
#[derive(Default)]
pub struct Fixed(Mutex<HashMap<usize, level_zero::Buffer>>);

impl Fixed {
    pub fn get(&self, k: usize) -> Option<level_zero::Buffer> {
        self.0.lock().ok()?.get(&k).cloned()
    }

    fn keep(&self, k: usize, buffer: &level_zero::Buffer) {
        if let Ok(mut all) = self.0.lock() {
            all.insert(k, buffer.clone());
        }
    }
}

impl OnDevice {
    /// Whether a buffer's contents are the same in every call.
    pub fn is_fixed(&self, plan: &Plan, k: usize) -> bool {
        match &plan.buffers[k] {
            Buffer::Constant(_) | Buffer::Kept { .. } => true,
            Buffer::Input(n) => self.target.frozen.contains(n),
            _ => false,
        }
    }

    /// The device's address of a buffer's first byte.
    fn address(&self, plan: &Plan, state: &mut State, k: usize) -> Result<*const u8, Error> {
        if let Some(tensor) = &state.tensors[k] {
            return tensor.data().map(<*mut u8>::cast_const);
        }
        if let Buffer::Arena { offset, .. } = &plan.buffers[k] {
            let arena = match &state.arena {
                Some(arena) => arena,
                None => {
                    let made = self
                        .target
                        .device
                        .buffer(plan.arena_bytes as usize)
                        .map_err(failed)?;
                    state.arena.insert(made)
                }
            };
            return Ok(arena.address(*offset as usize).cast());
        }
        let bytes = state.bytes[k];
        let buffer = match &state.buffers[k] {
            Some(buffer) => buffer,
            None => state.buffers[k].insert(self.target.device.buffer(bytes).map_err(failed)?),
        };
        Ok(buffer.address(0).cast())
    }

    /// The device's address of a buffer that a step reads there.
    pub(in crate::plan) fn read(
        &self,
        plan: &Plan,
        state: &mut State,
        id: BufferId,
        host: *const u8,
    ) -> Result<*const u8, Error> {
        let k = id.0 as usize;
        let fixed = self.is_fixed(plan, k);
        if fixed
            && state.tensors[k].is_none()
            && state.buffers[k].is_none()
            && let Some(buffer) = self.fixed.get(k)
        {
            state.buffers[k] = Some(buffer);
            state.places[k] = Place::Both;
        }
        let address = self.address(plan, state, k)?;
        if state.places[k] == Place::Host {
            let bytes = state.bytes[k];
            let staged = self.target.device.host_buffer(bytes).map_err(failed)?;
            // SAFETY: the buffer has `bytes` bytes on both sides.
            unsafe { std::ptr::copy_nonoverlapping(host, staged.data(), bytes) };
            // SAFETY: as above; the state keeps the buffer.
            unsafe { state.stream.upload_to(&staged, address, bytes) }.map_err(failed)?;
            state.places[k] = Place::Both;
            self.counters.uploads.fetch_add(1, Ordering::Relaxed);
            if fixed && let Some(buffer) = &state.buffers[k] {
                // Another thread may use it at once.
                state.stream.wait().map_err(failed)?;
                self.fixed.keep(k, buffer);
            }
        }
        Ok(address)
    }

    /// The device's address of a buffer that a step writes there, perhaps in part.
    pub(in crate::plan) fn write(
        &self,
        plan: &Plan,
        state: &mut State,
        id: BufferId,
        host: *const u8,
    ) -> Result<*const u8, Error> {
        let address = self.read(plan, state, id, host)?;
        state.places[id.0 as usize] = Place::Device;
        Ok(address)
    }

    /// Brings a buffer's contents to the CPU; whether they had to move.
    pub(in crate::plan) fn fetch(
        &self,
        plan: &Plan,
        state: &mut State,
        id: BufferId,
        host: *mut u8,
    ) -> Result<bool, Error> {
        let k = id.0 as usize;
        if state.places[k] != Place::Device {
            return Ok(false);
        }
        if state.bytes[k] == 0 {
            state.places[k] = Place::Both;
            return Ok(false);
        }
        let (address, bytes) = (self.address(plan, state, k)?, state.bytes[k]);
        let staged = self.target.device.host_buffer(bytes).map_err(failed)?;
        // SAFETY: the buffer has these bytes, and the state keeps it.
        unsafe { state.stream.download_from(address, &staged, bytes) }.map_err(failed)?;
        state.stream.wait().map_err(failed)?;
        // SAFETY: the buffer has `bytes` bytes on both sides.
        unsafe { std::ptr::copy_nonoverlapping(staged.data(), host, bytes) };
        state.places[k] = Place::Both;
        self.counters.downloads.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }
}
