//! The functions of libtorch that we call, found at run time in the copy that Python has loaded.

use super::team;
use crate::Error;
use libloading::os::unix::{Library, RTLD_LAZY};
use std::ffi::{CStr, c_char, c_void};
use std::path::Path;
use std::sync::OnceLock;

/// `AtenTensorHandle`
pub type Handle = *mut c_void;
/// Body of a parallel loop: begin, end, context.
pub type ParallelBody = extern "C" fn(i64, i64, *mut c_void);

/// Frees memory behind a tensor: data, context.
pub type Deleter = extern "C" fn(*mut c_void, *mut c_void);

type Status = i32;

macro_rules! table {
    ($($name:ident : fn($($arg:ty),*) $(-> $ret:ty)?),*; optional: $($late:ident : fn($($larg:ty),*) $(-> $lret:ty)?),* $(,)?) => {
        /// Function pointers; they stay valid because libtorch is never unloaded.
        #[expect(missing_docs, non_snake_case, reason = "documented in libtorch's shim.h")]
        pub struct Aten {
            $(pub $name: unsafe extern "C" fn($($arg),*) $(-> $ret)?,)*
            $(pub $late: Option<unsafe extern "C" fn($($larg),*) $(-> $lret)?>,)*
            libraries: [Library; 3],
        }

        impl Aten {
            /// Looks the functions up in the library at `path` (`torch/lib/libtorch_cpu.so`), for those of the Python
            /// binding in `libtorch_python.so` beside it and what that needs, and in what the process shows to all.
            pub fn load(path: &Path) -> Result<&'static Aten, Error> {
                static LOADED: OnceLock<Aten> = OnceLock::new();
                if let Some(aten) = LOADED.get() {
                    return Ok(aten);
                }
                let error = |e: libloading::Error| Error::Symbol(e.to_string());
                let python = path.with_file_name("libtorch_python.so");
                // SAFETY: both libraries are loaded already; opening them again runs no code.
                let libraries = unsafe {
                    [
                        Library::open(Some(path), RTLD_LAZY).map_err(error)?,
                        Library::open(Some(python), RTLD_LAZY).map_err(error)?,
                        Library::this(),
                    ]
                };
                let aten = Aten {
                    $($name: {
                        let name = concat!(stringify!($name), "\0");
                        let find = |l: &Library| {
                            // SAFETY: the type is that of libtorch's header.
                            unsafe { l.get::<unsafe extern "C" fn($($arg),*) $(-> $ret)?>(name.as_bytes()) }
                                .ok()
                                .map(|s| *s)
                        };
                        libraries
                            .iter()
                            .find_map(find)
                            .ok_or_else(|| Error::Symbol(stringify!($name).into()))?
                    },)*
                    $($late: {
                        let name = concat!(stringify!($late), "\0");
                        libraries.iter().find_map(|l| {
                            // SAFETY: as above.
                            unsafe { l.get::<unsafe extern "C" fn($($larg),*) $(-> $lret)?>(name.as_bytes()) }
                                .ok()
                                .map(|s| *s)
                        })
                    },)*
                    libraries,
                };
                Ok(LOADED.get_or_init(|| aten))
            }
        }
    };
}

