//! Runs nodes that only Python can.

use super::bridge::{tensor, to_python};
use ipex_runtime::Error;
use ipex_runtime::aten::{Aten, Tensor};
use ipex_runtime::plan::{Callable, Host, Scalar};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

/// The callables of a graph, during one call.
pub struct PythonHost<'a> {
    aten: &'static Aten,
    callables: &'a [Py<PyAny>],
    error: Option<PyErr>,
}

impl<'a> PythonHost<'a> {
    /// Of these callables.
    pub fn new(aten: &'static Aten, callables: &'a [Py<PyAny>]) -> Self {
        PythonHost {
            aten,
            callables,
            error: None,
        }
    }

    /// The exception that a callable raised.
    pub fn take_error(&mut self) -> Option<PyErr> {
        self.error.take()
    }

    fn try_call(&self, callable: &Callable, tensors: &[Tensor]) -> PyResult<Vec<Tensor>> {
        Python::attach(|py| {
            // A kernel or dispatch mode in Python that failed under the dispatcher leaves its
            // exception behind.
            if let Some(raised) = PyErr::take(py) {
                return Err(raised);
            }
            let tensors = tensors.iter().map(|t| to_python(py, t));
            let tensors = PyTuple::new(py, tensors.collect::<PyResult<Vec<_>>>()?)?;
            let numbers = callable.numbers.iter().map(|n| match *n {
                Scalar::Int(i) => i
                    .into_pyobject(py)
                    .map(Bound::into_any)
                    .map_err(PyErr::from),
                Scalar::Float(x) => x
                    .into_pyobject(py)
                    .map(Bound::into_any)
                    .map_err(PyErr::from),
                Scalar::Bool(b) => Ok(b.into_pyobject(py)?.to_owned().into_any()),
            });
            let numbers = PyTuple::new(py, numbers.collect::<PyResult<Vec<_>>>()?)?;
            let function = self.callables.get(callable.index as usize).ok_or_else(|| {
                PyRuntimeError::new_err(format!("no callable {}", callable.index))
            })?;
            let result = function.bind(py).call1((tensors, numbers))?;
            let results: Vec<Bound<'_, PyAny>> = match result.cast::<PyTuple>() {
                Ok(tuple) => tuple.iter().collect(),
                Err(_) => match result.cast::<PyList>() {
                    Ok(list) => list.iter().collect(),
                    Err(_) => vec![result.clone()],
                },
            };
            let tensors = results.iter().map(|r| tensor(self.aten, r));
            Ok(tensors
                .collect::<PyResult<Vec<_>>>()?
                .into_iter()
                .flatten()
                .collect())
        })
    }
}

impl Host for PythonHost<'_> {
    fn call(&mut self, callable: &Callable, tensors: Vec<Tensor>) -> Result<Vec<Tensor>, Error> {
        self.try_call(callable, &tensors).map_err(|e| {
            self.error = Some(e);
            Error::Host(format!("callable {}", callable.index))
        })
    }
}
