//! Tensors between Python objects and handles.

use ipex_runtime::Error;
use ipex_runtime::aten::{Aten, Tensor};
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

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

type AddressOf = unsafe extern "C" fn(*mut ffi::PyObject) -> *mut u8;

/// Where tensors are, without a handle for each: the function that Inductor's generated code calls, if this PyTorch has it.
pub struct Addresses {
    of: AddressOf,
    /// The types that it is asked for: it throws at what is no tensor.
    types: [Py<PyType>; 2],
}

impl Addresses {
    /// Looks it up once.
    pub fn get(py: Python<'_>) -> PyResult<Option<&'static Addresses>> {
        static FOUND: PyOnceLock<Option<Addresses>> = PyOnceLock::new();
        let found = FOUND.get_or_try_init(py, || Addresses::find(py));
        Ok(found?.as_ref())
    }

    fn find(py: Python<'_>) -> PyResult<Option<Addresses>> {
        let Ok(guards) = py.import("torch._C._dynamo.guards") else {
            return Ok(None);
        };
        let Ok(address) = guards.getattr("_torchinductor_pyobject_tensor_data_ptr") else {
            return Ok(None);
        };
        let address = address.extract::<usize>()?;
        if address == 0 {
            return Ok(None);
        }
        let torch = py.import("torch")?;
        let tensor = torch.getattr("Tensor")?.cast_into::<PyType>()?;
        let parameter = torch.getattr("nn")?.getattr("Parameter")?;
        let parameter = parameter.cast_into::<PyType>()?;
        Ok(Some(Addresses {
            // SAFETY: PyTorch hands out the address of a function of this type.
            of: unsafe { std::mem::transmute::<usize, AddressOf>(address) },
            types: [tensor.unbind(), parameter.unbind()],
        }))
    }

    /// The first element of a tensor in memory, as all arguments of kernels are; none for an object of another type.
    pub fn of(&self, object: &Bound<'_, PyAny>) -> Option<*mut u8> {
        let ty = object.get_type_ptr();
        let plain = self.types.iter().any(|t| t.as_ptr().cast() == ty);
        // SAFETY: a tensor, alive, and we hold the GIL.
        plain.then(|| unsafe { (self.of)(object.as_ptr()) })
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
