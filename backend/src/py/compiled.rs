//! A compiled graph as a Python callable.

use super::bridge::{Addresses, runtime_error, tensor, to_python};
use super::host::PythonHost;
use crate::error::Error as CompilerError;
use crate::protocol;
use crate::protocol::expr::Number;
use crate::protocol::stages::{Split, split};
use crate::protocol::symbols::{Binding, Source, bindings};
use crate::specialise::{Ready, Specialisations};
use crate::staged::{Failure, Staged};
use ipex_runtime::Error;
use ipex_runtime::aten::{Aten, Tensor};
use ipex_runtime::level_zero::{self, Selection};
use ipex_runtime::plan::device::Xpu;
use ipex_runtime::plan::{Argument, Value};
use pyo3::exceptions::{PyIndexError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pyo3::create_exception!(
    _core,
    CompileError,
    PyRuntimeError,
    "A graph could not be compiled."
);

/// A compiled graph: called with the list of its arguments, returns the list of its results.
#[pyclass(frozen, module = "ipex._core")]
pub struct Compiled {
    /// The plan for the sizes that the graph was traced with, if these are known: of all of it, or of
    /// what comes before the first size that data decide.
    first: Option<Arc<Ready>>,
    body: Body,
    aten: &'static Aten,
    /// Attributes of the module, passed behind the arguments.
    constants: Vec<Tensor>,
    callables: Vec<Py<PyAny>>,
    /// `f(args, reason)`: runs a call for whose sizes there is no plan.
    fallback: Py<PyAny>,
    /// `f(tensors) -> int | None`: called once for each plan, with the arguments that its further calls do not read. The
    /// bytes that it has given back; none if it is to be asked again.
    discard: Option<Py<PyAny>>,
    /// What `discard` has returned.
    freed: AtomicUsize,
}

/// Calls of graphs in this process: what they read must stay while they run.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Counts a call for as long as it runs.
struct Running;

impl Running {
    fn new() -> Running {
        RUNNING.fetch_add(1, Ordering::AcqRel);
        Running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How calls are carried out.
enum Body {
    /// By the first plan.
    Fixed,
    /// By a plan for the sizes that the arguments have.
    Sized(Vec<Binding>, Box<Specialisations>),
    /// Part by part: data decide sizes.
    Staged(Vec<Binding>, Staged),
}

impl Body {
    /// Compiles what can be compiled before the first call.
    fn new(
        document: &[u8],
        aten: &'static Aten,
    ) -> Result<(Body, Option<Arc<Ready>>), CompilerError> {
        let document = protocol::decode(document)?;
        let bound = bindings(&document);
        let hints: Option<Vec<Number>> = bound.iter().map(|b| b.hint).collect();
        let names = bound.iter().map(|b| b.symbol.clone());
        let document = match split(document)? {
            Split::Whole(document) => *document,
            Split::Parts(parts) => {
                let staged = Staged::new(parts, aten);
                let symbols = hints.map(|h| names.zip(h).collect());
                let first = symbols.map(|s| staged.first(&s)).transpose()?.flatten();
                return Ok((Body::Staged(bound, staged), first));
            }
        };
        let plans = Specialisations::new(document, names.collect(), aten);
        let first = hints.map(|h| plans.plan(&h)).transpose()?;
        Ok(match bound.is_empty() {
            true => (Body::Fixed, first),
            false => (Body::Sized(bound, Box::new(plans)), first),
        })
    }
}

/// Runs a compilation; a panic becomes an error.
fn guarded<T>(f: impl FnOnce() -> Result<T, CompilerError>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f))
        .map_err(|_| "internal error: the compiler panicked".to_string())?
        .map_err(|e| e.to_string())
}

/// Compiles a document. `callables[n](tensors, numbers)` runs node n.
#[pyfunction]
#[pyo3(signature = (document, callables, constants, fallback, libtorch, discard = None))]
pub fn compile(
    py: Python<'_>,
    document: &[u8],
    callables: Vec<Py<PyAny>>,
    constants: Vec<Bound<'_, PyAny>>,
    fallback: Py<PyAny>,
    libtorch: PathBuf,
    discard: Option<Py<PyAny>>,
) -> PyResult<Compiled> {
    let aten = Aten::load(&libtorch).map_err(|e| CompileError::new_err(e.to_string()))?;
    let build = || guarded(|| Body::new(document, aten));
    let (body, first) = py.detach(build).map_err(CompileError::new_err)?;
    let constants = constants
        .iter()
        .map(|c| tensor(aten, c)?.ok_or_else(|| CompileError::new_err("a constant is no tensor")))
        .collect::<PyResult<_>>()?;
    Ok(Compiled {
        first,
        body,
        aten,
        constants,
        callables,
        fallback,
        discard,
        freed: AtomicUsize::new(0),
    })
}

/// The name of a GPU, or an error that says what was looked for.
#[pyfunction]
pub fn find_gpu(py: Python<'_>, index: usize) -> PyResult<&'static str> {
    let found = py.detach(|| level_zero::open(Selection { index }));
    let device = found.map_err(|e| CompileError::new_err(e.to_string()))?;
    Ok(device.name())
}

/// What PyTorch's n-th `xpu` device is: its name, and its number among the GPUs.
#[pyfunction]
pub fn find_xpu(py: Python<'_>, index: i32, libtorch: PathBuf) -> PyResult<(String, usize)> {
    let aten = Aten::load(&libtorch).map_err(|e| CompileError::new_err(e.to_string()))?;
    let found = py.detach(|| {
        let (_, device) = Xpu::open(aten, index)?;
        let mut all = level_zero::devices()?.iter();
        let number = all.position(|d| d.is_same(&device)).unwrap_or(0);
        Ok((device.name().to_string(), number))
    });
    found.map_err(|e: level_zero::Error| CompileError::new_err(e.to_string()))
}

/// Sets the `data` of tensors, unless a call other than the caller's own is running, which may be reading what they had;
/// whether it did. The GIL is held all the time, so that none begins meanwhile.
#[pyfunction]
pub fn replace_data(pairs: Vec<(Bound<'_, PyAny>, Bound<'_, PyAny>)>) -> PyResult<bool> {
    if RUNNING.load(Ordering::Acquire) > 1 {
        return Ok(false);
    }
    for (tensor, data) in pairs {
        tensor.setattr("data", data)?;
    }
    Ok(true)
}

#[pymethods]
impl Compiled {
    /// AOTAutograd's mark of callables that take one list, which they may empty.
    #[classattr]
    #[expect(non_upper_case_globals, reason = "the name that AOTAutograd looks for")]
    const _boxed_call: bool = true;

    /// Called with one list of all arguments (AOTAutograd), or with the arguments (Dynamo).
    #[pyo3(signature = (*args))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if args.len() == 1
            && let Ok(list) = args.get_borrowed_item(0)?.cast::<PyList>()
        {
            return self.call(py, &list.to_tuple());
        }
        self.call(py, args)
    }

    /// Number of fused groups.
    #[getter]
    fn groups(&self) -> usize {
        self.first.as_ref().map_or(0, |f| f.groups)
    }

    /// Number of calls into PyTorch.
    #[getter]
    fn calls(&self) -> usize {
        self.first.as_ref().map_or(0, |f| f.calls)
    }

    /// Launches, uploads, downloads, those of them that were not for results, calls, and products that read 2D blocks on the GPU so far.
    #[getter]
    fn gpu_counts(&self) -> [u64; 6] {
        let device = self.first.as_ref().and_then(|f| f.executable.device());
        device.map_or([0; 6], |d| d.counts())
    }

    /// What the CPU does of a graph for the GPU, and why.
    #[getter]
    fn gpu_left_to_cpu(&self) -> Vec<String> {
        let device = self.first.as_ref().and_then(|f| f.executable.device());
        let steps = device.into_iter().flat_map(|d| d.host_steps());
        steps.map(|(_, why)| why.to_string()).collect()
    }

    /// Bytes of frozen weights that were packed and are kept, beside the weights themselves.
    #[getter]
    fn packed_bytes(&self) -> usize {
        let first = self.first.as_ref();
        first.map_or(0, |f| f.executable.packed_bytes())
    }

    /// Bytes of parameters that left memory, as `options={"freezing": "discard"}` asks for.
    #[getter]
    fn freed_bytes(&self) -> usize {
        self.freed.load(Ordering::Relaxed)
    }

    /// Number of attentions by our kernel, `scaled_dot_product_attention` or written by hand.
    #[getter]
    fn attentions(&self) -> usize {
        self.first.as_ref().map_or(0, |f| f.attentions)
    }

    /// Of each product that was made of several layers with the same input, how many.
    #[getter]
    fn joined(&self) -> Vec<usize> {
        self.first.as_ref().map_or(Vec::new(), |f| f.joined.clone())
    }

    /// Number of products that read dequantised matrices as bytes.
    #[getter]
    fn of_bytes(&self) -> usize {
        self.first.as_ref().map_or(0, |f| f.of_bytes)
    }

    /// Number of the calls that go through Python.
    #[getter]
    fn python_calls(&self) -> usize {
        self.first.as_ref().map_or(0, |f| f.python_calls)
    }
}

impl Compiled {
    fn call<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _running = Running::new();
        if let (Body::Fixed, Some(first)) = (&self.body, &self.first) {
            let inputs = self.arguments(args, first.executable.addressed())?;
            return match without_memory(args, inputs.iter().map(address))? {
                Some(reason) => self.fall_back(py, args, &reason),
                None => self.run(first, py, args, inputs),
            };
        }
        let inputs = self.tensors(args)?;
        let addresses = inputs
            .iter()
            .map(|t| t.as_ref().map(Tensor::data).transpose());
        if let Some(reason) = without_memory(args, addresses)? {
            return self.fall_back(py, args, &reason);
        }
        let ready = match &self.body {
            Body::Fixed => return Err(PyRuntimeError::new_err("a graph without a plan")),
            Body::Sized(bound, plans) => {
                let values = symbol_values(bound, args, &inputs)?;
                py.detach(|| plans.plan(&values))
            }
            Body::Staged(bound, staged) => {
                let values = symbol_values(bound, args, &inputs)?;
                let symbols = bound.iter().map(|b| b.symbol.clone()).zip(values).collect();
                let mut host = PythonHost::new(self.aten, &self.callables);
                match py.detach(|| staged.call(inputs, symbols, &mut host)) {
                    Ok(results) => return self.results(py, args, results),
                    Err(Failure::Run(e)) => return Err(raised(e, &mut host)),
                    Err(Failure::Compile(e)) => return self.fall_back(py, args, &e),
                }
            }
        };
        match ready {
            Ok(ready) => self.run(&ready, py, args, as_arguments(inputs)),
            Err(reason) => self.fall_back(py, args, &reason),
        }
    }

    /// The tensors among the arguments, and the constants behind them.
    fn tensors(&self, args: &Bound<'_, PyTuple>) -> PyResult<Vec<Option<Tensor>>> {
        let mut all = Vec::with_capacity(args.len() + self.constants.len());
        for arg in args.iter_borrowed() {
            all.push(tensor(self.aten, &arg)?);
        }
        for constant in &self.constants {
            all.push(Some(constant.share().map_err(runtime_error)?));
        }
        Ok(all)
    }

    /// The same, or where they are, if that is enough and PyTorch tells.
    fn arguments(
        &self,
        args: &Bound<'_, PyTuple>,
        addressed: bool,
    ) -> PyResult<Vec<Option<Argument>>> {
        let addresses = match addressed {
            true => Addresses::get(args.py())?,
            false => None,
        };
        let Some(addresses) = addresses else {
            return self.tensors(args).map(as_arguments);
        };
        let mut all = Vec::with_capacity(args.len() + self.constants.len());
        for arg in args.iter_borrowed() {
            all.push(match addresses.of(&arg) {
                Some(data) => Some(Argument::Address(data)),
                None => tensor(self.aten, &arg)?.map(Argument::Tensor),
            });
        }
        for constant in &self.constants {
            let constant = constant.share().map_err(runtime_error)?;
            all.push(Some(Argument::Tensor(constant)));
        }
        Ok(all)
    }

    fn fall_back<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        reason: &impl std::fmt::Display,
    ) -> PyResult<Bound<'py, PyAny>> {
        let fallback = self.fallback.bind(py);
        fallback.call1((args.to_list(), reason.to_string()))
    }

    fn run<'py>(
        &self,
        ready: &Ready,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        inputs: Vec<Option<Argument>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut host = PythonHost::new(self.aten, &self.callables);
        let results = if ready.long {
            py.detach(|| ready.executable.call(inputs, &mut host))
        } else {
            ready.executable.call(inputs, &mut host)
        };
        let results = results.map_err(|e| raised(e, &mut host))?;
        self.settle(ready, py, args)?;
        self.results(py, args, results)
    }

    /// After a plan's first call, tells which arguments it does not read any more.
    fn settle(&self, ready: &Ready, py: Python<'_>, args: &Bound<'_, PyTuple>) -> PyResult<()> {
        let Some(discard) = &self.discard else {
            return Ok(());
        };
        if ready.settled.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let unread = ready.executable.unread().into_iter();
        let unread = unread.filter_map(|n| args.get_item(n as usize).ok());
        let freed = discard.call1(py, (PyList::new(py, unread.collect::<Vec<_>>())?,))?;
        match freed.extract::<Option<usize>>(py)? {
            Some(bytes) => {
                self.freed.fetch_add(bytes, Ordering::Relaxed);
            }
            None => ready.settled.store(false, Ordering::Release),
        }
        Ok(())
    }

    fn results<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        results: Vec<Value>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let list = PyList::empty(py);
        for value in results {
            match value {
                Value::Tensor(t) => list.append(to_python(py, &t)?)?,
                Value::Input(n) => {
                    match self.constants.get((n as usize).wrapping_sub(args.len())) {
                        Some(constant) => list.append(to_python(py, constant)?)?,
                        None => list.append(args.get_item(n as usize)?)?,
                    }
                }
                Value::None => list.append(py.None())?,
                Value::Int(i) => list.append(i)?,
                Value::Float(x) => list.append(x)?,
                Value::Bool(b) => list.append(b)?,
            }
        }
        Ok(list.into_any())
    }
}

