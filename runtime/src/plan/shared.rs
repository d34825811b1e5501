//! What the plans of one document share: weights that never change in the form that their kernels want, and what the
//! first call computes from such arguments. Each plan would hold a copy of its own otherwise.

use super::kept::Kept;
use super::packed::Packed;
use super::{Buffer, BufferId, Plan, Step, TensorRef};
use crate::aten::onednn::Window;
use crate::conv::{self, Operation, Threads};
use crate::cpu::Isa;
use crate::gemm::Math;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, OnceLock, Weak};

/// A packed weight, made by the first call that wants it.
pub type Slot = Arc<OnceLock<Packed>>;

/// Alive as long as a plan uses it.
type Known<K, T> = Mutex<HashMap<K, Weak<T>>>;

/// Of the plans of one document.
#[derive(Default)]
pub struct Shared {
    packs: Known<Key, OnceLock<Packed>>,
    kept: Known<Origin, Kept>,
}

/// What kept buffers hold: the kernels that fill them, on which arguments, and their sizes.
type Origin = (Arc<str>, Vec<u64>);

/// Two weights with one key have one packed form.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    Product {
        weights: Vec<Weight>,
        math: Math,
    },
    Convolution {
        weight: Weight,
        operation: Operation,
        /// Groups, inputs, outputs, kernel.
        sizes: [usize; 5],
        /// Whether a transform pays depends on all of the shape.
        pays: bool,
        /// In channels-last order.
        last: bool,
    },
    Onednn {
        weight: Weight,
        window: Window,
    },
}

/// A view of an argument, or of a kept buffer.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Weight {
    /// The buffer in it says nothing.
    view: TensorRef,
    place: Place,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Place {
    Argument(u32),
    /// The n-th kept buffer of these.
    Kept(Origin, usize),
}

impl Shared {
    /// The slots of a plan's packed weights.
    pub fn packs(&self, plan: &Plan, threads: &dyn Threads) -> Vec<Slot> {
        let mut slots: Vec<Slot> = (0..plan.packs).map(|_| Slot::default()).collect();
        let origin = origin(plan);
        for step in &plan.steps {
            if let Some((slot, key)) = key(plan, &origin, step, threads)
                && let Some(slot) = slots.get_mut(slot as usize)
            {
                *slot = known(&self.packs, key, Slot::default);
            }
        }
        slots
    }

    /// The memory of a plan's kept buffers.
    pub fn kept(&self, plan: &Plan) -> Arc<Kept> {
        known(&self.kept, origin(plan), || Arc::new(Kept::new(plan)))
    }

    /// Bytes of all that is there.
    pub fn bytes(&self) -> usize {
        let packs = alive(&self.packs);
        let packs = packs.iter().filter_map(|slot| slot.get());
        let kept = alive(&self.kept);
        packs.map(Packed::bytes).sum::<usize>() + kept.iter().map(|k| k.bytes()).sum::<usize>()
    }
}

/// What is known by this key, made if there is none any more.
fn known<K: Eq + Hash, T>(all: &Known<K, T>, key: K, make: impl FnOnce() -> Arc<T>) -> Arc<T> {
    let mut all = all.lock().unwrap_or_else(|e| e.into_inner());
    if let Some(found) = all.get(&key).and_then(Weak::upgrade) {
        return found;
    }
    all.retain(|_, weak| weak.strong_count() > 0);
    let made = make();
    all.insert(key, Arc::downgrade(&made));
    made
}

fn alive<K, T>(all: &Known<K, T>) -> Vec<Arc<T>> {
    let all = all.lock().unwrap_or_else(|e| e.into_inner());
    all.values().filter_map(Weak::upgrade).collect()
}

fn origin(plan: &Plan) -> Origin {
    let sizes = plan.buffers.iter().filter_map(|b| match b {
        Buffer::Kept { bytes } => Some(*bytes),
        _ => None,
    });
    (plan.once_as_text.clone(), sizes.collect())
}

/// The slot of a step's packed weights, and what they are.
fn key(plan: &Plan, origin: &Origin, step: &Step, threads: &dyn Threads) -> Option<(u32, Key)> {
    let weight = |t: &TensorRef| weight(plan, origin, t);
    match step {
        Step::Either(either) => key(plan, origin, &either.own, threads),
        Step::Product(p) => {
            let weights = std::iter::once(&p.b).chain(&p.beside).map(weight);
            let key = Key::Product {
                weights: weights.collect::<Option<_>>()?,
                math: p.packed_math(threads.count())?,
            };
            Some((p.pack?, key))
        }
        Step::Convolution(c) => {
            let s = &c.shape;
            let key = Key::Convolution {
                weight: weight(c.weight.as_ref()?)?,
                operation: c.operation,
                sizes: [s.groups, s.inputs, s.outputs, s.kernel[0], s.kernel[1]],
                pays: !c.last && conv::transforms(s, c.operation, Isa::detect(), threads),
                last: c.last,
            };
            Some((c.pack?, key))
        }
        Step::Onednn(c) => {
            let key = Key::Onednn {
                weight: weight(&c.weight)?,
                window: c.window.clone(),
            };
            Some((c.pack?, key))
        }
        _ => None,
    }
}

