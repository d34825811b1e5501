//! What tests tell the driver in their own process, and ask it.

use crate::environment;
use crate::world::world;
use libloading::Library;
use std::ffi::{CStr, CString, c_char};

/// After `after` more calls of this kind `times` fail: `memory` (out of it), `launch` (the device is lost), `build`, `list`;
/// `idle` counts launches without running them while `times` is not 0.
#[unsafe(no_mangle)]
unsafe extern "C" fn ze_cpu_fault(kind: *const c_char, after: u64, times: u64) {
    let (kind, mut w) = (CStr::from_ptr(kind).to_string_lossy().into_owned(), world());
    match kind.as_str() {
        "idle" => w.idle = times != 0,
        _ => drop(w.faults.insert(kind, (after, times))),
    }
}

/// How many objects are alive: contexts, allocations, modules, logs, kernels, lists, event pools, events; then launches so far.
#[unsafe(no_mangle)]
unsafe extern "C" fn ze_cpu_count(out: *mut [u64; 9]) {
    let w = world();
    let alive = [
        w.contexts.len(),
        w.memory.len(),
        w.modules.len(),
        w.logs.len(),
        w.kernels.len(),
        w.lists.len(),
        w.pools.len(),
        w.events.len(),
    ];
    let out = &mut *out;
    out[..8].copy_from_slice(&alive.map(|n| n as u64));
    out[8] = w.launches;
}

/// The driver that the loader has loaded into this process.
pub struct Control(Library);

impl Control {
    /// Of the driver of the environment.
    ///
    /// # Panics
    /// If there is none.
    pub fn open() -> Control {
        let path = match std::env::var_os("ZE_ENABLE_ALT_DRIVERS") {
            // The first of several.
            Some(paths) => paths
                .to_string_lossy()
                .split(',')
                .next()
                .unwrap_or("")
                .into(),
            None => environment::driver().expect("the driver's library"),
        };
        // SAFETY: the library is this crate.
        Control(unsafe { Library::new(path) }.expect("the driver's library"))
    }

    /// Lets `after` calls of a kind succeed and the next `times` fail; see `ze_cpu_fault`.
    pub fn fault(&self, kind: &str, after: u64, times: u64) {
        let kind = CString::new(kind).expect("a name");
        // SAFETY: the function has this type.
        unsafe {
            let f = self
                .0
                .get::<unsafe extern "C" fn(*const c_char, u64, u64)>(b"ze_cpu_fault\0");
            f.expect("the driver's function")(kind.as_ptr(), after, times);
        }
    }

    /// What is alive; see `ze_cpu_count`.
    pub fn count(&self) -> [u64; 9] {
        let mut counts = [0; 9];
        // SAFETY: the function has this type.
        unsafe {
            let f = self
                .0
                .get::<unsafe extern "C" fn(*mut [u64; 9])>(b"ze_cpu_count\0");
            f.expect("the driver's function")(&mut counts);
        }
        counts
    }

    /// Launches so far.
    pub fn launches(&self) -> u64 {
        self.count()[8]
    }
}
