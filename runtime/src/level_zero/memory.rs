//! USM: memory of the device, and of the host as the device sees it.
//!
//! Blocks are kept for reuse, by powers of two up to 1 MiB and in steps of 1 MiB above: `zeMemAllocDevice` takes
//! longer than most kernels.

use super::context::{Device, structure};
use super::error::{Error, check, name};
use level_zero_sys::*;
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const ALIGNMENT: usize = 128;
const STEP: usize = 1 << 20;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Device,
    Host,
}

/// Blocks that nobody uses.
#[derive(Default)]
pub(super) struct Pool {
    idle: Mutex<HashMap<(Kind, usize), Vec<Address>>>,
    bytes: AtomicUsize,
}

#[derive(Clone, Copy)]
struct Address(*mut c_void);

// SAFETY: an address; who may follow it is its owner's business.
unsafe impl Send for Address {}

fn rounded(bytes: usize) -> usize {
    match bytes {
        0..STEP => bytes.next_power_of_two().max(256),
        _ => bytes.next_multiple_of(STEP),
    }
}

impl Pool {
    fn take(&self, kind: Kind, size: usize) -> Option<Address> {
        self.idle.lock().ok()?.get_mut(&(kind, size))?.pop()
    }

    fn give(&self, kind: Kind, size: usize, address: Address) {
        if let Ok(mut idle) = self.idle.lock() {
            idle.entry((kind, size)).or_default().push(address);
        }
    }

    /// Frees what nobody uses.
    pub fn clear(&self, ze: &LevelZero, context: ze_context_handle_t) {
        let Ok(mut idle) = self.idle.lock() else {
            return;
        };
        for ((_, size), blocks) in idle.drain() {
            for block in blocks {
                // SAFETY: blocks in here are nobody's.
                unsafe { (ze.zeMemFree)(context, block.0) };
                self.bytes.fetch_sub(size, Ordering::Relaxed);
            }
        }
    }
}

/// A block of memory that goes back to its device's pool.
struct Block {
    device: Device,
    kind: Kind,
    start: Address,
    size: usize,
}

// SAFETY: the block is memory; its contents are guarded by streams and borrows.
unsafe impl Sync for Block {}

impl Block {
    fn new(device: &Device, kind: Kind, bytes: usize) -> Result<Block, Error> {
        let (size, pool) = (rounded(bytes), &device.0.pool);
        let start = match pool.take(kind, size) {
            Some(start) => start,
            None => Block::allocate(device, kind, size)?,
        };
        let device = device.clone();
        Ok(Block {
            device,
            kind,
            start,
            size,
        })
    }

    /// Memory of the driver's; if it has none, once more without what the pool keeps.
    fn allocate(device: &Device, kind: Kind, size: usize) -> Result<Address, Error> {
        let inner = &device.0;
        let first = Block::ask(device, kind, size);
        let lacks = [
            ZE_RESULT_ERROR_OUT_OF_DEVICE_MEMORY,
            ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY,
        ];
        let result = match first {
            Err(code) if lacks.contains(&code) => {
                inner.pool.clear(inner.ze, inner.context);
                Block::ask(device, kind, size)
            }
            other => other,
        };
        let in_use = inner.pool.bytes.load(Ordering::Relaxed);
        match result {
            Ok(start) => {
                inner.pool.bytes.fetch_add(size, Ordering::Relaxed);
                Ok(start)
            }
            Err(code) if lacks.contains(&code) => Err(Error::OutOfMemory {
                bytes: size,
                in_use,
            }),
            Err(code) => Err(Error::Call {
                attempt: format!("allocation of {size} bytes"),
                name: name(code),
                code,
            }),
        }
    }

    fn ask(device: &Device, kind: Kind, size: usize) -> Result<Address, ze_result_t> {
        let (inner, mut start) = (&device.0, null_mut());
        let d = structure!(
            ze_device_mem_alloc_desc_t,
            ZE_STRUCTURE_TYPE_DEVICE_MEM_ALLOC_DESC
        );
        let h = structure!(
            ze_host_mem_alloc_desc_t,
            ZE_STRUCTURE_TYPE_HOST_MEM_ALLOC_DESC
        );
        // SAFETY: the handles are alive, the structures tagged.
        let result = unsafe {
            match kind {
                Kind::Device => (inner.ze.zeMemAllocDevice)(
                    inner.context,
                    &d,
                    size,
                    ALIGNMENT,
                    inner.handle,
                    &mut start,
                ),
                Kind::Host => {
                    (inner.ze.zeMemAllocHost)(inner.context, &h, size, ALIGNMENT, &mut start)
                }
            }
        };
        if result == ZE_RESULT_SUCCESS {
            Ok(Address(start))
        } else {
            Err(result)
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.device.0.pool.give(self.kind, self.size, self.start);
    }
}

/// Memory of the device. Clones share it; what commands use of it stays until they have run.
#[derive(Clone)]
pub struct Buffer {
    block: Arc<Block>,
    bytes: usize,
}

impl Buffer {
    /// Undefined bytes.
    pub(super) fn new(device: &Device, bytes: usize) -> Result<Buffer, Error> {
        let block = Arc::new(Block::new(device, Kind::Device, bytes)?);
        Ok(Buffer { block, bytes })
    }

    /// Number of bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The device's address of a byte. Nobody but the device may follow it.
    pub fn address(&self, offset: usize) -> *mut c_void {
        self.block.start.0.wrapping_byte_add(offset)
    }
}

/// Memory of the host that the device reads and writes at full speed.
pub struct HostBuffer {
    block: Arc<Block>,
    bytes: usize,
}

impl HostBuffer {
    /// Undefined bytes.
    pub(super) fn new(device: &Device, bytes: usize) -> Result<HostBuffer, Error> {
        let block = Arc::new(Block::new(device, Kind::Host, bytes)?);
        Ok(HostBuffer { block, bytes })
    }

    /// The first byte. Valid as long as self; commands may be writing there until their stream was waited for.
    pub fn data(&self) -> *mut u8 {
        self.block.start.0.cast()
    }

    /// Number of bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn keep(&self) -> Kept {
        Kept(self.block.clone())
    }
}

/// What a queued command uses: memory or a kernel.
#[expect(dead_code, reason = "held for its drop")]
pub(super) struct Kept(pub Arc<dyn Send + Sync>);

impl Buffer {
    pub(super) fn keep(&self) -> Kept {
        Kept(self.block.clone())
    }
}

impl Device {
    /// Memory of undefined contents.
    pub fn buffer(&self, bytes: usize) -> Result<Buffer, Error> {
        Buffer::new(self, bytes)
    }

    /// Memory of the host of undefined contents.
    pub fn host_buffer(&self, bytes: usize) -> Result<HostBuffer, Error> {
        HostBuffer::new(self, bytes)
    }

    /// Bytes that this process has of the device's and the host's memory, kept for reuse included.
    pub fn allocated_bytes(&self) -> usize {
        self.0.pool.bytes.load(Ordering::Relaxed)
    }

    /// Gives memory that nobody uses back to the system.
    pub fn trim(&self) {
        self.0.pool.clear(self.0.ze, self.0.context);
    }
}

/// An error unless the result is success, for callers outside of this file that have no better words.
pub(super) fn checked(result: ze_result_t, call: &'static str) -> Result<(), Error> {
    check(result, || call.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded() {
        assert_eq!(rounded(0), 256);
        assert_eq!(rounded(257), 512);
        assert_eq!(rounded(STEP), STEP);
        assert_eq!(rounded(STEP + 1), 2 * STEP);
    }
}
