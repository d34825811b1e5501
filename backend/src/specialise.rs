//! Plans of one document, each for one tuple of its symbols' values.
//!
//! Kernels with known sizes are faster than general ones, and compiling takes milliseconds: so a
//! graph with symbolic sizes is compiled again for each new tuple of sizes, without tracing it
//! again, and the latest plans are kept.

use crate::compile;
use crate::error::Error;
use crate::protocol::Document;
use crate::protocol::expr::{Number, Symbols};
use ipex_runtime::aten::Aten;
use ipex_runtime::level_zero::{self, Selection};
use ipex_runtime::plan::device::{Target, Xpu};
use ipex_runtime::plan::{Executable, Plan, Route, Shared, Step};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

/// Plans that are kept; the one that has not run for longest is dropped.
const KEPT: usize = 64;

/// A plan with what there is to say of it.
pub struct Ready {
    /// Runs it.
    pub executable: Executable,
    /// Whether a call is long enough to let other Python threads run.
    pub long: bool,
    /// Number of fused groups.
    pub groups: usize,
    /// Number of calls into PyTorch.
    pub calls: usize,
    /// Number of those that go through Python.
    pub python_calls: usize,
    /// Number of attentions by our kernel.
    pub attentions: usize,
    /// Of each product that was made of several, how many.
    pub joined: Vec<usize>,
    /// Number of products that read dequantised matrices as bytes.
    pub of_bytes: usize,
    /// Whether it has been said which arguments no further call reads.
    pub settled: AtomicBool,
}

/// A document and its plans.
pub struct Specialisations {
    document: Document,
    symbols: Vec<String>,
    aten: &'static Aten,
    shared: Arc<Shared>,
    plans: Mutex<Plans>,
}

#[derive(Default)]
struct Plans {
    clock: u64,
    ready: HashMap<Vec<u64>, (u64, Arc<Ready>)>,
}

impl Ready {
    fn new(
        document: &Document,
        symbols: &Symbols,
        aten: &'static Aten,
        shared: &Arc<Shared>,
    ) -> Result<Arc<Ready>, Error> {
        let program = compile::specialise(document, symbols)?;
        let steps = &program.plan.steps;
        let is_call = |s: &&Step| matches!(own(s), Step::External(_) | Step::Onednn(_));
        let calls = steps.iter().filter(is_call).count();
        let products = steps.iter().filter(|s| matches!(own(s), Step::Product(_)));
        let products = products.count();
        let attentions = steps.iter().filter(|s| matches!(s, Step::Attention(_)));
        let attentions = attentions.count();
        let long = steps.iter().any(|s| match s {
            Step::Kernel { extent, grain, .. } => extent > grain,
            Step::Batch(b) => b.extent() > b.grain,
            Step::Convolution(_)
            | Step::Product(_)
            | Step::Attention(_)
            | Step::Bag(_)
            | Step::Onednn(_)
            | Step::Either(_) => true,
            other => is_call(&other),
        });
        let through_python =
            |s: &&Step| matches!(s, Step::External(c) if matches!(c.route, Route::Python(_)));
        Ok(Arc::new(Ready {
            python_calls: steps.iter().filter(through_python).count(),
            long,
            groups: program.clusters.groups.len() - calls - products - attentions,
            attentions,
            joined: program.graph.joined.iter().map(Vec::len).collect(),
            of_bytes: program.graph.of_bytes.len(),
            calls,
            settled: AtomicBool::new(false),
            executable: executable(program.plan, aten, shared.clone(), document)?,
        }))
    }
}

/// The plan on the device that the document asks for.
fn executable(
    plan: Plan,
    aten: &'static Aten,
    shared: Arc<Shared>,
    document: &Document,
) -> Result<Executable, Error> {
    let unsupported = |reason: String| Error::Unsupported {
        node: "the whole graph".into(),
        reason,
    };
    let failed = |e: level_zero::Error| unsupported(e.to_string());
    let (device, xpu) = match (document.options.gpu, document.options.xpu) {
        (None, None) => return Ok(Executable::new(plan, aten, shared)),
        (_, Some(index)) => {
            let (xpu, device) = Xpu::open(aten, index as i32).map_err(failed)?;
            (device, Some(xpu))
        }
        (Some(index), None) => {
            let index = index as usize;
            let device = level_zero::open(Selection { index }).map_err(failed)?;
            (device.clone(), None)
        }
    };
    let frozen = document.options.frozen.clone();
    let target = Target {
        device,
        frozen,
        xpu,
    };
    Executable::on_device(plan, aten, shared, target).map_err(|e| unsupported(e.to_string()))
}

impl Specialisations {
    /// Of a document with these symbols.
    pub fn new(document: Document, symbols: Vec<String>, aten: &'static Aten) -> Self {
        Specialisations {
            document,
            symbols,
            aten,
            shared: Arc::default(),
            plans: Mutex::default(),
        }
    }

    /// The symbols, in the order of [`Specialisations::plan`]'s values.
    pub fn symbols(&self) -> &[String] {
        &self.symbols
    }

    /// The plan for these values of the symbols. A panic becomes an error.
    pub fn plan(&self, values: &[Number]) -> Result<Arc<Ready>, Error> {
        let key = key(values);
        if let Some(ready) = self.find(&key) {
            return Ok(ready);
        }
        let symbols = self.symbols.iter().cloned().zip(values.iter().copied());
        let symbols = symbols.collect();
        let compile = || Ready::new(&self.document, &symbols, self.aten, &self.shared);
        let ready = catch_unwind(AssertUnwindSafe(compile))
            .map_err(|_| Error::Internal("the compiler panicked".into()))??;
        self.keep(key, &ready);
        Ok(ready)
    }

    fn find(&self, key: &[u64]) -> Option<Arc<Ready>> {
        let mut plans = self.plans.lock().ok()?;
        plans.clock += 1;
        let now = plans.clock;
        let (used, ready) = plans.ready.get_mut(key)?;
        *used = now;
        Some(ready.clone())
    }

    fn keep(&self, key: Vec<u64>, ready: &Arc<Ready>) {
        let Ok(mut plans) = self.plans.lock() else {
            return;
        };
        plans.clock += 1;
        let now = plans.clock;
        plans.ready.insert(key, (now, ready.clone()));
        if plans.ready.len() > KEPT {
            let oldest = plans.ready.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                plans.ready.remove(&oldest);
            }
        }
    }
}

/// The step, or the way of ours where there are two.
fn own(step: &Step) -> &Step {
    match step {
        Step::Either(either) => &either.own,
        step => step,
    }
}

fn key(values: &[Number]) -> Vec<u64> {
    values
        .iter()
        .map(|v| {
            v.as_int()
                .map_or_else(|| v.as_float().to_bits(), |i| i as u64)
        })
        .collect()
}
