//! The Python module `ipex._core`.

mod bridge;
mod compiled;
mod host;

use pyo3::prelude::*;

/// Compiles protocol documents and runs the result.
#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add(
        "CompileError",
        module.py().get_type::<compiled::CompileError>(),
    )?;
    module.add_class::<compiled::Compiled>()?;
    module.add_function(wrap_pyfunction!(compiled::replace_data, module)?)?;
    module.add_function(wrap_pyfunction!(compiled::find_gpu, module)?)?;
    module.add_function(wrap_pyfunction!(compiled::find_xpu, module)?)?;
    module.add_function(wrap_pyfunction!(compiled::compile, module)?)
}
