//! Where the parts are that make a program here run on `ze_cpu`, and the variables that say so.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What there is not: what was looked for, and how to install it.
pub type Missing = String;

/// The driver's library, as cargo builds it: beside this program, or in the folder above it.
pub fn driver() -> Result<PathBuf, Missing> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let folders = program.ancestors().skip(1).take(2);
    let mut places = folders.flat_map(|f| [f.join("libze_cpu.so"), f.join("deps/libze_cpu.so")]);
    let found = places.find(|p| p.exists());
    found.ok_or_else(|| {
        "libze_cpu.so is not beside the program; cargo build -p ze_cpu makes it".into()
    })
}

/// The folder of Intel's OpenCL runtime: `$IPEX_OPENCL_CPU`, or what `make gpu-tools` installs.
pub fn opencl() -> Result<PathBuf, Missing> {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../build/gpu-tools/lib");
    let folder = std::env::var_os("IPEX_OPENCL_CPU").map_or(installed, PathBuf::from);
    if folder.join("libintelocl.so").exists() {
        return folder.canonicalize().map_err(|e| e.to_string());
    }
    Err(
        "no libintelocl.so in $IPEX_OPENCL_CPU or build/gpu-tools/lib; make gpu-tools installs it"
            .into(),
    )
}

/// Whether the loader is installed.
pub fn loader() -> Result<(), Missing> {
    // SAFETY: the loader's initialisers have no preconditions.
    match unsafe { libloading::Library::new("libze_loader.so.1") } {
        Ok(_) => Ok(()),
        Err(_) => Err("no libze_loader.so.1; Debian's package libze1 has it".into()),
    }
}

/// The variables for a device (`hpg`, `lpg`, `hpc`, `xe2` or `plain`).
pub fn variables(device: &str) -> Result<Vec<(&'static str, OsString)>, Missing> {
    loader()?;
    let opencl = opencl()?;
    let mut path = opencl.clone().into_os_string();
    if let Some(old) = std::env::var_os("LD_LIBRARY_PATH") {
        path.push(":");
        path.push(old);
    }
    Ok(vec![
        ("ZE_ENABLE_ALT_DRIVERS", driver()?.into()),
        ("ZE_CPU_OPENCL", opencl.join("libintelocl.so").into()),
        ("ZE_CPU_DEVICE", device.into()),
        ("LD_LIBRARY_PATH", path),
    ])
}
