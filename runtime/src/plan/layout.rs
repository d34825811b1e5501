//! Which results of ATen keep the layout that they come in, and who looks at more of a tensor than its elements.

use super::device::touched;
use super::{Buffer, CallArg, ExternalCall, Output, Plan, Route, Step, TensorRef};

/// Whether each buffer is a result of ATen that only ATen and the caller read, and as a whole. Eager may give it other strides than
/// tracing has foreseen, and neither of these minds.
pub fn own_layout(plan: &Plan) -> Vec<bool> {
    let mut own: Vec<bool> = plan
        .buffers
        .iter()
        .map(|b| *b == Buffer::External)
        .collect();
    let mut results: Vec<Option<&TensorRef>> = vec![None; own.len()];
    for step in plan.once.iter().chain(&plan.steps) {
        let call = called(step);
        for out in call.iter().flat_map(|c| c.outputs.iter().flatten()) {
            results[out.buffer.0 as usize] = Some(out);
        }
        if call.is_none() {
            let (read, written) = touched(step);
            read.iter()
                .chain(&written)
                .for_each(|b| own[b.0 as usize] = false);
        }
        for arg in call.iter().flat_map(|c| &c.args) {
            if let CallArg::Tensor(t) = arg {
                own[t.buffer.0 as usize] &= results[t.buffer.0 as usize] == Some(t);
            }
        }
    }
    for output in &plan.outputs {
        if let Output::Tensor(t) | Output::View(t) = output {
            own[t.buffer.0 as usize] = false;
        }
    }
    own
}

/// The call of a step that takes tensors of any strides.
fn called(step: &Step) -> Option<&ExternalCall> {
    match step {
        Step::External(call) => {
            let any = matches!(call.route, Route::Python(_) | Route::Dispatcher { .. });
            any.then_some(&**call)
        }
        _ => None,
    }
}

/// Whether all of a plan are kernels, which take addresses, and no argument is returned in part.
pub fn addressed(plan: &Plan) -> bool {
    let is_kernel = |s: &Step| matches!(s, Step::Kernel { .. } | Step::Batch(_));
    let is_own = |o: &Output| match o {
        Output::Tensor(t) | Output::View(t) => {
            !matches!(plan.buffers[t.buffer.0 as usize], Buffer::Input(_))
        }
        _ => true,
    };
    plan.once.is_empty() && plan.steps.iter().all(is_kernel) && plan.outputs.iter().all(is_own)
}
