//! Time per step, for people who look for slow ones: `IPEX_PROFILE=20` prints a table to stderr after
//! every 20 calls of a compiled graph. On a GPU they are of the device's clock.

use super::{CallArg, Plan, Step};
use std::fmt::Write;
use std::sync::Mutex;
use std::time::Duration;

/// Times of one plan's steps.
pub struct Profile {
    /// Calls between two tables.
    every: u32,
    sums: Mutex<(u32, Vec<Duration>)>,
}

impl Profile {
    /// A profile if the environment asks for one.
    pub fn from_environment(plan: &Plan) -> Option<Profile> {
        let every: u32 = std::env::var("IPEX_PROFILE").ok()?.parse().ok()?;
        (every > 0).then(|| Profile {
            every,
            sums: Mutex::new((0, vec![Duration::ZERO; plan.steps.len()])),
        })
    }

    /// Adds one call's times, in the order of the steps.
    pub fn add(&self, plan: &Plan, times: &[Duration]) {
        let Ok(mut sums) = self.sums.lock() else {
            return;
        };
        let (calls, sums) = &mut *sums;
        for (sum, time) in sums.iter_mut().zip(times) {
            *sum += *time;
        }
        *calls += 1;
        if *calls == self.every {
            eprint!("{}", table(plan, sums, self.every));
            *calls = 0;
            sums.fill(Duration::ZERO);
        }
    }
}

fn table(plan: &Plan, sums: &[Duration], calls: u32) -> String {
    let mut rows: Vec<(Duration, usize)> = sums.iter().map(|&t| t / calls).zip(0..).collect();
    let total: Duration = rows.iter().map(|r| r.0).sum();
    rows.sort_by_key(|r| std::cmp::Reverse(*r));
    let mut text = format!("us of {} per call, of each step\n", total.as_micros());
    for (time, step) in rows {
        let us = time.as_secs_f64() * 1e6;
        let _ = writeln!(text, "{us:9.1}  #{step} {}", describe(&plan.steps[step]));
    }
    text
}

fn describe(step: &Step) -> String {
    match step {
        Step::Kernel { name, extent, .. } => format!("kernel {name} x{extent}"),
        Step::Batch(b) => format!("kernel {} x{} of {}", b.name, b.extent(), b.ends.len()),
        Step::External(call) => {
            let sizes = call.args.iter().filter_map(|a| match a {
                CallArg::Tensor(t) => Some(format!("{:?}", t.sizes)),
                CallArg::Float(_) => None,
            });
            let sizes: Vec<String> = sizes.collect();
            format!("{} {}", call.name, sizes.join(" "))
        }
        Step::Convolution(c) => {
            let then = c.then.as_ref().map_or("", |t| &t.name);
            let (image, outputs) = (&c.image.sizes, c.shape.outputs);
            format!(
                "window {:?} {image:?} -> {outputs} {:?}, {then}",
                c.operation, c.shape.kernel
            )
        }
        Step::Onednn(c) => format!(
            "oneDNN {:?} {:?}, {:?}",
            c.image.sizes, c.weight.sizes, c.then
        ),
        Step::Product(p) => {
            let then = p.then.as_ref().map_or("", |t| &t.name);
            format!("{} {:?} {:?}, {then}", p.name, p.a.sizes, p.b.sizes)
        }
        Step::Attention(a) => format!("attention {:?} {:?}", a.q.sizes, a.k.sizes),
        Step::Either(e) => format!("{} or ATen", describe(&e.own)),
        Step::Bag(b) => format!("embedding bag {:?} {:?}", b.table.sizes, b.out.sizes),
        Step::CheckIndex { index, .. } => format!("check of indices {:?}", index.sizes),
        Step::Release(_) => "release".into(),
    }
}
