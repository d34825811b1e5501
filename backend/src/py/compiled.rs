//! A compiled graph as a Python callable.

use super::bridge::{runtime_error, tensor, to_python};
use ipex_runtime::Error;
use ipex_runtime::aten::{Aten, Tensor};
use ipex_runtime::plan::{Executable, Host, Plan, Route, Step, Value};
use pyo3::exceptions::{PyIndexError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use std::panic::catch_unwind;
use std::path::PathBuf;

pyo3::create_exception!(
    _core,
    CompileError,
    PyRuntimeError,
    "A graph could not be compiled."
);

/// A compiled graph: called with the list of its arguments, returns the list of its results.
#[pyclass(frozen, module = "ipex._core")]
pub struct Compiled {
    executable: Executable,
    aten: &'static Aten,
    /// Attributes of the module, passed behind the arguments.
    constants: Vec<Tensor>,
    /// Whether a call is long enough to let other Python threads run.
    detached: bool,
    callables: Vec<Py<PyAny>>,
    groups: usize,
    calls: usize,
    python_calls: usize,
}

/// Compiles a document. `callables[n]` runs node n with its tensors as positional arguments.
#[pyfunction]
pub fn compile(
    py: Python<'_>,
    document: &[u8],
    callables: Vec<Py<PyAny>>,
    constants: Vec<Bound<'_, PyAny>>,
    libtorch: PathBuf,
) -> PyResult<Compiled> {
    let program = py
        .detach(|| catch_unwind(|| crate::compile::compile(document)))
        .map_err(|_| CompileError::new_err("internal error: the compiler panicked"))?
        .map_err(|e| CompileError::new_err(e.to_string()))?;
    let aten = Aten::load(&libtorch).map_err(|e| CompileError::new_err(e.to_string()))?;
    let constants = constants
        .iter()
        .map(|c| tensor(aten, c)?.ok_or_else(|| CompileError::new_err("a constant is no tensor")))
        .collect::<PyResult<_>>()?;
    let plan: Plan = program.plan;
    let detached = plan.steps.iter().any(|s| match s {
        Step::Kernel { extent, grain, .. } => extent > grain,
        Step::External(_) => true,
        _ => false,
    });
    let calls = plan
        .steps
        .iter()
        .filter(|s| matches!(s, Step::External(_)))
        .count();
    let python_calls = plan
        .steps
        .iter()
        .filter(|s| matches!(s, Step::External(c) if matches!(c.route, Route::Python { .. })))
        .count();
    let groups = program.clusters.groups.len() - calls;
    Ok(Compiled {
        executable: Executable::new(plan, aten),
        aten,
        constants,
        detached,
        callables,
        groups,
        calls,
        python_calls,
    })
}

#[pymethods]
impl Compiled {
    /// AOTAutograd's mark of callables that take one list, which they may empty.
    #[classattr]
    const _boxed_call: bool = true;

    fn __call__<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyList>,
    ) -> PyResult<Bound<'py, PyList>> {
        let mut inputs = Vec::with_capacity(args.len() + self.constants.len());
        for arg in args.iter() {
            inputs.push(tensor(self.aten, &arg)?);
        }
        for constant in &self.constants {
            inputs.push(Some(constant.share().map_err(runtime_error)?));
        }
        let mut host = PythonHost {
            compiled: self,
            error: None,
        };
        let results = if self.detached {
            py.detach(|| self.executable.call(inputs, &mut host))
        } else {
            self.executable.call(inputs, &mut host)
        };
        let results = results.map_err(|e| match (e, host.error) {
            (Error::Index, _) => PyIndexError::new_err(Error::Index.to_string()),
            (_, Some(raised)) => raised,
            (e, None) => runtime_error(e),
        })?;
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
        Ok(list)
    }

    /// Number of fused groups.
    #[getter]
    fn groups(&self) -> usize {
        self.groups
    }

    /// Number of calls into PyTorch.
    #[getter]
    fn calls(&self) -> usize {
        self.calls
    }

    /// Number of those that go through Python.
    #[getter]
    fn python_calls(&self) -> usize {
        self.python_calls
    }
}

/// Runs nodes that only Python can.
struct PythonHost<'a> {
    compiled: &'a Compiled,
    error: Option<PyErr>,
}

impl PythonHost<'_> {
    fn try_call(&self, callable: u32, tensors: &[Tensor]) -> PyResult<Vec<Tensor>> {
        Python::attach(|py| {
            // A kernel or dispatch mode in Python that failed under the dispatcher leaves its
            // exception behind.
            if let Some(raised) = PyErr::take(py) {
                return Err(raised);
            }
            let args = tensors.iter().map(|t| to_python(py, t));
            let args = PyTuple::new(py, args.collect::<PyResult<Vec<_>>>()?)?;
            let result = self.compiled.callables[callable as usize]
                .bind(py)
                .call1(args)?;
            let results: Vec<Bound<'_, PyAny>> = match result.cast::<PyTuple>() {
                Ok(tuple) => tuple.iter().collect(),
                Err(_) => match result.cast::<PyList>() {
                    Ok(list) => list.iter().collect(),
                    Err(_) => vec![result.clone()],
                },
            };
            let tensors = results.iter().map(|r| tensor(self.compiled.aten, r));
            Ok(tensors
                .collect::<PyResult<Vec<_>>>()?
                .into_iter()
                .flatten()
                .collect())
        })
    }
}

impl Host for PythonHost<'_> {
    fn call(&mut self, callable: u32, tensors: Vec<Tensor>) -> Result<Vec<Tensor>, Error> {
        self.try_call(callable, &tensors).map_err(|e| {
            self.error = Some(e);
            Error::Host(format!("callable {callable}"))
        })
    }
}
