//! Streams: commands that run one after the other.
//!
//! A stream is an immediate command list of one thread (a mutable borrow says so). Where the driver has no in-order lists
//! (API 1.7) a barrier follows each command; where lists cannot be waited for, or the loader does not know that call (1.8), the
//! host waits on an event.

use super::context::Device;
use super::error::{Error, check};
use super::event::Timer;
use super::kernel::{Argument, Kernel};
use super::memory::{Buffer, HostBuffer, Kept, checked};
use level_zero_sys::*;
use std::ptr::null_mut;
use std::time::Duration;

#[cfg(test)]
mod cost;

/// A queue of commands on a device.
pub struct Stream {
    device: Device,
    list: ze_command_list_handle_t,
    /// Signalled by a last barrier, where lists cannot be waited for.
    done: Option<(ze_event_pool_handle_t, ze_event_handle_t)>,
    /// Memory of the commands that may not have run.
    kept: Vec<Kept>,
    launches: u64,
    /// Timers of launches, each with the label that it had; none if nobody asked for times.
    timed: Option<Vec<(usize, Timer)>>,
    label: usize,
}

// SAFETY: a list may go from thread to thread, and is used by one at a time.
unsafe impl Send for Stream {}

impl Device {
    /// A new stream.
    pub fn stream(&self) -> Result<Stream, Error> {
        let mut stream = Stream {
            device: self.clone(),
            list: self.0.list()?,
            done: None,
            kept: Vec::new(),
            launches: 0,
            timed: None,
            label: 0,
        };
        if !self.0.about.in_order || self.0.ze.zeCommandListHostSynchronize.is_none() {
            stream.done = Some(self.0.event(false)?);
        }
        Ok(stream)
    }
}

impl Stream {
    /// Queues a kernel on so many groups. The arguments are checked by the driver, and what they point to is kept until
    /// the stream was waited for.
    ///
    /// # Safety
    /// The kernel stays inside of its buffers.
    pub unsafe fn launch(
        &mut self,
        kernel: &mut Kernel,
        groups: [u32; 3],
        arguments: &[Argument],
        timer: Option<&Timer>,
    ) -> Result<(), Error> {
        kernel.set(arguments)?;
        self.kept.push(kernel.keep());
        for argument in arguments {
            if let Argument::Memory(buffer, _) = argument {
                self.kept.push(buffer.keep());
            }
        }
        let groups = ze_group_count_t {
            groupCountX: groups[0],
            groupCountY: groups[1],
            groupCountZ: groups[2],
        };
        let own = match (timer, &self.timed) {
            (None, Some(_)) => Some(self.device.timer()?),
            _ => None,
        };
        let signal = timer.or(own.as_ref()).map_or(null_mut(), |t| t.event);
        let ze = self.device.0.ze;
        // SAFETY: list and kernel are alive; by contract.
        let queued = unsafe {
            (ze.zeCommandListAppendLaunchKernel)(
                self.list,
                kernel.handle(),
                &groups,
                signal,
                0,
                null_mut(),
            )
        };
        check(queued, || format!("launch of {}", kernel.name()))?;
        self.launches += 1;
        if let Some(timed) = &mut self.timed {
            timed.extend(own.map(|t| (self.label, t)));
        }
        self.order()
    }

    /// From here on every launch that has no timer is timed, or none.
    pub fn collect_times(&mut self, on: bool) {
        self.timed = on.then(Vec::new);
    }

    /// What times of the next launches belong to.
    pub fn set_label(&mut self, label: usize) {
        self.label = label;
    }

    /// Waits, and how long each launch took since the last time of asking, with its label.
    pub fn times(&mut self) -> Result<Vec<(usize, Duration)>, Error> {
        self.wait()?;
        let timed = self.timed.as_mut().map(std::mem::take);
        let timed = timed.into_iter().flatten();
        timed.map(|(label, t)| Ok((label, t.elapsed()?))).collect()
    }

    /// Queues a copy of `bytes` from host to device.
    pub fn upload(
        &mut self,
        from: &HostBuffer,
        to: &Buffer,
        at: usize,
        bytes: usize,
    ) -> Result<(), Error> {
        self.within(from.bytes(), 0, bytes, "upload")?;
        self.within(to.bytes(), at, bytes, "upload")?;
        self.kept.extend([from.keep(), to.keep()]);
        // SAFETY: both ends hold the bytes.
        unsafe { self.copy(from.data().cast(), to.address(at), bytes, "upload") }
    }

    /// Queues a copy of `bytes` from device to host.
    pub fn download(
        &mut self,
        from: &Buffer,
        at: usize,
        to: &HostBuffer,
        bytes: usize,
    ) -> Result<(), Error> {
        self.within(to.bytes(), 0, bytes, "download")?;
        self.within(from.bytes(), at, bytes, "download")?;
        self.kept.extend([from.keep(), to.keep()]);
        // SAFETY: both ends hold the bytes.
        unsafe { self.copy(from.address(at), to.data().cast(), bytes, "download") }
    }

    /// Queues a copy between buffers of the device.
    pub fn transfer(&mut self, from: &Buffer, to: &Buffer, bytes: usize) -> Result<(), Error> {
        self.within(from.bytes(), 0, bytes, "copy")?;
        self.within(to.bytes(), 0, bytes, "copy")?;
        self.kept.extend([from.keep(), to.keep()]);
        // SAFETY: both ends hold the bytes.
        unsafe { self.copy(from.address(0), to.address(0), bytes, "copy") }
    }