table! {
    aoti_torch_get_data_ptr: fn(Handle, *mut *mut c_void) -> Status,
    aoti_torch_get_sizes: fn(Handle, *mut *const i64) -> Status,
    aoti_torch_get_strides: fn(Handle, *mut *const i64) -> Status,
    aoti_torch_get_dtype: fn(Handle, *mut i32) -> Status,
    aoti_torch_get_device_type: fn(Handle, *mut i32) -> Status,
    aoti_torch_get_device_index: fn(Handle, *mut i32) -> Status,
    aoti_torch_get_dim: fn(Handle, *mut i64) -> Status,
    aoti_torch_new_tensor_handle: fn(Handle, *mut Handle) -> Status,
    aoti_torch_delete_tensor_object: fn(Handle) -> Status,
    aoti_torch_empty_strided: fn(i64, *const i64, *const i64, i32, i32, i32, *mut Handle) -> Status,
    aoti_torch__reinterpret_tensor: fn(Handle, i64, *const i64, *const i64, i64, *mut Handle) -> Status,
    aoti_torch_create_tensor_from_blob_v2: fn(*mut c_void, i64, *const i64, *const i64, i64, i32, i32, i32, *mut Handle, i32, *const u8, i64) -> Status,
    aoti_torch_copy_: fn(Handle, Handle, i32) -> Status,
    aoti_torch_grad_mode_is_enabled: fn() -> bool,
    aoti_torch_grad_mode_set_enabled: fn(bool),
    aoti_torch_cpu_mm_out: fn(Handle, Handle, Handle) -> Status,
    aoti_torch_cpu_bmm_out: fn(Handle, Handle, Handle) -> Status,
    aoti_torch_cpu_addmm_out: fn(Handle, Handle, Handle, Handle, f64, f64) -> Status,
    aoti_torch_cpu_baddbmm_out: fn(Handle, Handle, Handle, Handle, f64, f64) -> Status,
    aoti_torch_is_defined: fn(Handle, *mut bool) -> Status,
    torch_call_dispatcher: fn(*const c_char, *const c_char, *mut u64, u64) -> Status,
    torch_new_list_reserve_size: fn(usize, *mut Handle) -> Status,
    torch_list_push_back: fn(Handle, u64) -> Status,
    torch_list_size: fn(Handle, *mut usize) -> Status,
    torch_list_get_item: fn(Handle, usize, *mut u64) -> Status,
    torch_delete_list: fn(Handle) -> Status,
    torch_new_string_handle: fn(*const c_char, usize, *mut Handle) -> Status,
    torch_delete_string: fn(Handle) -> Status,
    torch_from_blob: fn(*mut c_void, i64, *const i64, *const i64, i64, i32, i32, i32, *mut Handle, i32, *const u8, i64, Deleter, *mut c_void) -> Status,
    torch_parallel_for: fn(i64, i64, i64, ParallelBody, *mut c_void) -> Status,
    torch_get_num_threads: fn(*mut u32) -> Status;
    // The first three are of 2.13, the two others of 2.14.
    optional: torch_exception_get_what: fn() -> *const c_char,
    torch_new_stable_ivalue: fn(*mut *mut u64) -> Status,
    torch_delete_stable_ivalue: fn(*mut u64) -> Status,
    // C++'s operators new and delete, with which libtorch itself did that before 2.13.
    _Znwm: fn(usize) -> *mut c_void,
    _ZdlPv: fn(*mut c_void),
    // Of builds with the `xpu` device: the `sycl::queue` of a device's current stream.
    aoti_torch_get_current_xpu_stream: fn(i32, *mut *mut c_void) -> Status,
    aoti_torch_cpu__int_mm_out: fn(Handle, Handle, Handle) -> Status,
    // Of builds with oneDNN.
    aoti_torch_cpu_mkldnn__convolution_pointwise: fn(Handle, Handle, *const Handle, *const i64, i64, *const i64, i64, *const i64, i64, i64, *const c_char, *const *const f64, i64, *const *const c_char, *mut Handle) -> Status,
    aoti_torch_cpu_mkldnn__convolution_transpose_pointwise: fn(Handle, Handle, *const Handle, *const i64, i64, *const i64, i64, *const i64, i64, *const i64, i64, i64, *const c_char, *const *const f64, i64, *const *const c_char, *mut Handle) -> Status,
    torch_tensor_from_pyobject: fn(*mut c_void, *mut Handle) -> Status,
    torch_tensor_to_pyobject: fn(Handle, *mut c_void, *mut *mut c_void) -> Status,
}

