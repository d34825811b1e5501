//! Modules and kernels.

use super::device::{DEVICE, kind};
use super::{NULL_HANDLE, OK, get, need};
use crate::opencl::{Emulated, OpenCl};
use crate::signature::{self, KernelSignature, Parameter, Signature};
use crate::world::{Argument, Kernel, Module, World, say, world};
use level_zero_sys::*;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::null_mut;
use std::sync::Arc;

/// A native binary is this, the length of the SPIR-V in four bytes, the SPIR-V, and OpenCL's binary.
const NATIVE: &[u8] = b"ZECPU003";
const FLAGS: [&str; 2] = ["-ze-opt-large-register-file", "-ze-opt-disable"];

fn is_matrix(import: &str) -> bool {
    import.contains("_matrix_mad_")
}

fn is_of_pairs(import: &str) -> bool {
    import.contains("_split_matrix_mad_")
}

/// Whether a module's import is a function of ours that this device has.
fn is_emulated(import: &str) -> bool {
    match is_of_pairs(import) {
        true => kind().pairs(),
        false => {
            is_matrix(import) || kind().blocks() && import.contains("_subgroup_block_read_flat_")
        }
    }
}

fn emulated(imports: &[String]) -> Emulated {
    match imports {
        _ if imports.iter().any(|i| is_of_pairs(i)) => Emulated::Pairs,
        [] => Emulated::Nothing,
        _ => Emulated::Instructions,
    }
}

/// What a driver of this device refuses to compile.
fn check(s: &Signature, flags: &str) -> Result<(), String> {
    if s.version > (1, 2) {
        return Err(format!(
            "SPIR-V {}.{}: this device takes up to 1.2",
            s.version.0, s.version.1
        ));
    }
    if let Some(flag) = flags.split_whitespace().find(|f| !FLAGS.contains(f)) {
        return Err(format!("unknown build flag {flag}"));
    }
    let device = kind();
    if s.f64 && !device.f64 {
        return Err("this device has no f64".into());
    }
    let matrix = s.imports.iter().any(|i| is_matrix(i));
    for (name, k) in &s.kernels {
        if k.sub_group != 0 && !device.sub_groups.contains(&k.sub_group) {
            return Err(format!(
                "kernel {name}: this device has no sub-groups of {}",
                k.sub_group
            ));
        }
        if matrix && k.sub_group != device.matrix {
            return Err(format!(
                "kernel {name}: no matrix instructions for sub-groups of {}",
                k.sub_group
            ));
        }
    }
    Ok(())
}

/// A module and its log.
unsafe fn build(
    spirv: &[u8],
    flags: &str,
    constants: &[(u32, *const c_void)],
) -> Result<(Module, String), String> {
    let signature = signature::read(spirv)?;
    check(&signature, flags)?;
    let module = |program, signature| Module {
        signature,
        program,
        spirv: spirv.to_vec(),
    };
    if let Some(name) = signature.imports.iter().find(|i| !is_emulated(i)) {
        // Intel's driver makes such a module too, and refuses its kernels.
        let log = format!("error : unresolved external symbol {name}");
        return Ok((module(null_mut(), signature), log));
    }
    let sized = constants.iter().map(|&(id, value)| {
        let size = signature.constants.get(&id);
        size.map(|&s| (id, s, value))
            .ok_or_else(|| format!("no specialization constant {id}"))
    });
    let sized = sized.collect::<Result<Vec<_>, _>>()?;
    let program = OpenCl::get()?.build(spirv, &sized, emulated(&signature.imports))?;
    Ok((module(program, signature), String::new()))
}

unsafe fn load_native(binary: &[u8]) -> Result<Module, String> {
    let parts = binary.strip_prefix(NATIVE).and_then(|rest| {
        let (length, rest) = rest.split_first_chunk()?;
        rest.split_at_checked(u32::from_le_bytes(*length) as usize)
    });
    let (spirv, code) = parts.ok_or("not a native binary of this driver")?;
    let signature = signature::read(spirv)?;
    check(&signature, "")?;
    let program = OpenCl::get()?.load_binary(code)?;
    Ok(Module {
        signature,
        program,
        spirv: spirv.to_vec(),
    })
}

