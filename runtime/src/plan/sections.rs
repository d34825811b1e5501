//! Which steps share a region of threads.

use super::either::Way;
use super::{Step, TensorRef};
use std::ops::Range;

/// Multiplications from which a product is split over threads.
const WORK: i64 = 1 << 19;

/// Steps that follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Places in the plan.
    pub steps: Range<usize>,
    /// Whether one region of threads pays: at least two of the steps have loops for threads, and none
    /// calls ATen, whose own loops would run on one thread inside.
    pub team: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Runs on the calling thread.
    Serial,
    /// Has loops for threads.
    Parallel,
    /// ATen's.
    Foreign,
}

/// `way` names the way that a choice's slot has taken.
fn kind(step: &Step, way: &dyn Fn(u32) -> Option<Way>) -> Kind {
    let split = |wide: bool| if wide { Kind::Parallel } else { Kind::Serial };
    // Others are copied by ATen, or left to it.
    let ours = |given: &[Option<&TensorRef>]| match given.iter().flatten().all(|t| t.is_row_major())
    {
        true => Kind::Parallel,
        false => Kind::Foreign,
    };
    match step {
        Step::Kernel { extent, grain, .. } => split(extent > grain),
        Step::Batch(batch) => split(batch.extent() > batch.grain),
        Step::Product(p) => {
            let columns = p.out.sizes.last().copied().unwrap_or(1);
            split(p.a.sizes.iter().product::<i64>().saturating_mul(columns) >= WORK)
        }
        Step::Attention(_) => Kind::Parallel,
        Step::Convolution(c) if c.copies() => Kind::Foreign,
        Step::Convolution(_) => Kind::Parallel,
        Step::Bag(bag) => ours(&[
            Some(&bag.table),
            Some(&bag.indices),
            Some(&bag.offsets),
            bag.weights.as_ref(),
        ]),
        Step::Either(either) => match way(either.slot) {
            Some(Way::Own) => kind(&either.own, way),
            // To be timed, or ATen's.
            Some(Way::Aten) | None => Kind::Foreign,
        },
        Step::CheckIndex { .. } | Step::Release(_) => Kind::Serial,
        Step::External(_) | Step::Onednn(_) => Kind::Foreign,
    }
}

/// All steps, in order; `way` names the way that a choice's slot has taken, if it is known.
pub fn sections(steps: &[Step], way: impl Fn(u32) -> Option<Way>) -> Vec<Section> {
    cut(steps.iter().map(|step| kind(step, &way)))
}

fn cut(kinds: impl Iterator<Item = Kind>) -> Vec<Section> {
    let mut all: Vec<Section> = Vec::new();
    // Loops in the last section; none if that is ATen's.
    let mut loops: Option<usize> = None;
    for (n, kind) in kinds.enumerate() {
        let own = kind != Kind::Foreign;
        match all.last_mut() {
            Some(last) if loops.is_some() == own => last.steps.end = n + 1,
            _ => {
                let steps = n..n + 1;
                all.push(Section { steps, team: false });
                loops = own.then_some(0);
            }
        }
        if let (Some(loops), Some(last)) = (&mut loops, all.last_mut()) {
            *loops += usize::from(kind == Kind::Parallel);
            last.team = *loops > 1;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;
    use crate::bag::Reduction;
    use crate::plan::{BagRule, BagStep, BufferId, Callable, Either};

    #[test]
    fn loops_between_calls_of_aten_share_a_region() {
        use Kind::{Foreign, Parallel, Serial};
        let of = |kinds: &[Kind]| cut(kinds.iter().copied());
        let section = |steps: Range<usize>, team| Section { steps, team };
        assert_eq!(of(&[]), []);
        assert_eq!(of(&[Serial, Parallel]), [section(0..2, false)]);
        assert_eq!(of(&[Parallel, Serial, Parallel]), [section(0..3, true)]);
        let split = [
            Foreign, Foreign, Parallel, Parallel, Foreign, Parallel, Serial,
        ];
        let expected = [
            section(0..2, false),
            section(2..4, true),
            section(4..5, false),
            section(5..7, false),
        ];
        assert_eq!(of(&split), expected);
    }

    fn bag(table_strides: [i64; 2]) -> Step {
        let tensor = |sizes: &[i64], strides: &[i64], dtype: DType| TensorRef {
            buffer: BufferId(0),
            scalar_type: dtype.torch_code(),
            sizes: sizes.to_vec(),
            strides: strides.to_vec(),
            offset: 0,
        };
        Step::Bag(Box::new(BagStep {
            rule: BagRule {
                reduction: Reduction::Sum,
                ends: false,
                padding: -1,
            },
            callable: Callable {
                index: 0,
                numbers: Vec::new(),
            },
            table: tensor(&[9, 4], &table_strides, DType::F32),
            indices: tensor(&[5], &[1], DType::I64),
            offsets: tensor(&[2], &[1], DType::I64),
            weights: None,
            out: tensor(&[2, 4], &[4, 1], DType::F32),
        }))
    }

    #[test]
    fn a_choice_counts_as_the_way_that_it_takes() {
        let either = Step::Either(Box::new(Either {
            own: bag([4, 1]),
            aten: Vec::new(),
            problem: String::new(),
            timed: true,
            slot: 3,
        }));
        let of = |way: Option<Way>| {
            kind(&either, &|slot| {
                assert_eq!(slot, 3);
                way
            })
        };
        assert!(of(None) == Kind::Foreign);
        assert!(of(Some(Way::Aten)) == Kind::Foreign);
        assert!(of(Some(Way::Own)) == Kind::Parallel);
    }

    #[test]
    fn a_table_that_aten_reads_ends_a_section() {
        let of = |strides| kind(&bag(strides), &|_| None);
        assert!(of([4, 1]) == Kind::Parallel);
        assert!(of([1, 9]) == Kind::Foreign);
    }
}
