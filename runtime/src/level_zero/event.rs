//! How long commands take on the device.

use super::context::Device;
use super::error::Error;
use super::memory::checked;
use level_zero_sys::*;
use std::time::Duration;

/// An event that knows when the device began and ended a command.
pub struct Timer {
    device: Device,
    pool: ze_event_pool_handle_t,
    pub(super) event: ze_event_handle_t,
}

// SAFETY: events may go from thread to thread.
unsafe impl Send for Timer {}

impl Device {
    /// A timer for one command.
    pub fn timer(&self) -> Result<Timer, Error> {
        let (pool, event) = self.0.event(true)?;
        let device = self.clone();
        Ok(Timer {
            device,
            pool,
            event,
        })
    }
}

impl Timer {
    /// How long the command took; it must have run.
    pub fn elapsed(&self) -> Result<Duration, Error> {
        let (inner, mut t) = (&self.device.0, ze_kernel_timestamp_result_t::default());
        // SAFETY: the event is alive.
        let got = unsafe { (inner.ze.zeEventQueryKernelTimestamp)(self.event, &mut t) };
        checked(got, "zeEventQueryKernelTimestamp")?;
        let mask = u64::MAX >> (64 - inner.about.tick_bits.clamp(1, 64));
        let ticks = t.global.kernelEnd.wrapping_sub(t.global.kernelStart) & mask;
        Ok(Duration::from_nanos(
            (ticks as f64 * inner.about.tick) as u64,
        ))
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: the handles are ours.
        unsafe {
            (self.device.0.ze.zeEventDestroy)(self.event);
            (self.device.0.ze.zeEventPoolDestroy)(self.pool);
        }
    }
}