pub unsafe extern "C" fn zeModuleCreate(
    c: ze_context_handle_t,
    d: ze_device_handle_t,
    desc: *const ze_module_desc_t,
    out: *mut ze_module_handle_t,
    log: *mut ze_module_build_log_handle_t,
) -> ze_result_t {
    let mut w = world();
    need!(
        w.contexts.contains(&(c as usize)) && d as usize == DEVICE,
        NULL_HANDLE
    );
    let desc = &*desc;
    let bytes = std::slice::from_raw_parts(desc.pInputModule, desc.inputSize);
    let native = desc.format == ZE_MODULE_FORMAT_NATIVE;
    let built = if w.fails("build") {
        Err("the compiler fails, as it was told to".into())
    } else if native {
        load_native(bytes).map(|m| (m, String::new()))
    } else {
        let flags = if desc.pBuildFlags.is_null() {
            c""
        } else {
            CStr::from_ptr(desc.pBuildFlags)
        };
        let constants = desc.pConstants.as_ref().map_or(Vec::new(), |k| {
            let at = |n: usize| (*k.pConstantIds.add(n), *k.pConstantValues.add(n));
            (0..k.numConstants as usize).map(at).collect()
        });
        build(bytes, &flags.to_string_lossy(), &constants)
    };
    let (module, text) = match built {
        Ok((module, text)) => (Some(module), text),
        Err(text) => (None, text),
    };
    if !log.is_null() {
        let h = w.handle();
        w.logs
            .insert(h, CString::new(text.replace('\0', "")).unwrap_or_default());
        *log = h as _;
    }
    *out = null_mut();
    let failure = if native {
        ZE_RESULT_ERROR_INVALID_NATIVE_BINARY
    } else {
        ZE_RESULT_ERROR_MODULE_BUILD_FAILURE
    };
    let module = get!(module, failure);
    let h = w.handle();
    w.modules.insert(h, Arc::new(module));
    *out = h as _;
    OK
}

pub unsafe extern "C" fn zeModuleDestroy(m: ze_module_handle_t) -> ze_result_t {
    let mut w = world();
    let used = w.kernels.values().any(|k| k.module_handle == m as usize);
    need!(!used, ZE_RESULT_ERROR_HANDLE_OBJECT_IN_USE);
    w.modules.remove(&(m as usize)).map_or(NULL_HANDLE, |_| OK)
}

pub unsafe extern "C" fn zeModuleBuildLogDestroy(l: ze_module_build_log_handle_t) -> ze_result_t {
    world()
        .logs
        .remove(&(l as usize))
        .map_or(NULL_HANDLE, |_| OK)
}

/// The usual protocol of bytes: a size, then so many bytes.
unsafe fn bytes_to(bytes: &[u8], size: *mut usize, out: *mut u8) -> ze_result_t {
    if !out.is_null() {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), out, bytes.len().min(*size));
    }
    *size = bytes.len();
    OK
}

pub unsafe extern "C" fn zeModuleBuildLogGetString(
    l: ze_module_build_log_handle_t,
    size: *mut usize,
    out: *mut c_char,
) -> ze_result_t {
    let w = world();
    let text = get!(w.logs.get(&(l as usize)), NULL_HANDLE);
    bytes_to(text.as_bytes_with_nul(), size, out.cast())
}

pub unsafe extern "C" fn zeModuleGetNativeBinary(
    m: ze_module_handle_t,
    size: *mut usize,
    out: *mut u8,
) -> ze_result_t {
    let w = world();
    let m = get!(w.modules.get(&(m as usize)), NULL_HANDLE);
    need!(
        !m.program.is_null(),
        ZE_RESULT_ERROR_INVALID_MODULE_UNLINKED
    );
    let code = OpenCl::get().and_then(|cl| cl.binary(m.program));
    let code = get!(code.ok(), ZE_RESULT_ERROR_UNKNOWN);
    let length = (m.spirv.len() as u32).to_le_bytes();
    bytes_to(&[NATIVE, &length, &m.spirv, &code].concat(), size, out)
}

