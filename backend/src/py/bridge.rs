//! Tensors between Python objects and handles.

use ipex_runtime::Error;
use ipex_runtime::aten::{Aten, Tensor};
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// An error of the runtime as an exception.
pub fn runtime_error(e: Error) -> PyErr {
    PyRuntimeError::new_err(e.to_string())
}

/// The tensor behind an argument; none for numbers and None.
pub fn tensor(aten: &'static Aten, object: &Bound<'_, PyAny>) -> PyResult<Option<Tensor>> {
    if object.is_exact_instance_of::<pyo3::types::PyInt>()
        || object.is_exact_instance_of::<pyo3::types::PyFloat>()
        || object.is_exact_instance_of::<pyo3::types::PyBool>()
        || object.is_none()
    {
        return Ok(None);
    }
    // SAFETY: the object is alive, and we hold the GIL.
    match unsafe { Tensor::from_python(aten, object.as_ptr().cast()) } {
        Some(tensor) => tensor.map(Some).map_err(runtime_error),
        None => capsule_to_tensor(aten, object).map(Some),
    }
}

/// A Python object of a tensor.
pub fn to_python<'py>(py: Python<'py>, tensor: &Tensor) -> PyResult<Bound<'py, PyAny>> {
    match tensor.to_python() {
        Some(object) => {
            let object = object.map_err(runtime_error)?;
            // SAFETY: a new reference.
            Ok(unsafe { Bound::from_owned_ptr(py, object.cast()) })
        }
        None => tensor_to_object(py, tensor),
    }
}

/// A function of `torch._C._aoti`, which PyTorch has had before the C ABI could convert tensors.
fn aoti<'py>(
    py: Python<'py>,
    cell: &'static PyOnceLock<Py<PyAny>>,
    name: &str,
) -> PyResult<&'py Bound<'py, PyAny>> {
    let found = cell.get_or_try_init(py, || {
        let module = py.import("torch")?.getattr("_C")?.getattr("_aoti")?;
        module.getattr(name).map(Bound::unbind)
    })?;
    Ok(found.bind(py))
}

fn capsule_to_tensor(aten: &'static Aten, object: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    static FROM: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let from = aoti(object.py(), &FROM, "unsafe_alloc_void_ptrs_from_tensors")?;
    let capsule = from.call1(([object],))?.get_item(0)?;
    // SAFETY: a capsule without a name, whose pointer is a handle that is now ours.
    unsafe {
        let handle = ffi::PyCapsule_GetPointer(capsule.as_ptr(), std::ptr::null());
        if handle.is_null() {
            return Err(PyErr::fetch(object.py()));
        }
        Ok(Tensor::from_handle(aten, handle))
    }
}

fn tensor_to_object<'py>(py: Python<'py>, tensor: &Tensor) -> PyResult<Bound<'py, PyAny>> {
    static TO: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let to = aoti(py, &TO, "alloc_tensors_by_stealing_from_void_ptrs")?;
    let handle = tensor.share().map_err(runtime_error)?.into_handle();
    // SAFETY: a capsule without a name; the function takes the handle over.
    let capsule = unsafe {
        Bound::from_owned_ptr_or_err(py, ffi::PyCapsule_New(handle, std::ptr::null(), None))?
    };
    to.call1(([capsule],))?.get_item(0)
}