/// None of what is no argument and not kept.
fn weight(plan: &Plan, origin: &Origin, t: &TensorRef) -> Option<Weight> {
    let n = t.buffer.0 as usize;
    let is_kept = |b: &&Buffer| matches!(b, Buffer::Kept { .. });
    let place = match plan.buffers.get(n)? {
        Buffer::Input(n) => Place::Argument(*n),
        Buffer::Kept { .. } => {
            let before = plan.buffers[..n].iter().filter(is_kept).count();
            Place::Kept(origin.clone(), before)
        }
        _ => return None,
    };
    let view = TensorRef {
        buffer: BufferId(0),
        ..t.clone()
    };
    Some(Weight { view, place })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::Precision;
    use crate::plan::ProductStep;
    use std::ptr::eq;

    struct One;

    impl Threads for One {
        fn count(&self) -> usize {
            1
        }

        fn split(
            &self,
            end: usize,
            _: usize,
            body: &(dyn Fn(usize, usize) + Sync),
        ) -> Result<(), crate::Error> {
            body(0, end);
            Ok(())
        }
    }

    fn tensor(buffer: u32, sizes: &[i64]) -> TensorRef {
        TensorRef {
            buffer: BufferId(buffer),
            scalar_type: 6,
            sizes: sizes.to_vec(),
            strides: vec![sizes[1], 1],
            offset: 0,
        }
    }

    /// `rows` rows by an argument, or by what `once` makes.
    fn plan(rows: i64, weight: Buffer, once: &str) -> Plan {
        let product = ProductStep {
            name: "aten.mm.default".into(),
            a: tensor(0, &[rows, 4]),
            b: tensor(1, &[4, 8]),
            beside: Vec::new(),
            groups: None,
            input: None,
            out: tensor(2, &[rows, 8]),
            alpha: 1.0,
            beta: 0.0,
            precision: Precision::Full,
            pack: Some(0),
            then: None,
        };
        Plan {
            num_inputs: 3,
            buffers: vec![Buffer::Input(0), weight, Buffer::External],
            packs: 1,
            once_as_text: once.into(),
            steps: vec![Step::Product(Box::new(product))],
            ..Plan::default()
        }
    }

    #[test]
    fn plans_of_other_sizes_have_the_same_weights() {
        let shared = Shared::default();
        let slots = |plan: &Plan| shared.packs(plan, &One);
        let first = slots(&plan(2, Buffer::Input(1), ""));
        let same = |slots: &[Slot]| eq(Arc::as_ptr(&slots[0]), Arc::as_ptr(&first[0]));
        assert!(same(&slots(&plan(3, Buffer::Input(1), ""))));
        assert!(!same(&slots(&plan(3, Buffer::Input(2), ""))));
        let mut other = plan(3, Buffer::Input(1), "");
        if let Step::Product(p) = &mut other.steps[0] {
            p.b.strides = vec![1, 4];
        }
        assert!(!same(&slots(&other)));
        if let Step::Product(p) = &mut other.steps[0] {
            p.b.strides = vec![8, 1];
            let before = p.packed_math(1);
            p.precision = Precision::Medium;
            // Where f32 is multiplied as bf16, weights are packed so.
            let same_math = before == p.packed_math(1);
            assert_eq!(same(&slots(&other)), same_math);
        }
    }

    #[test]
    fn what_is_kept_goes_by_the_kernels_that_make_it() {
        let shared = Shared::default();
        let of = |rows, bytes, once| plan(rows, Buffer::Kept { bytes }, once);
        let both = |plan: &Plan| (shared.kept(plan), shared.packs(plan, &One).remove(0));
        let first = both(&of(2, 128, "exp"));
        let again = both(&of(3, 128, "exp"));
        assert!(Arc::ptr_eq(&first.0, &again.0) && Arc::ptr_eq(&first.1, &again.1));
        for other in [of(3, 128, "log"), of(3, 256, "exp")] {
            let other = both(&other);
            assert!(!Arc::ptr_eq(&first.0, &other.0) && !Arc::ptr_eq(&first.1, &other.1));
        }
        assert_eq!(shared.bytes(), 128);
        drop((first, again));
        assert_eq!(shared.bytes(), 0);
    }
}