fn as_arguments(tensors: Vec<Option<Tensor>>) -> Vec<Option<Argument>> {
    let tensors = tensors.into_iter();
    tensors.map(|t| t.map(Argument::Tensor)).collect()
}

/// Where an argument is; none if it is no tensor.
fn address(argument: &Option<Argument>) -> Result<Option<*mut u8>, Error> {
    match argument {
        Some(Argument::Address(data)) => Ok(Some(*data)),
        Some(Argument::Tensor(tensor)) => tensor.data().map(Some),
        None => Ok(None),
    }
}

/// Why arguments cannot be read, if one has elements but no memory (a tensor of a `FakeTensorMode`, or one whose storage was
/// resized to nothing): guards let it pass.
fn without_memory(
    args: &Bound<'_, PyTuple>,
    addresses: impl Iterator<Item = Result<Option<*mut u8>, Error>>,
) -> PyResult<Option<String>> {
    // A view of no memory lies at its offset. Nothing is mapped below.
    const LOWEST: usize = 1 << 16;
    for (n, (arg, data)) in args.iter_borrowed().zip(addresses).enumerate() {
        let low = data
            .map_err(runtime_error)?
            .is_some_and(|d| d.addr() < LOWEST);
        if low && arg.call_method0("numel")?.extract::<usize>()? > 0 {
            return Ok(Some(format!("argument {n} has no memory")));
        }
    }
    Ok(None)
}

