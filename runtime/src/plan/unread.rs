//! Arguments that only the first call of a plan reads: what it packs, and what follows from them alone.

use super::device::touched;
use super::{Buffer, BufferId, Output, Plan, Step, TensorRef, Then};
use std::collections::HashSet;

/// Places of the arguments that never change and that no further call reads. `packed` says of a slot whether a packed
/// form is there, `own` of a choice whether it fell on our step.
pub fn unread(plan: &Plan, packed: impl Fn(u32) -> bool, own: impl Fn(u32) -> bool) -> Vec<u32> {
    let once = plan.once.iter().flat_map(|step| touched(step).0);
    let mut candidates: HashSet<BufferId> = once.collect();
    let mut read: HashSet<BufferId> = HashSet::new();
    for step in &plan.steps {
        let step = match step {
            Step::Either(either) if own(either.slot) => &either.own,
            step => step,
        };
        let (pack, weights, then) = parts(step);
        let from: HashSet<BufferId> = weights.iter().map(|t| t.buffer).collect();
        read.extend(then.iter().flat_map(|then| &then.args).map(|arg| arg.0));
        match pack {
            Some(slot) if packed(slot) => {
                let others = touched(step).0.into_iter().filter(|b| !from.contains(b));
                read.extend(others);
                candidates.extend(from);
            }
            _ => read.extend(touched(step).0),
        }
    }
    for output in &plan.outputs {
        if let Output::Tensor(t) | Output::View(t) = output {
            read.insert(t.buffer);
        }
    }
    let returned = |n: &u32| plan.outputs.contains(&Output::Input(*n));
    let inputs = plan.buffers.iter().enumerate().filter_map(|(b, buffer)| {
        let b = BufferId(b as u32);
        match buffer {
            Buffer::Input(n) if candidates.contains(&b) && !read.contains(&b) => Some(*n),
            _ => None,
        }
    });
    inputs.filter(|n| !returned(n)).collect()
}

/// The slot of a step's packed weights, these, and what follows it.
fn parts(step: &Step) -> (Option<u32>, Vec<&TensorRef>, Option<&Then>) {
    match step {
        Step::Product(p) => {
            let weights = std::iter::once(&p.b).chain(&p.beside).collect();
            (p.packed_in(), weights, p.then.as_ref())
        }
        Step::Convolution(c) => (c.pack, c.weight.iter().collect(), c.then.as_ref()),
        Step::Onednn(c) => (c.pack, vec![&c.weight], None),
        _ => (None, Vec::new(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::Precision;
    use crate::plan::ProductStep;

    fn tensor(buffer: u32) -> TensorRef {
        TensorRef {
            buffer: BufferId(buffer),
            scalar_type: 6,
            sizes: vec![4, 4],
            strides: vec![4, 1],
            offset: 0,
        }
    }

    /// `x @ w` in slot 0 and `w @ v` in slot 1; x, w and v are arguments.
    fn plan() -> Plan {
        let product = |a: u32, b: u32, out: u32, slot: u32| {
            Step::Product(Box::new(ProductStep {
                name: "aten.mm.default".into(),
                a: tensor(a),
                b: tensor(b),
                beside: Vec::new(),
                groups: None,
                input: None,
                out: tensor(out),
                alpha: 1.0,
                beta: 0.0,
                precision: Precision::Full,
                pack: Some(slot),
                then: None,
            }))
        };
        Plan {
            num_inputs: 3,
            buffers: vec![
                Buffer::Input(0),
                Buffer::Input(1),
                Buffer::Input(2),
                Buffer::External,
                Buffer::External,
            ],
            steps: vec![product(0, 1, 3, 0), product(1, 2, 4, 1)],
            ..Plan::default()
        }
    }

    #[test]
    fn what_is_packed_and_read_nowhere_else() {
        let plan = plan();
        assert_eq!(unread(&plan, |_| true, |_| true), [2]);
        assert_eq!(unread(&plan, |_| false, |_| true), [0u32; 0]);
    }

    #[test]
    fn what_the_caller_gets_is_read() {
        let mut plan = plan();
        plan.steps.truncate(1);
        assert_eq!(unread(&plan, |_| true, |_| true), [1]);
        plan.outputs = vec![Output::Input(1)];
        assert_eq!(unread(&plan, |_| true, |_| true), [0u32; 0]);
    }
}
