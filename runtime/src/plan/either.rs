//! Two ways to the same results, of which the faster one on this machine is taken.

use super::{Step, Then};
use crate::choices::Choices;
use crate::cpu::Isa;
use std::time::{Duration, Instant};

/// Timings of each way, taking turns; the least counts. One more, before them, packs and warms up.
const ROUNDS: usize = 7;

/// Short ways are repeated until a timing takes about this long.
const TIMED: Duration = Duration::from_micros(200);

/// ATen is taken if it needs less than this share of our time: its result is no memory of the plan.
const CLEARLY: f64 = 0.95;

/// A step of ours, and what ATen offers instead.
#[derive(Clone)]
#[expect(missing_docs, reason = "the fields are named by their role")]
pub struct Either {
    /// A product or a convolution.
    pub own: Step,
    pub aten: Vec<Step>,
    /// The problem as the cache names it: operator, shapes, layouts, dtypes.
    pub problem: String,
    /// Whether the first call times both. Otherwise ours is taken unless it fails.
    pub timed: bool,
    /// Where the choice is kept between calls ([`super::Plan::eithers`]).
    pub slot: u32,
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The step of ours.
    Own,
    /// The steps of ATen's.
    Aten,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::Own => "own",
            Way::Aten => "aten",
        }
    }

    /// For these times of ours and of ATen's.
    fn faster(times: [Duration; 2]) -> Way {
        let [own, aten] = times.map(|t| t.as_secs_f64());
        if aten < CLEARLY * own {
            Way::Aten
        } else {
            Way::Own
        }
    }

    fn named(name: &str) -> Option<Way> {
        [Way::Own, Way::Aten].into_iter().find(|w| w.name() == name)
    }
}

impl Either {
    /// Adds a kernel that reads the result: inside of our step, and after ATen's.
    pub fn follow(&mut self, then: Then, kernel: Step) {
        self.problem += &format!(", {}", then.name);
        match &mut self.own {
            Step::Product(p) => p.then = Some(then),
            Step::Convolution(c) => c.then = Some(then),
            _ => {}
        }
        self.aten.push(kernel);
    }

    /// Adds a kernel of what our step computes at once.
    pub fn apart(&mut self, kernel: Step) {
        self.aten.push(kernel);
    }

    /// The way that is kept on disk for so many threads.
    pub fn known(&self, threads: usize) -> Option<Way> {
        Way::named(&Choices::get().find(&self.problem_of(threads))?)
    }

    /// Times both ways and keeps the faster. Each runs often, so that running it again must give the same;
    /// a way of ATen's that fails loses.
    pub fn measure<E>(
        &self,
        threads: usize,
        mut run: impl FnMut(Way) -> Result<(), E>,
    ) -> Result<Way, E> {
        run(Way::Own)?;
        if run(Way::Aten).is_err() {
            return Ok(Way::Own);
        }
        let mut least = [Duration::MAX; 2];
        for _ in 0..ROUNDS {
            for (way, least) in [Way::Own, Way::Aten].into_iter().zip(&mut least) {
                let (start, mut times) = (Instant::now(), 0);
                while times == 0 || start.elapsed() < TIMED {
                    run(way)?;
                    times += 1;
                }
                *least = (*least).min(start.elapsed() / times);
            }
        }
        let way = Way::faster(least);
        Choices::get().keep(&self.problem_of(threads), way.name());
        Ok(way)
    }

    fn problem_of(&self, threads: usize) -> String {
        let isa = Isa::detect().name();
        format!("{isa}, {threads} threads, {}", self.problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::BufferId;

    fn either() -> Either {
        Either {
            own: Step::Release(BufferId(0)),
            aten: Vec::new(),
            problem: "of a test, never kept".into(),
            timed: true,
            slot: 0,
        }
    }

    #[test]
    fn a_small_lead_is_not_enough() {
        let way = |own, aten| Way::faster([own, aten].map(Duration::from_micros));
        assert_eq!(way(100, 90), Way::Aten);
        assert_eq!(way(100, 97), Way::Own);
        assert_eq!(way(100, 120), Way::Own);
    }

    #[test]
    fn what_fails_is_not_taken() {
        let run = |way| if way == Way::Aten { Err("no") } else { Ok(()) };
        assert_eq!(either().measure(1, run), Ok(Way::Own));
        assert_eq!(either().measure(1, |_| Err("no")), Err("no"));
    }
}
