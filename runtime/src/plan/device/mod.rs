//! A plan on a GPU.
//!
//! Every buffer of the plan has memory on both sides, and a state that says where its contents are right ([`Place`]). A step that
//! the device has a kernel for runs there, any other on the CPU as always; whatever a step reads is brought to its side first. So intermediates
//! stay on the device, arguments go up once a call (frozen ones and constants once and for all), and results come down at the end.

mod attention;
mod product;
mod residence;
mod state;
mod window;

use super::{Buffer, BufferId, Plan, Step};
use crate::Error;
use crate::level_zero::library::Library;
use crate::level_zero::{self, Device, Module, Source};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) use state::{State, bytes_of};

/// A fused kernel as SPIR-V; see `ipex_jit::spirv`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DeviceKernel {
    /// The module.
    pub spirv: Arc<[u8]>,
    /// Its entry point.
    pub entry: &'static str,
    /// Groups of a launch.
    pub groups: u32,
    /// Whether the device needs f64.
    pub f64: bool,
    /// Whether each parameter is written.
    pub writes: Vec<bool>,
    /// Whether each parameter is read.
    pub reads: Vec<bool>,
}

/// Where a plan runs.
#[derive(Clone)]
pub struct Target {
    /// The GPU.
    pub device: Device,
    /// Arguments (by position) that never change.
    pub frozen: Vec<u32>,
}

/// What a step is on the device.
enum Work {
    /// A fused kernel.
    Fused(Module),
    /// A product.
    Product(Box<super::ProductStep>),
    /// An attention.
    Attention,
    /// A convolution, or maxima.
    Window,
    /// Nothing is to be done.
    Nothing,
    /// The CPU does it, for this reason.
    Host(String),
}

/// What happened on the device so far.
#[derive(Debug, Default)]
pub struct Counters {
    launches: AtomicU64,
    uploads: AtomicU64,
    downloads: AtomicU64,
    round_trips: AtomicU64,
    calls: AtomicU64,
}

/// The device's part of an executable plan.
pub struct OnDevice {
    target: Target,
    library: Library,
    work: Vec<Work>,
    /// What never changes, by buffer.
    fixed: residence::Fixed,
    counters: Counters,
}

impl OnDevice {
    /// Compiles what the plan's steps need; a module that the driver refuses leaves its step to the CPU.
    pub fn new(plan: &Plan, target: Target) -> Result<OnDevice, level_zero::Error> {
        let mut modules: HashMap<&DeviceKernel, Module> = HashMap::new();
        let work = plan.steps.iter().map(|s| work(s, &target, &mut modules));
        let mut work: Vec<Work> = work.collect();
        leave_indices(plan, &mut work);
        Ok(OnDevice {
            work,
            library: Library::new(&target.device),
            fixed: residence::Fixed::default(),
            counters: Counters::default(),
            target,
        })
    }

    /// What the CPU does and why, by step.
    pub fn host_steps(&self) -> impl Iterator<Item = (usize, &str)> {
        let all = self.work.iter().enumerate();
        all.filter_map(|(k, w)| match w {
            Work::Host(why) => Some((k, why.as_str())),
            _ => None,
        })
    }

    /// Launches, uploads, downloads, those of them that were not for results, and calls so far.
    pub fn counts(&self) -> [u64; 5] {
        let c = &self.counters;
        let all = [
            &c.launches,
            &c.uploads,
            &c.downloads,
            &c.round_trips,
            &c.calls,
        ];
        all.map(|n| n.load(Ordering::Relaxed))
    }
}

/// Leaves kernels to the CPU that make indices from what is there anyhow: these are checked there, and would have to come back.
fn leave_indices(plan: &Plan, work: &mut [Work]) {
    let checked: HashSet<BufferId> = plan
        .steps
        .iter()
        .filter_map(|s| match s {
            Step::CheckIndex { index, .. } => Some(index.buffer),
            _ => None,
        })
        .collect();
    let on_host = |b: &BufferId| {
        use Buffer::{Constant, External, Input, Kept};
        let buffer = &plan.buffers[b.0 as usize];
        matches!(buffer, Input(_) | Constant(_) | External | Kept { .. })
    };
    for (step, work) in plan.steps.iter().zip(work) {
        let Step::Kernel {
            code, args, name, ..
        } = step
        else {
            continue;
        };
        let Ok(kernel) = &code.device else { continue };
        let with = |flags: &[bool]| {
            let pairs = args.iter().zip(flags.to_vec());
            pairs
                .filter(|(_, f)| *f)
                .map(|(a, _)| a.0)
                .collect::<Vec<_>>()
        };
        if with(&kernel.writes).iter().any(|b| checked.contains(b))
            && with(&kernel.reads).iter().all(on_host)
        {
            *work = Work::Host(format!("{name}: makes indices, which are checked"));
        }
    }
}

fn work<'a>(
    step: &'a Step,
    target: &Target,
    modules: &mut HashMap<&'a DeviceKernel, Module>,
) -> Work {
    match step {
        Step::Kernel { code, name, .. } => match &code.device {
            Err(why) => Work::Host(format!("{name}: {why}")),
            Ok(kernel) if kernel.f64 && !target.device.has_f64() => {
                Work::Host(format!("{name}: the device has no f64"))
            }
            Ok(kernel) => match modules.get(kernel.as_ref()) {
                Some(module) => Work::Fused(module.clone()),
                None => {
                    let made = target.device.module(&Source {
                        name,
                        spirv: &kernel.spirv,
                        large_registers: false,
                        constants: &[],
                    });
                    match made {
                        Ok(module) => {
                            modules.insert(kernel, module.clone());
                            Work::Fused(module)
                        }
                        Err(e) => Work::Host(format!("{name}: {e}")),
                    }
                }
            },
        },
        Step::Product(p) => Work::Product(p.clone()),
        Step::Attention(a) => match attention::refusal(a) {
            None => Work::Attention,
            Some(why) => Work::Host(format!("attention: {why}")),
        },
        Step::External(call) => match super::ProductStep::any(call) {
            Some(p) if product::takes(&p) => Work::Product(Box::new(p)),
            _ => Work::Host(format!("{}: no GPU kernel", call.name)),
        },
        Step::Convolution(c) => match window::refusal(c) {
            None => Work::Window,
            Some(why) => Work::Host(format!("convolution: {why}")),
        },
        Step::CheckIndex { .. } => Work::Host("indices are checked before they are used".into()),
        Step::Bag(_) => Work::Host("bags of embeddings: no GPU kernel".into()),
        Step::Either(_) => Work::Host("two ways on the CPU".into()),
        Step::Release(_) => Work::Nothing,
    }
}

/// An error of the device as one of the call.
pub(crate) fn failed(e: level_zero::Error) -> Error {
    Error::Device(e.to_string())
}
