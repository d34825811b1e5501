//! A plan on a GPU.
//!
//! Every buffer of the plan has memory on both sides, and a state that says where its contents are right ([`Place`]). A step that
//! the device has a kernel for runs there, any other on the CPU as always; whatever a step reads is brought to its side first. So intermediates
//! stay on the device, arguments go up once a call (frozen ones and constants once and for all), and results come down at the end;
//! those that are tensors of PyTorch's `xpu` device stay where they are ([`xpu`]).

mod attention;
mod convolution;
mod form;
mod product;
mod residence;
mod state;
mod tail;
mod window;
mod xpu;

use super::Plan;
use crate::Error;
use crate::level_zero::library::Library;
use crate::level_zero::{self, Device, Module, Source};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use form::Form;
pub use form::{LeftToCpu, left_to_cpu};
pub(super) use residence::Place;
pub(super) use state::{State, touched};
pub use tail::Tail;
pub use xpu::Xpu;

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
    /// PyTorch's name of it, if arguments lie there and results belong there.
    pub xpu: Option<Xpu>,
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
    Host(LeftToCpu),
}

/// What happened on the device so far.
#[derive(Debug, Default)]
pub struct Counters {
    launches: AtomicU64,
    uploads: AtomicU64,
    downloads: AtomicU64,
    round_trips: AtomicU64,
    calls: AtomicU64,
    blocks: AtomicU64,
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
        let forms = form::forms(plan).into_iter();
        let work = forms.map(|f| match f {
            Ok(form) => work(form, &target, &mut modules).unwrap_or_else(Work::Host),
            Err(why) => Work::Host(why),
        });
        let work = work.collect();
        Ok(OnDevice {
            work,
            library: Library::new(&target.device),
            fixed: residence::Fixed::default(),
            counters: Counters::default(),
            target,
        })
    }

    /// What the CPU does and why, by step.
    pub fn host_steps(&self) -> impl Iterator<Item = (usize, &LeftToCpu)> {
        let all = self.work.iter().enumerate();
        all.filter_map(|(k, w)| match w {
            Work::Host(why) => Some((k, why)),
            _ => None,
        })
    }

    /// Launches, uploads, downloads, those of them that were not for results, calls, and products that read 2D blocks so far.
    pub fn counts(&self) -> [u64; 6] {
        let c = &self.counters;
        let all = [
            &c.launches,
            &c.uploads,
            &c.downloads,
            &c.round_trips,
            &c.calls,
            &c.blocks,
        ];
        all.map(|n| n.load(Ordering::Relaxed))
    }
}

/// The work of a form. A kernel that is there already is shared.
fn work<'a>(
    form: Form<'a>,
    target: &Target,
    modules: &mut HashMap<&'a DeviceKernel, Module>,
) -> Result<Work, LeftToCpu> {
    let (kernel, name) = match form {
        Form::Fused(kernel, name) => (kernel, name),
        Form::Product(p) => {
            let instructions = target.device.architecture().matrix_sub_group();
            return match product::is_of_bytes(&p) && instructions.is_none() {
                true => Err(LeftToCpu::NoInstructions(p.name)),
                false => Ok(Work::Product(p)),
            };
        }
        Form::Attention => return Ok(Work::Attention),
        Form::Window => return Ok(Work::Window),
        Form::Nothing => return Ok(Work::Nothing),
    };
    if kernel.f64 && !target.device.has_f64() {
        return Err(LeftToCpu::NoF64(name.into()));
    }
    if let Some(module) = modules.get(kernel) {
        return Ok(Work::Fused(module.clone()));
    }
    let source = Source {
        name,
        spirv: &kernel.spirv,
        large_registers: false,
        constants: &[],
    };
    let made = target.device.module(&source);
    let module = made.map_err(|e| LeftToCpu::NotBuilt {
        kernel: name.into(),
        error: e.to_string(),
    })?;
    modules.insert(kernel, module.clone());
    Ok(Work::Fused(module))
}

/// An error of the device as one of the call.
pub(crate) fn failed(e: level_zero::Error) -> Error {
    Error::Device(e.to_string())
}
