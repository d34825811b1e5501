//! Which steps share a region of threads.

use super::Step;
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

fn kind(step: &Step) -> Kind {
    let split = |wide: bool| if wide { Kind::Parallel } else { Kind::Serial };
    match step {
        Step::Kernel { extent, grain, .. } => split(extent > grain),
        Step::Product(p) => {
            let columns = p.out.sizes.last().copied().unwrap_or(1);
            split(p.a.sizes.iter().product::<i64>().saturating_mul(columns) >= WORK)
        }
        Step::Attention(_) => Kind::Parallel,
        Step::Convolution(c) => {
            let mut given = [Some(&c.image), c.weight.as_ref(), c.bias.as_ref()]
                .into_iter()
                .flatten();
            // Others are copied by ATen first.
            match given.all(|t| t.is_row_major()) {
                true => Kind::Parallel,
                false => Kind::Foreign,
            }
        }
        Step::CheckIndex { .. } | Step::Release(_) => Kind::Serial,
        Step::External(_) => Kind::Foreign,
    }
}

/// All steps, in order.
pub fn sections(steps: &[Step]) -> Vec<Section> {
    cut(steps.iter().map(kind))
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
}
