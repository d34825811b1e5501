//! The OpenCL runtime: the few functions that are needed, found in the library itself (no ICD loader).

use crate::pairs;
use libloading::Library;
use std::ffi::{CStr, c_char, c_void};
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

/// What of a module's imports are functions of ours.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Emulated {
    /// None.
    Nothing,
    /// Matrix instructions and loads of 2D blocks.
    Instructions,
    /// Those of pairs of sub-groups too.
    Pairs,
}

/// Any OpenCL object.
pub type Object = *mut c_void;

macro_rules! functions {
    ($($name:ident($($arg:ty),*) -> $result:ty;)*) => {
        /// A runtime with a context and a queue on its CPU device.
        pub struct OpenCl {
            $(pub $name: unsafe extern "C" fn($($arg),*) -> $result,)*
            device: Object,
            context: Object,
            pub queue: Object,
            _library: Library,
        }

        impl OpenCl {
            unsafe fn symbols(library: Library) -> Result<OpenCl, String> {
                Ok(OpenCl {
                    $($name: *library
                        .get(concat!(stringify!($name), "\0").as_bytes())
                        .map_err(|e| e.to_string())?,)*
                    device: null_mut(),
                    context: null_mut(),
                    queue: null_mut(),
                    _library: library,
                })
            }
        }
    };
}

functions! {
    clGetPlatformIDs(u32, *mut Object, *mut u32) -> i32;
    clGetDeviceIDs(Object, u64, u32, *mut Object, *mut u32) -> i32;
    clCreateContext(*const isize, u32, *const Object, *const c_void, *mut c_void, *mut i32) -> Object;
    clCreateCommandQueueWithProperties(Object, Object, *const u64, *mut i32) -> Object;
    clCreateProgramWithIL(Object, *const c_void, usize, *mut i32) -> Object;
    clCreateProgramWithSource(Object, u32, *const *const c_char, *const usize, *mut i32) -> Object;
    clCreateProgramWithBinary(Object, u32, *const Object, *const usize, *const *const u8, *mut i32, *mut i32) -> Object;
    clSetProgramSpecializationConstant(Object, u32, usize, *const c_void) -> i32;
    clCompileProgram(Object, u32, *const Object, *const c_char, u32, *const Object, *const *const c_char, *const c_void, *mut c_void) -> i32;
    clLinkProgram(Object, u32, *const Object, *const c_char, u32, *const Object, *const c_void, *mut c_void, *mut i32) -> Object;
    clBuildProgram(Object, u32, *const Object, *const c_char, *const c_void, *mut c_void) -> i32;
    clGetProgramBuildInfo(Object, Object, u32, usize, *mut c_void, *mut usize) -> i32;
    clGetProgramInfo(Object, u32, usize, *mut c_void, *mut usize) -> i32;
    clReleaseProgram(Object) -> i32;
    clCreateKernel(Object, *const c_char, *mut i32) -> Object;
    clReleaseKernel(Object) -> i32;
    clSetKernelArg(Object, u32, usize, *const c_void) -> i32;
    clSetKernelArgSVMPointer(Object, u32, *const c_void) -> i32;
    clEnqueueNDRangeKernel(Object, Object, u32, *const usize, *const usize, *const usize, u32, *const Object, *mut Object) -> i32;
    clFinish(Object) -> i32;
}

// SAFETY: OpenCL objects may be used from any thread; `world` lets one in at a time.
unsafe impl Send for OpenCl {}
// SAFETY: as above.
unsafe impl Sync for OpenCl {}

const DEVICE_TYPE_CPU: u64 = 2;
const PROGRAM_BUILD_LOG: u32 = 0x1183;
const PROGRAM_BINARY_SIZES: u32 = 0x1165;
const PROGRAM_BINARIES: u32 = 0x1166;

/// An error unless the status is CL_SUCCESS.
pub fn done(status: i32, what: &str) -> Result<(), String> {
    match status {
        0 => Ok(()),
        e => Err(format!("{what}: OpenCL error {e}")),
    }
}

