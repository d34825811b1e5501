//! A compiled graph as a Python callable.

use ipex_runtime::aten::{Aten, Tensor};
use ipex_runtime::plan::{Executable, Host, Value};
use ipex_runtime::{Error, plan::Plan};
use pyo3::exceptions::{PyIndexError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
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
    aten: Aten,
    callables: Vec<Py<PyAny>>,
    groups: usize,
    calls: usize,
}

/// Compiles a document. `callables[n]` runs node n with its tensors as positional arguments.
#[pyfunction]
pub fn compile(
    py: Python<'_>,
    document: &[u8],
    callables: Vec<Py<PyAny>>,
    libtorch: PathBuf,
) -> PyResult<Compiled> {
    let program = py
        .detach(|| crate::compile::compile(document))
        .map_err(|e| CompileError::new_err(e.to_string()))?;
    let aten = Aten::load(&libtorch).map_err(|e| CompileError::new_err(e.to_string()))?;
    let plan: Plan = program.plan;
    let calls = plan
        .steps
        .iter()
        .filter(|s| matches!(s, ipex_runtime::plan::Step::External(_)))
        .count();
    let groups = program.clusters.groups.len() - calls;
    Ok(Compiled {
        executable: Executable::new(plan, aten),
        aten,
        callables,
        groups,
        calls,
    })
}

#[pymethods]
impl Compiled {
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyList>,
    ) -> PyResult<Bound<'py, PyList>> {
        let inputs = args
            .iter()
            .map(|a| self.tensor(&a))
            .collect::<PyResult<Vec<_>>>()?;
        let kept: Vec<Bound<'py, PyAny>> = args.iter().collect();
        let mut host = PythonHost {
            py,
            compiled: self,
            error: None,
        };
        let results = match self.executable.call(inputs, &mut host) {
            Ok(results) => results,
            Err(Error::Index) => return Err(PyIndexError::new_err(Error::Index.to_string())),
            Err(e) => {
                return Err(host
                    .error
                    .unwrap_or_else(|| PyRuntimeError::new_err(e.to_string())));
            }
        };
        let list = PyList::empty(py);
        for value in results {
            match value {
                Value::Tensor(t) => list.append(to_python(py, &t)?)?,
                Value::Input(n) => list.append(&kept[n as usize])?,
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
}

impl Compiled {
    fn tensor(&self, object: &Bound<'_, PyAny>) -> PyResult<Option<Tensor>> {
        if object.is_instance_of::<pyo3::types::PyInt>()
            || object.is_instance_of::<pyo3::types::PyFloat>()
            || object.is_none()
        {
            return Ok(None);
        }
        // SAFETY: the object is alive, and we hold the GIL.
        let tensor = unsafe { Tensor::from_python(&self.aten, object.as_ptr().cast()) };
        tensor
            .map(Some)
            .map_err(|e| PyRuntimeError::new_err(e.to_string()))
    }
}

fn to_python<'py>(py: Python<'py>, tensor: &Tensor) -> PyResult<Bound<'py, PyAny>> {
    let object = tensor
        .to_python()
        .map_err(|e| PyRuntimeError::new_err(e.to_string()))?;
    // SAFETY: a new reference.
    Ok(unsafe { Bound::from_owned_ptr(py, object.cast()) })
}

/// Runs nodes that only Python can.
struct PythonHost<'a, 'py> {
    py: Python<'py>,
    compiled: &'a Compiled,
    error: Option<PyErr>,
}

impl PythonHost<'_, '_> {
    fn try_call(&self, callable: u32, tensors: Vec<Tensor>) -> PyResult<Vec<Tensor>> {
        let args = tensors
            .iter()
            .map(|t| to_python(self.py, t))
            .collect::<PyResult<Vec<_>>>()?;
        let args = PyTuple::new(self.py, args)?;
        let result = self.compiled.callables[callable as usize]
            .bind(self.py)
            .call1(args)?;
        let results: Vec<Bound<'_, PyAny>> = match result.cast::<PyTuple>() {
            Ok(tuple) => tuple.iter().collect(),
            Err(_) => match result.cast::<PyList>() {
                Ok(list) => list.iter().collect(),
                Err(_) => vec![result.clone()],
            },
        };
        let tensors = results.iter().map(|r| self.compiled.tensor(r));
        Ok(tensors
            .collect::<PyResult<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect())
    }
}

impl Host for PythonHost<'_, '_> {
    fn call(&mut self, callable: u32, tensors: Vec<Tensor>) -> Result<Vec<Tensor>, Error> {
        self.try_call(callable, tensors).map_err(|e| {
            self.error = Some(e);
            Error::Host(format!("callable {callable}"))
        })
    }
}
