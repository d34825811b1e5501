//! The driver's state: what exists, what is queued, and the order in which it runs.

use crate::opencl::{Object, OpenCl, done};
use crate::signature::Signature;
use level_zero_sys::*;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ffi::{CString, c_void};
use std::ptr::{null, null_mut};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

pub const PAGE: usize = 4096;
/// How long the host may wait for work that nothing lets run before that counts as a hang.
const HANG: Duration = Duration::from_secs(10);

/// What a handle's bits are.
pub type Handle = usize;

/// USM.
pub struct Allocation {
    pub size: usize,
    pub kind: ze_memory_type_t,
    /// The mapping, whose first and last page are guards.
    pub map: usize,
    pub map_len: usize,
}

/// A module. The program is null if a symbol is unresolved.
pub struct Module {
    pub signature: Signature,
    pub program: Object,
    pub spirv: Vec<u8>,
}

// SAFETY: OpenCL objects may be used from any thread.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}

impl Drop for Module {
    fn drop(&mut self) {
        if let (false, Ok(cl)) = (self.program.is_null(), OpenCl::get()) {
            // SAFETY: the program is the module's own.
            unsafe { (cl.clReleaseProgram)(self.program) };
        }
    }
}

/// The value of a kernel's argument.
#[derive(Clone)]
pub enum Argument {
    Pointer(usize),
    Local(usize),
    Bytes(Vec<u8>),
}

/// A kernel with the arguments that were set last.
#[derive(Clone)]
pub struct Kernel {
    pub module: Arc<Module>,
    pub module_handle: Handle,
    pub name: CString,
    pub arguments: Vec<Option<Argument>>,
    pub group: [u32; 3],
}

/// What a command does.
pub enum Work {
    Barrier,
    Copy {
        to: usize,
        from: usize,
        bytes: usize,
    },
    Fill {
        to: usize,
        pattern: Vec<u8>,
        bytes: usize,
    },
    /// A kernel as it was, its handle, and groups.
    Launch(Box<Kernel>, Handle, [u32; 3]),
}

/// A command of a list.
pub struct Command {
    pub work: Work,
    pub signal: Handle,
    pub waits: Vec<Handle>,
}

/// An immediate list.
pub struct List {
    pub pending: VecDeque<Command>,
    pub in_order: bool,
    pub lost: bool,
}

/// An event.
#[derive(Default)]
pub struct Event {
    pub pool: Handle,
    pub timed: bool,
    pub signaled: bool,
    pub start: u64,
    pub end: u64,
}

/// Everything.
#[derive(Default)]
pub struct World {
    last: Handle,
    pub contexts: HashSet<Handle>,
    pub memory: BTreeMap<usize, Allocation>,
    pub modules: HashMap<Handle, Arc<Module>>,
    pub logs: HashMap<Handle, CString>,
    pub kernels: HashMap<Handle, Kernel>,
    pub lists: HashMap<Handle, List>,
    pub pools: HashMap<Handle, (u32, bool)>,
    pub events: HashMap<Handle, Event>,
    pub launches: u64,
    /// Calls of each kind that succeed before some fail, and how many do.
    pub faults: HashMap<String, (u64, u64)>,
    /// Whether launches are counted only.
    pub idle: bool,
}

/// The state, for one thread at a time.
pub fn world() -> MutexGuard<'static, World> {
    static WORLD: OnceLock<Mutex<World>> = OnceLock::new();
    let world = WORLD.get_or_init(Mutex::default);
    world.lock().unwrap_or_else(|e| e.into_inner())
}

/// Tells the person who runs the tests what a program did wrong.
pub fn say(text: &str) {
    eprintln!("ze_cpu: {text}");
}

/// Nanoseconds since the first call.
fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64 + 1
}

impl World {
    /// A handle that nothing had before.
    pub fn handle(&mut self) -> Handle {
        self.last += 0x10;
        0x1_0000 + self.last
    }

    /// Whether this call is one that was told to fail.
    pub fn fails(&mut self, what: &str) -> bool {
        match self.faults.get_mut(what) {
            Some((0, 0)) | None => false,
            Some((0, times)) => {
                *times -= 1;
                true
            }
            Some((after, _)) => {
                *after -= 1;
                false
            }
        }
    }

    /// The allocation that holds an address, and its start.
    pub fn find(&self, address: usize) -> Option<(usize, &Allocation)> {
        let (&start, found) = self.memory.range(..=address).next_back()?;
        (address < start + found.size).then_some((start, found))
    }

    /// Whether memory lies inside of one allocation, or is the program's own.
    pub fn holds(&self, address: usize, bytes: usize) -> bool {
        self.find(address)
            .is_none_or(|(start, a)| address + bytes <= start + a.size)
    }

    /// Lets the host (the emulated device) at device memory, or not.
    fn open(&self, open: bool) {
        let protection = if open {
            libc::PROT_READ | libc::PROT_WRITE
        } else {
            libc::PROT_NONE
        };
        for a in self
            .memory
            .values()
            .filter(|a| a.kind == ZE_MEMORY_TYPE_DEVICE)
        {
            // SAFETY: the pages between the guards are the allocation's own.
            unsafe { libc::mprotect((a.map + PAGE) as _, a.map_len - 2 * PAGE, protection) };
        }
    }