/// The exception for an error of a call.
fn raised(error: Error, host: &mut PythonHost<'_>) -> PyErr {
    match (error, host.take_error()) {
        (Error::Index(text), _) => PyIndexError::new_err(text),
        (_, Some(raised)) => raised,
        (e, None) => runtime_error(e),
    }
}

/// The symbols' values in this call.
fn symbol_values(
    bound: &[Binding],
    args: &Bound<'_, PyTuple>,
    inputs: &[Option<Tensor>],
) -> PyResult<Vec<Number>> {
    let layout = |n: usize| {
        let tensor = inputs.get(n).and_then(Option::as_ref);
        let tensor = tensor.ok_or_else(|| {
            PyRuntimeError::new_err(format!("argument {n} of a compiled graph is no tensor"))
        })?;
        tensor.layout().map_err(runtime_error)
    };
    let entry = |list: &[i64], d: usize| {
        list.get(d)
            .map(|&i| Number::int(i))
            .ok_or_else(|| PyRuntimeError::new_err(format!("an argument has no dimension {d}")))
    };
    bound
        .iter()
        .map(|b| match b.source {
            Source::Size(n, d) => entry(layout(n)?.0, d),
            Source::Stride(n, d) => entry(layout(n)?.1, d),
            Source::Argument(n) => {
                let number = args.get_item(n)?;
                match number.extract::<i64>() {
                    Ok(i) => Ok(Number::int(i)),
                    Err(_) => Ok(Number::Float(number.extract()?)),
                }
            }
        })
        .collect()
}