    /// Queues a copy of the first bytes to an address of the device.
    ///
    /// # Safety
    /// There is room for them, in memory that the caller keeps until the stream was waited for.
    pub unsafe fn upload_to(
        &mut self,
        from: &HostBuffer,
        to: *const u8,
        bytes: usize,
    ) -> Result<(), Error> {
        self.within(from.bytes(), 0, bytes, "upload")?;
        self.kept.push(from.keep());
        // SAFETY: by contract.
        unsafe { self.copy(from.data().cast(), to.cast_mut().cast(), bytes, "upload") }
    }

    /// Queues a copy of bytes from an address of the device.
    ///
    /// # Safety
    /// They are there, in memory that the caller keeps until the stream was waited for.
    pub unsafe fn download_from(
        &mut self,
        from: *const u8,
        to: &HostBuffer,
        bytes: usize,
    ) -> Result<(), Error> {
        self.within(to.bytes(), 0, bytes, "download")?;
        self.kept.push(to.keep());
        // SAFETY: by contract.
        unsafe { self.copy(from.cast(), to.data().cast(), bytes, "download") }
    }

    /// Queues a fill by one byte.
    pub fn fill(&mut self, to: &Buffer, byte: u8, bytes: usize) -> Result<(), Error> {
        self.within(to.bytes(), 0, bytes, "fill")?;
        if bytes == 0 {
            return Ok(());
        }
        self.kept.push(to.keep());
        let fill = self.device.0.ze.zeCommandListAppendMemoryFill;
        // SAFETY: the buffer holds the bytes, the pattern is one.
        let queued = unsafe {
            fill(
                self.list,
                to.address(0),
                (&raw const byte).cast(),
                1,
                bytes,
                null_mut(),
                0,
                null_mut(),
            )
        };
        check(queued, || format!("fill of {bytes} bytes"))?;
        self.order()
    }

    /// Copies bytes to the device and waits.
    pub fn write(&mut self, to: &Buffer, from: &[u8]) -> Result<(), Error> {
        let staged = self.device.host_buffer(from.len())?;
        // SAFETY: the new buffer has room, and no command writes to it.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), staged.data(), from.len()) };
        self.upload(&staged, to, 0, from.len())?;
        self.wait()
    }

    /// Waits and copies bytes from the device.
    pub fn read(&mut self, from: &Buffer, to: &mut [u8]) -> Result<(), Error> {
        let staged = self.device.host_buffer(to.len())?;
        self.download(from, 0, &staged, to.len())?;
        self.wait()?;
        // SAFETY: the buffer has these bytes, and its only writer has ended.
        unsafe { std::ptr::copy_nonoverlapping(staged.data(), to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    /// Waits until everything has run.
    pub fn wait(&mut self) -> Result<(), Error> {
        let ze = self.device.0.ze;
        // SAFETY: list and event are alive.
        let result = unsafe {
            match (self.done, ze.zeCommandListHostSynchronize) {
                (None, Some(synchronize)) => checked(
                    synchronize(self.list, u64::MAX),
                    "zeCommandListHostSynchronize",
                ),
                (Some((_, event)), _) => {
                    let barrier = (ze.zeCommandListAppendBarrier)(self.list, event, 0, null_mut());
                    checked(barrier, "zeCommandListAppendBarrier")
                        .and_then(|()| {
                            checked(
                                (ze.zeEventHostSynchronize)(event, u64::MAX),
                                "zeEventHostSynchronize",
                            )
                        })
                        .and_then(|()| checked((ze.zeEventHostReset)(event), "zeEventHostReset"))
                }
                // `Device::stream` makes an event where lists cannot be waited for.
                (None, None) => checked(
                    ZE_RESULT_ERROR_UNSUPPORTED_FEATURE,
                    "zeCommandListHostSynchronize",
                ),
            }
        };
        // A lost device runs nothing any more.
        self.kept.clear();
        result
    }

    /// Kernels queued so far.
    pub fn launches(&self) -> u64 {
        self.launches
    }

    fn within(&self, size: usize, at: usize, bytes: usize, what: &str) -> Result<(), Error> {
        if at.checked_add(bytes).is_some_and(|end| end <= size) {
            return Ok(());
        }
        let reason = format!("bytes {at}..{at}+{bytes} of {size}");
        Err(Error::Launch {
            kernel: what.into(),
            reason,
        })
    }

    /// # Safety
    /// Both ends hold the bytes until the command has run.
    unsafe fn copy(
        &mut self,
        from: *const std::ffi::c_void,
        to: *mut std::ffi::c_void,
        bytes: usize,
        what: &str,
    ) -> Result<(), Error> {
        if bytes == 0 {
            return Ok(());
        }
        let copy = self.device.0.ze.zeCommandListAppendMemoryCopy;
        // SAFETY: by contract.
        let queued = unsafe { copy(self.list, to, from, bytes, null_mut(), 0, null_mut()) };
        check(queued, || format!("{what} of {bytes} bytes"))?;
        self.order()
    }

    /// What comes next waits for what came before.
    fn order(&mut self) -> Result<(), Error> {
        if self.device.0.about.in_order {
            return Ok(());
        }
        let barrier = self.device.0.ze.zeCommandListAppendBarrier;
        // SAFETY: the list is alive.
        checked(
            unsafe { barrier(self.list, null_mut(), 0, null_mut()) },
            "zeCommandListAppendBarrier",
        )
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.kept.is_empty() {
            // A failure is as good as an end: the device does no more.
            let _ = self.wait();
        }
        let ze = self.device.0.ze;
        // SAFETY: the handles are ours, and nothing runs any more.
        unsafe {
            (ze.zeCommandListDestroy)(self.list);
            if let Some((pool, event)) = self.done {
                (ze.zeEventDestroy)(event);
                (ze.zeEventPoolDestroy)(pool);
            }
        }
    }
}
