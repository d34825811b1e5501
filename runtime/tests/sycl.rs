//! What is asked of SYCL's queues, of Intel's own library: a queue of its OpenCL backend, which needs no GPU.

use ipex_runtime::level_zero::Error;
use ipex_runtime::level_zero::sycl::{NoQueue, Sycl};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LAZY};
use std::ffi::c_void;
use std::path::PathBuf;
use ze_cpu::{environment, tiers};

type Object = *mut c_void;

/// dpctl's interface in C to `sycl::queue`, beside the OpenCL runtime.
fn dpctl() -> Result<PathBuf, environment::Missing> {
    let folder = environment::opencl()?;
    let versions = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let mut places = versions.map(|v| {
        let packages = v.path().join("site-packages/dpctl");
        packages.join("libDPCTLSyclInterface.so")
    });
    places.find(|p| p.exists()).ok_or_else(|| {
        let folder = folder.display();
        format!("no dpctl in {folder}/python*/site-packages; make gpu-tools installs it")
    })
}

#[test]
fn with_intels_library() {
    let (dpctl, opencl) = match dpctl().and_then(|d| Ok((d, environment::opencl()?))) {
        Ok(found) => found,
        Err(missing) => return tiers::not_run("Intel's SYCL library", &missing),
    };
    let variables = [
        ("OCL_ICD_FILENAMES", opencl.join("libintelocl.so").into()),
        ("ONEAPI_DEVICE_SELECTOR", "opencl:cpu".into()),
        ("LD_LIBRARY_PATH", opencl.into()),
        ("IPEX_TEST_DPCTL", dpctl.into()),
    ];
    tiers::run_with("Intel's SYCL library", &variables, "a_queue");
}

#[test]
fn without_the_library() {
    let missing = Sycl::find(|_| None).err().unwrap();
    let name = "_ZNK4sycl3_V15queue11get_contextEv";
    assert_eq!(missing, NoQueue::Symbol(name));
    assert!(missing.to_string().contains("libsycl 8 or 9"), "{missing}");
}

macro_rules! functions {
    ($library:expr, $($name:ident: fn($($arg:ty),*) -> $ret:ty;)*) => {
        $(
            let $name: unsafe extern "C" fn($($arg),*) -> $ret =
                // SAFETY: the type is that of the headers.
                *unsafe { $library.get(stringify!($name).as_bytes()) }.unwrap();
        )*
    };
}

#[test]
#[ignore = "needs Intel's SYCL runtime; started by with_intels_library"]
#[expect(non_snake_case, reason = "the names are those of the C functions")]
fn a_queue_of_opencl() {
    let path = std::env::var_os("IPEX_TEST_DPCTL").unwrap();
    // SAFETY: the libraries' initialisers have no preconditions.
    let dpctl = unsafe { Library::open(Some(path), RTLD_LAZY | RTLD_GLOBAL) }.unwrap();
    // SAFETY: as above.
    let opencl = unsafe { Library::open(Some("libintelocl.so"), RTLD_LAZY) }.unwrap();
    functions! { dpctl,
        DPCTLCPUSelector_Create: fn() -> Object;
        DPCTLDevice_CreateFromSelector: fn(Object) -> Object;
        DPCTLQueue_CreateForDevice: fn(Object, *const c_void, i32) -> Object;
        DPCTLQueue_Memset: fn(Object, *mut c_void, u8, usize) -> Object;
        DPCTLQueue_Delete: fn(Object) -> ();
        DPCTLmalloc_host: fn(usize, Object) -> *mut c_void;
    }
    functions! { opencl,
        clGetContextInfo: fn(Object, u32, usize, *mut c_void, *mut usize) -> i32;
    }
    let symbol = |name: &str| {
        // SAFETY: whatever it is, it has an address.
        let found = unsafe { Library::this().get::<*const c_void>(name.as_bytes()) };
        found.ok().map(|s| s.as_raw_ptr().cast_const())
    };
    let sycl = Sycl::find(symbol).unwrap();
    // SAFETY: objects of this library, used as its headers say.
    unsafe {
        let device = DPCTLDevice_CreateFromSelector(DPCTLCPUSelector_Create());
        let queue = DPCTLQueue_CreateForDevice(device, std::ptr::null(), 0);
        assert!(!queue.is_null());

        let refused = sycl.device(queue).err();
        assert_eq!(refused, Some(Error::Queue(NoQueue::Backend("OpenCL"))));

        // The handles are OpenCL's: its context has one device, which is the other.
        const DEVICES: u32 = 0x1081;
        let [context, device] = sycl.handles(queue);
        let (mut found, mut bytes) = ([std::ptr::null_mut::<c_void>(); 4], 0);
        let room = size_of_val(&found);
        let status = clGetContextInfo(context, DEVICES, room, (&raw mut found).cast(), &mut bytes);
        assert_eq!((status, bytes), (0, size_of::<Object>()));
        assert_eq!(found[0], device);

        // What was given to the queue has run after a wait.
        let size = 256 << 20;
        let memory: *mut u8 = DPCTLmalloc_host(size, queue).cast();
        for byte in [1, 2, 3] {
            DPCTLQueue_Memset(queue, memory.cast(), byte, size);
            sycl.wait(queue);
            assert_eq!([memory.read(), memory.add(size - 1).read()], [byte; 2]);
        }
        DPCTLQueue_Delete(queue);
    }
}