pub unsafe extern "C" fn zeKernelCreate(
    m: ze_module_handle_t,
    desc: *const ze_kernel_desc_t,
    out: *mut ze_kernel_handle_t,
) -> ze_result_t {
    let mut w = world();
    let module = get!(w.modules.get(&(m as usize)), NULL_HANDLE).clone();
    need!(
        !module.program.is_null(),
        ZE_RESULT_ERROR_INVALID_MODULE_UNLINKED
    );
    let name = CStr::from_ptr((*desc).pKernelName).to_owned();
    let found = name
        .to_str()
        .ok()
        .and_then(|n| module.signature.kernels.get(n));
    let found = get!(found, ZE_RESULT_ERROR_INVALID_KERNEL_NAME);
    let kernel = Kernel {
        arguments: vec![None; found.parameters.len()],
        group: found.group.unwrap_or([1, 1, 1]),
        module_handle: m as usize,
        name,
        module,
    };
    let h = w.handle();
    w.kernels.insert(h, kernel);
    *out = h as _;
    OK
}

pub unsafe extern "C" fn zeKernelDestroy(k: ze_kernel_handle_t) -> ze_result_t {
    world()
        .kernels
        .remove(&(k as usize))
        .map_or(NULL_HANDLE, |_| OK)
}

fn signature_of(w: &World, k: ze_kernel_handle_t) -> Option<KernelSignature> {
    let k = w.kernels.get(&(k as usize))?;
    k.module
        .signature
        .kernels
        .get(k.name.to_str().ok()?)
        .cloned()
}

pub unsafe extern "C" fn zeKernelSetGroupSize(
    k: ze_kernel_handle_t,
    x: u32,
    y: u32,
    z: u32,
) -> ze_result_t {
    let mut w = world();
    let required = get!(signature_of(&w, k), NULL_HANDLE).group;
    let total = u64::from(x) * u64::from(y) * u64::from(z);
    let fits = (1..=1024).contains(&total) && required.is_none_or(|r| r == [x, y, z]);
    need!(fits, ZE_RESULT_ERROR_INVALID_GROUP_SIZE_DIMENSION);
    get!(w.kernels.get_mut(&(k as usize)), NULL_HANDLE).group = [x, y, z];
    OK
}

pub unsafe extern "C" fn zeKernelSetArgumentValue(
    k: ze_kernel_handle_t,
    n: u32,
    size: usize,
    value: *const c_void,
) -> ze_result_t {
    let mut w = world();
    let signature = get!(signature_of(&w, k), NULL_HANDLE);
    let parameter = signature.parameters.get(n as usize);
    let wrong = ZE_RESULT_ERROR_INVALID_KERNEL_ARGUMENT_SIZE;
    let argument = match *get!(parameter, ZE_RESULT_ERROR_INVALID_KERNEL_ARGUMENT_INDEX) {
        Parameter::Local => {
            need!(value.is_null() && size > 0, wrong);
            Argument::Local(size)
        }
        Parameter::Pointer => {
            need!(size == 8, wrong);
            let p = if value.is_null() {
                0
            } else {
                *value.cast::<usize>()
            };
            if p != 0 && w.find(p).is_none() {
                say(&format!("argument {n}: {p:#x} is in no allocation"));
                return ZE_RESULT_ERROR_INVALID_ARGUMENT;
            }
            Argument::Pointer(p)
        }
        Parameter::Value(bytes) => {
            need!(size == bytes && !value.is_null(), wrong);
            Argument::Bytes(std::slice::from_raw_parts(value.cast(), size).to_vec())
        }
    };
    get!(w.kernels.get_mut(&(k as usize)), NULL_HANDLE).arguments[n as usize] = Some(argument);
    OK
}

pub unsafe extern "C" fn zeKernelGetProperties(
    k: ze_kernel_handle_t,
    p: *mut ze_kernel_properties_t,
) -> ze_result_t {
    let s = get!(signature_of(&world(), k), NULL_HANDLE);
    let p = &mut *p;
    p.numKernelArgs = s.parameters.len() as u32;
    [
        p.requiredGroupSizeX,
        p.requiredGroupSizeY,
        p.requiredGroupSizeZ,
    ] = s.group.unwrap_or([0; 3]);
    (p.requiredSubgroupSize, p.maxSubgroupSize) =
        (s.sub_group, if s.sub_group > 0 { s.sub_group } else { 32 });
    OK
}