impl OpenCl {
    /// The runtime, loaded once.
    pub fn get() -> Result<&'static OpenCl, String> {
        static RUNTIME: OnceLock<Result<OpenCl, String>> = OnceLock::new();
        // SAFETY: the functions have the types of the OpenCL headers.
        let runtime = RUNTIME.get_or_init(|| unsafe { OpenCl::load() });
        runtime.as_ref().map_err(Clone::clone)
    }

    unsafe fn load() -> Result<OpenCl, String> {
        let name = std::env::var("ZE_CPU_OPENCL").unwrap_or_else(|_| "libintelocl.so".into());
        let library = Library::new(&name).map_err(|e| e.to_string())?;
        let mut cl = OpenCl::symbols(library)?;
        let (mut platform, mut e) = (null_mut(), 0);
        done(
            (cl.clGetPlatformIDs)(1, &mut platform, null_mut()),
            "clGetPlatformIDs",
        )?;
        let found = (cl.clGetDeviceIDs)(platform, DEVICE_TYPE_CPU, 1, &mut cl.device, null_mut());
        done(found, "clGetDeviceIDs")?;
        cl.context = (cl.clCreateContext)(null(), 1, &cl.device, null(), null_mut(), &mut e);
        done(e, "clCreateContext")?;
        cl.queue = (cl.clCreateCommandQueueWithProperties)(cl.context, cl.device, null(), &mut e);
        done(e, "clCreateCommandQueueWithProperties")?;
        Ok(cl)
    }

    /// A program of SPIR-V, with values of its specialization constants, linked with the emulation where it needs that.
    pub unsafe fn build(
        &self,
        spirv: &[u8],
        constants: &[(u32, usize, *const c_void)],
        emulated: Emulated,
    ) -> Result<Object, String> {
        let program = self.of_spirv(spirv)?;
        for &(id, size, value) in constants {
            let set = (self.clSetProgramSpecializationConstant)(program.1, id, size, value);
            done(set, "clSetProgramSpecializationConstant")?;
        }
        if emulated == Emulated::Nothing {
            let (il, device) = (program.1, &self.device);
            let built = (self.clBuildProgram)(il, 1, device, c"".as_ptr(), null(), null_mut());
            return program.finish(built, "clBuildProgram");
        }
        program.compile(c"")?;
        let mut parts = vec![program, self.of_source(include_str!("emulation.cl"))?];
        if emulated == Emulated::Pairs {
            parts.push(self.of_source(include_str!("pairs.cl"))?);
            let memory = pairs::module().map_err(|e| e.to_string())?;
            let bytes: Vec<u8> = memory.iter().flat_map(|w| w.to_le_bytes()).collect();
            let memory = self.of_spirv(&bytes)?;
            memory.compile(c"")?;
            parts.push(memory);
        }
        self.link(&parts)
    }

    unsafe fn of_spirv(&self, spirv: &[u8]) -> Result<Program<'_>, String> {
        let mut e = 0;
        let at = spirv.as_ptr().cast();
        let il = (self.clCreateProgramWithIL)(self.context, at, spirv.len(), &mut e);
        done(e, "clCreateProgramWithIL")?;
        Ok(Program(self, il))
    }

    /// A program of OpenCL C, compiled.
    unsafe fn of_source(&self, text: &str) -> Result<Program<'_>, String> {
        let (mut e, length) = (0, text.len());
        let at: *const c_char = text.as_ptr().cast();
        let made = (self.clCreateProgramWithSource)(self.context, 1, &at, &length, &mut e);
        done(e, "clCreateProgramWithSource")?;
        let program = Program(self, made);
        program.compile(c"-cl-std=CL3.0")?;
        Ok(program)
    }

    unsafe fn link(&self, parts: &[Program]) -> Result<Object, String> {
        let (mut e, parts) = (0, parts.iter().map(|p| p.1).collect::<Vec<_>>());
        let linked = (self.clLinkProgram)(
            self.context,
            1,
            &self.device,
            c"".as_ptr(),
            parts.len() as u32,
            parts.as_ptr(),
            null(),
            null_mut(),
            &mut e,
        );
        Program(self, linked).finish(e, "clLinkProgram")
    }

    /// A program of what [`OpenCl::binary`] gave.
    pub unsafe fn load_binary(&self, binary: &[u8]) -> Result<Object, String> {
        let (mut status, mut e) = (0, 0);
        let (size, data) = (binary.len(), binary.as_ptr());
        let made = (self.clCreateProgramWithBinary)(
            self.context,
            1,
            &self.device,
            &size,
            &data,
            &mut status,
            &mut e,
        );
        done(e, "clCreateProgramWithBinary")?;
        let built = (self.clBuildProgram)(made, 1, &self.device, c"".as_ptr(), null(), null_mut());
        Program(self, made).finish(built, "clBuildProgram")
    }

    /// The machine code of a program.
    pub unsafe fn binary(&self, program: Object) -> Result<Vec<u8>, String> {
        let mut size = 0usize;
        let at: *mut usize = &mut size;
        let got = (self.clGetProgramInfo)(program, PROGRAM_BINARY_SIZES, 8, at.cast(), null_mut());
        done(got, "clGetProgramInfo")?;
        let mut bytes = vec![0u8; size];
        let mut at = bytes.as_mut_ptr();
        let at: *mut *mut u8 = &mut at;
        let got = (self.clGetProgramInfo)(program, PROGRAM_BINARIES, 8, at.cast(), null_mut());
        done(got, "clGetProgramInfo")?;
        Ok(bytes)
    }
}

/// A program that is released unless it is finished.
struct Program<'a>(&'a OpenCl, Object);

impl Program<'_> {
    unsafe fn compile(&self, options: &CStr) -> Result<(), String> {
        let cl = self.0;
        let status = (cl.clCompileProgram)(
            self.1,
            1,
            &cl.device,
            options.as_ptr(),
            0,
            null(),
            null(),
            null(),
            null_mut(),
        );
        done(status, "clCompileProgram").map_err(|e| format!("{e}\n{}", self.log()))
    }

    unsafe fn finish(mut self, status: i32, what: &str) -> Result<Object, String> {
        done(status, what).map_err(|e| format!("{e}\n{}", self.log()))?;
        Ok(std::mem::replace(&mut self.1, null_mut()))
    }

    unsafe fn log(&self) -> String {
        let (cl, mut size) = (self.0, 0);
        if self.1.is_null() {
            return String::new();
        }
        (cl.clGetProgramBuildInfo)(
            self.1,
            cl.device,
            PROGRAM_BUILD_LOG,
            0,
            null_mut(),
            &mut size,
        );
        let mut text = vec![0u8; size];
        let to = text.as_mut_ptr().cast();
        (cl.clGetProgramBuildInfo)(self.1, cl.device, PROGRAM_BUILD_LOG, size, to, null_mut());
        String::from_utf8_lossy(&text).trim_end_matches('\0').into()
    }
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        if !self.1.is_null() {
            // SAFETY: the program is ours.
            unsafe { (self.0.clReleaseProgram)(self.1) };
        }
    }
}