impl Aten {
    /// Turns a status into an error with ATen's text.
    pub fn check(&self, op: &str, status: Status) -> Result<(), Error> {
        if status == 0 {
            return Ok(());
        }
        let message = match self.torch_exception_get_what {
            None => "an error whose text PyTorch hands over only from 2.13 on".into(),
            Some(what) => {
                // SAFETY: the string lives until this thread's next exception.
                let what = unsafe {
                    let what = what();
                    (!what.is_null()).then(|| CStr::from_ptr(what))
                };
                what.map_or("unknown error".into(), |w| w.to_string_lossy().into_owned())
            }
        };
        Err(Error::Aten {
            op: op.into(),
            message,
        })
    }

    /// A symbol of libtorch, of a library that it needs, or that the process shows to all.
    pub fn symbol(&self, name: &str) -> Option<*const c_void> {
        let find = |l: &Library| {
            // SAFETY: whatever it is, it has an address.
            unsafe { l.get::<*const c_void>(name.as_bytes()) }
                .ok()
                .map(|s| s.as_raw_ptr().cast_const())
        };
        self.libraries.iter().find_map(find)
    }

    /// A word on libtorch's heap, which its dispatcher frees.
    pub(super) fn new_word(&self, word: u64) -> Result<*mut u64, Error> {
        let mut place = std::ptr::null_mut();
        match (self.torch_new_stable_ivalue, self._Znwm) {
            (Some(new), _) => {
                // SAFETY: writes the pointer.
                let status = unsafe { new(&mut place) };
                self.check("an optional", status)?;
            }
            // SAFETY: C++'s allocator returns memory of this size (or ends the process).
            (None, Some(new)) => place = unsafe { new(size_of::<u64>()) }.cast(),
            (None, None) => return Err(Error::Symbol("torch_new_stable_ivalue".into())),
        }
        // SAFETY: just allocated.
        unsafe { place.write(word) };
        Ok(place)
    }

    /// Frees a word.
    ///
    /// # Safety
    /// It is one of `new_word`'s and not used again.
    pub(super) unsafe fn delete_word(&self, place: *mut u64) {
        match (self.torch_delete_stable_ivalue, self._ZdlPv) {
            // SAFETY: by contract; made by this function's counterpart.
            (Some(delete), _) => _ = unsafe { delete(place) },
            // SAFETY: as above.
            (None, Some(delete)) => unsafe { delete(place.cast()) },
            (None, None) => {}
        }
    }

    /// Runs `f` with ATen recording no gradients in this thread.
    pub fn without_grad<R>(&self, f: impl FnOnce() -> R) -> R {
        // SAFETY: these only read and set a flag of this thread.
        let recording = unsafe { (self.aoti_torch_grad_mode_is_enabled)() };
        // SAFETY: as above.
        unsafe { (self.aoti_torch_grad_mode_set_enabled)(false) };
        let result = f();
        // SAFETY: as above.
        unsafe { (self.aoti_torch_grad_mode_set_enabled)(recording) };
        result
    }

    /// Runs `body` over `0..end` on ATen's threads, in pieces of at least `grain`.
    pub fn parallel(
        &self,
        end: i64,
        grain: i64,
        body: &(dyn Fn(i64, i64) + Sync),
    ) -> Result<(), Error> {
        if let Some(threads) = team::threads() {
            let (len, grain) = (end.max(0) as usize, grain.max(1) as usize);
            let each = len.div_ceil(threads).max(grain);
            let piece = |n: usize| body((n * each) as i64, len.min((n + 1) * each) as i64);
            team::run(len.div_ceil(each), &piece);
            return Ok(());
        }
        extern "C" fn call(begin: i64, end: i64, context: *mut c_void) {
            // SAFETY: `context` is the reference below, which outlives the loop.
            let body = unsafe { *context.cast::<&(dyn Fn(i64, i64) + Sync)>() };
            body(begin, end);
        }
        let mut body = body;
        let context: *mut &(dyn Fn(i64, i64) + Sync) = &mut body;
        // SAFETY: the loop ends before this function returns.
        let status =
            unsafe { (self.torch_parallel_for)(0, end, grain.max(1), call, context.cast()) };
        self.check("parallel_for", status)
    }
}