    fn ready(&self, c: &Command) -> bool {
        c.waits
            .iter()
            .all(|e| self.events.get(e).is_some_and(|e| e.signaled))
    }

    /// Which command of a list runs next: of those before the first barrier the last one that may.
    fn next(&self, list: &List) -> Option<usize> {
        let pending = &list.pending;
        let barrier = pending.iter().position(|c| matches!(c.work, Work::Barrier));
        let free = if list.in_order {
            0
        } else {
            barrier.unwrap_or(pending.len())
        };
        if free == 0 {
            return pending.front().filter(|c| self.ready(c)).map(|_| 0);
        }
        (0..free).rev().find(|&k| self.ready(&pending[k]))
    }

    /// Runs one command of some list; whether one could run.
    fn step(&mut self) -> bool {
        let found = self
            .lists
            .iter()
            .find_map(|(&h, l)| Some((h, self.next(l)?)));
        let Some((handle, k)) = found else {
            return false;
        };
        let Some(command) = self
            .lists
            .get_mut(&handle)
            .and_then(|l| l.pending.remove(k))
        else {
            return false;
        };
        let start = now();
        // SAFETY: appending has checked what the command addresses.
        let ran = unsafe { self.run(&command.work) };
        if let (Err(why), Some(list)) = (ran, self.lists.get_mut(&handle)) {
            say(&why);
            list.lost = true;
        }
        if let Some(event) = self.events.get_mut(&command.signal) {
            (event.signaled, event.start, event.end) = (true, start, now());
        }
        true
    }

    unsafe fn run(&mut self, work: &Work) -> Result<(), String> {
        match work {
            Work::Barrier => Ok(()),
            Work::Copy { to, from, bytes } => {
                std::ptr::copy(*from as *const u8, *to as *mut u8, *bytes);
                Ok(())
            }
            Work::Fill { to, pattern, bytes } => {
                let to = std::slice::from_raw_parts_mut(*to as *mut u8, *bytes);
                to.chunks_mut(pattern.len())
                    .for_each(|c| c.copy_from_slice(&pattern[..c.len()]));
                Ok(())
            }
            Work::Launch(kernel, handle, groups) => {
                self.launches += 1;
                if !self.kernels.contains_key(handle) {
                    return Err(format!("{:?} was destroyed before it ran", kernel.name));
                }
                if self.fails("launch") {
                    return Err(format!("{:?} hangs, as it was told to", kernel.name));
                }
                if self.idle {
                    Ok(())
                } else {
                    launch(kernel, *groups)
                }
            }
        }
    }
}

unsafe fn launch(k: &Kernel, groups: [u32; 3]) -> Result<(), String> {
    let (cl, mut e) = (OpenCl::get()?, 0);
    let kernel = (cl.clCreateKernel)(k.module.program, k.name.as_ptr(), &mut e);
    done(e, &format!("clCreateKernel of {:?}", k.name))?;
    let set = k.arguments.iter().enumerate().try_for_each(|(n, value)| {
        let n = n as u32;
        let status = match value {
            Some(Argument::Pointer(p)) => {
                (cl.clSetKernelArgSVMPointer)(kernel, n, *p as *const c_void)
            }
            Some(Argument::Local(bytes)) => (cl.clSetKernelArg)(kernel, n, *bytes, null()),
            Some(Argument::Bytes(b)) => (cl.clSetKernelArg)(kernel, n, b.len(), b.as_ptr().cast()),
            None => return Err(format!("argument {n} was never set")),
        };
        done(status, &format!("argument {n} of {:?}", k.name))
    });
    let ran = set.and_then(|()| {
        let local = k.group.map(|n| n as usize);
        let global: Vec<usize> = local
            .iter()
            .zip(groups)
            .map(|(l, g)| l * g as usize)
            .collect();
        let queued = (cl.clEnqueueNDRangeKernel)(
            cl.queue,
            kernel,
            3,
            null(),
            global.as_ptr(),
            local.as_ptr(),
            0,
            null(),
            null_mut(),
        );
        done(queued, &format!("launch of {:?}", k.name))?;
        done((cl.clFinish)(cl.queue), &format!("run of {:?}", k.name))
    });
    (cl.clReleaseKernel)(kernel);
    ran
}

/// Runs work until `ended` has an answer, the time is over, or nothing can go on.
pub fn wait(timeout: u64, ended: impl Fn(&World) -> Option<ze_result_t>) -> ze_result_t {
    let start = Instant::now();
    let limit = Duration::from_nanos(timeout).min(HANG);
    loop {
        let mut w = world();
        w.open(true);
        let result = loop {
            if let Some(r) = ended(&w) {
                break Some(r);
            }
            if timeout == 0 || !w.step() {
                break None;
            }
        };
        w.open(false);
        if let Some(r) = result {
            return r;
        }
        if start.elapsed() >= limit {
            if limit < HANG {
                return ZE_RESULT_NOT_READY;
            }
            say("the host waits for work that no command or signal can complete");
            return ZE_RESULT_ERROR_DEVICE_LOST;
        }
        drop(w);
        std::thread::sleep(Duration::from_micros(100));
    }
}
