//! What a step is on a device, or why the CPU keeps it.

use super::super::{Buffer, BufferId, Plan, ProductStep, Step, Then};
use super::{DeviceKernel, attention, product, window};
use std::collections::HashSet;
use std::sync::Arc;
use thiserror::Error;

/// Why the CPU does a step of a plan for a GPU.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LeftToCpu {
    /// A fused kernel could not be written as SPIR-V.
    #[error("{kernel}: {why}")]
    NotGenerated {
        /// The kernel.
        kernel: String,
        /// The generator's reason.
        why: Arc<str>,
    },
    /// A fused kernel computes in f64.
    #[error("{0}: the device has no f64")]
    NoF64(String),
    /// The driver does not compile a module.
    #[error("{kernel}: {error}")]
    NotBuilt {
        /// The kernel.
        kernel: String,
        /// The driver's error and log.
        error: String,
    },
    /// A fused kernel makes indices of what the CPU has anyhow; see [`LeftToCpu::CheckedIndices`].
    #[error("{0}: makes indices, which are checked")]
    MakesIndices(String),
    /// Indices out of range are an error of the call.
    #[error("indices are checked before they are used")]
    CheckedIndices,
    /// There is no kernel for a call into ATen; on tensors of PyTorch's device it runs there.
    #[error("{0}: no GPU kernel")]
    Call(String),
    /// A product of bytes.
    #[error(
        "{0}: the device has no matrix instructions, without which there is no kernel for bytes"
    )]
    NoInstructions(String),
    /// An attention that the kernel does not compute.
    #[error("attention: {0}")]
    Attention(String),
    /// A convolution that the kernel does not compute.
    #[error("convolution: {0}")]
    Convolution(String),
    /// Sums of rows of an embedding.
    #[error("bags of embeddings: no GPU kernel")]
    Bag,
    /// One loop over the tensors of several kernels, or a kernel that follows a result and is no epilogue; plans for GPUs have none.
    #[error("a batch for the CPU")]
    Batch,
    /// A choice between kernels of the CPU.
    #[error("two ways on the CPU")]
    Either,
}

/// What a step is on a device.
pub(super) enum Form<'a> {
    /// A fused kernel and its name.
    Fused(&'a DeviceKernel, &'a str),
    /// A product.
    Product(Box<ProductStep>),
    /// An attention.
    Attention,
    /// A convolution, or maxima.
    Window,
    /// Nothing is to be done.
    Nothing,
}

/// The forms of a plan's steps on a device that has f64 and compiles every module.
pub(super) fn forms(plan: &Plan) -> Vec<Result<Form<'_>, LeftToCpu>> {
    let checked = checked_indices(plan);
    let steps = plan.steps.iter();
    steps
        .map(|s| makes_indices(plan, s, &checked).map_or_else(|| form(s), Err))
        .collect()
}

/// What any GPU leaves to the CPU, by step.
pub fn left_to_cpu(plan: &Plan) -> Vec<(usize, LeftToCpu)> {
    let forms = forms(plan).into_iter().enumerate();
    forms
        .filter_map(|(n, form)| Some((n, form.err()?)))
        .collect()
}

fn form(step: &Step) -> Result<Form<'_>, LeftToCpu> {
    Ok(match step {
        Step::Kernel { code, name, .. } => match &code.device {
            Ok(kernel) => Form::Fused(kernel, name),
            Err(why) => {
                let (kernel, why) = (name.to_string(), why.clone());
                return Err(LeftToCpu::NotGenerated { kernel, why });
            }
        },
        Step::Product(p) if is_foreign(&p.then) => return Err(LeftToCpu::Batch),
        Step::Product(p) if product::takes(p) => Form::Product(p.clone()),
        Step::Product(p) => return Err(LeftToCpu::Call(p.name.clone())),
        Step::Attention(a) => match attention::refusal(a) {
            None => Form::Attention,
            Some(why) => return Err(LeftToCpu::Attention(why)),
        },
        Step::External(call) => match ProductStep::any(call) {
            Some(p) if product::takes(&p) => Form::Product(Box::new(p)),
            _ => return Err(LeftToCpu::Call(call.name.to_string())),
        },
        Step::Convolution(c) if is_foreign(&c.then) => return Err(LeftToCpu::Batch),
        Step::Convolution(c) => match window::refusal(c) {
            None => Form::Window,
            Some(why) => return Err(LeftToCpu::Convolution(why)),
        },
        Step::Onednn(_) => return Err(LeftToCpu::Call("a convolution of oneDNN's".into())),
        Step::Batch(_) => return Err(LeftToCpu::Batch),
        Step::CheckIndex { .. } => return Err(LeftToCpu::CheckedIndices),
        Step::Bag(_) => return Err(LeftToCpu::Bag),
        Step::Either(_) => return Err(LeftToCpu::Either),
        Step::Release(_) => Form::Nothing,
    })
}

/// Whether what follows is no epilogue.
fn is_foreign(then: &Option<Then>) -> bool {
    then.as_ref().is_some_and(|t| t.tail.is_none())
}

fn checked_indices(plan: &Plan) -> HashSet<BufferId> {
    let steps = plan.steps.iter();
    let indices = steps.filter_map(|s| match s {
        Step::CheckIndex { index, .. } => Some(index.buffer),
        _ => None,
    });
    indices.collect()
}

/// Leaves kernels to the CPU that make indices from what is there anyhow: these are checked there, and would have to come back.
fn makes_indices(plan: &Plan, step: &Step, checked: &HashSet<BufferId>) -> Option<LeftToCpu> {
    let Step::Kernel {
        code, args, name, ..
    } = step
    else {
        return None;
    };
    let kernel = code.device.as_ref().ok()?;
    let on_host = |b: &BufferId| {
        use Buffer::{Constant, External, Input, Kept};
        let buffer = &plan.buffers[b.0 as usize];
        matches!(buffer, Input(_) | Constant(_) | External | Kept { .. })
    };
    let buffers = || args.iter().map(|a| a.0);
    let makes = buffers()
        .zip(&kernel.writes)
        .any(|(b, w)| *w && checked.contains(&b));
    let from_host = buffers()
        .zip(&kernel.reads)
        .all(|(b, r)| !*r || on_host(&b));
    (makes && from_host).then(|| LeftToCpu::MakesIndices(name.to_string()))
}
