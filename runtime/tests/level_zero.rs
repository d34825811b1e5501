//! The safe layer over Level Zero, through the real loader, on `ze_cpu`.

use ipex_runtime::DType;
use ipex_runtime::level_zero::blocks::Layout;
use ipex_runtime::level_zero::epilogue::Epilogue;
use ipex_runtime::level_zero::library::Library;
use ipex_runtime::level_zero::pack;
use ipex_runtime::level_zero::product::{Operand, Product};
use ipex_runtime::level_zero::tile::Height;
use ipex_runtime::level_zero::{
    Architecture, Argument, Device, Error, NoDevice, Source, devices, product,
};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;
use ze_cpu::control::Control;
use ze_cpu::{environment, tiers};

const AXPY: Source = Source {
    name: "axpy",
    spirv: include_bytes!("../kernels/axpy.spv"),
    large_registers: false,
    constants: &[],
};

#[test]
fn on_every_device() {
    tiers::run("Level Zero on ze_cpu", tiers::DEVICES);
}

/// With several drivers the loader wraps handles.
#[test]
fn with_two_drivers() {
    let mut variables = match environment::variables("hpg") {
        Ok(variables) => variables,
        Err(missing) => return tiers::not_run("two drivers", &missing),
    };
    let driver = environment::driver().unwrap();
    let other = std::env::temp_dir().join(format!("libze_other-{}.so", std::process::id()));
    std::fs::copy(&driver, &other).unwrap();
    let both = format!("{},{}", driver.display(), other.display());
    variables.push(("ZE_ENABLE_ALT_DRIVERS", both.into()));
    tiers::run_with("two drivers", &variables, "");
    std::fs::remove_file(&other).unwrap();
}

/// What one driver has compiled is not for another version, nor for another device.
#[test]
fn another_driver_compiles_anew() {
    let folder = std::env::temp_dir().join(format!("ipex-drivers-{}", std::process::id()));
    for (n, (device, version)) in [("hpg", "1"), ("hpg", "0"), ("plain", "0"), ("hpg", "1")]
        .into_iter()
        .enumerate()
    {
        let mut variables = match environment::variables(device) {
            Ok(variables) => variables,
            Err(missing) => return tiers::not_run("drivers of two versions", &missing),
        };
        // A compiler that knows 2D blocks has another version.
        variables.push(("ZE_CPU_BLOCKS", version.into()));
        variables.push(("IPEX_CACHE_DIR", folder.clone().into()));
        tiers::run_with(device, &variables, "commands_run_in_order");
        let kept = std::fs::read_dir(folder.join("gpu")).unwrap().count();
        assert_eq!(kept, (n + 1).min(3), "{device} {version}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Intel's own driver without hardware: it compiles, and takes commands, but runs nothing.
#[test]
fn on_intels_driver() {
    // SAFETY: the driver's initialisers have no preconditions.
    if unsafe { libloading::Library::new("libze_intel_gpu.so.1") }.is_err() {
        return tiers::not_run(
            "Intel's driver",
            "no libze_intel_gpu.so.1 (Debian: intel-opencl-icd)",
        );
    }
    for (product, size) in [("dg2", "8x4x16"), ("pvc", "8x8x8")] {
        let variables = [
            ("NEOReadDebugKeys", "1"),
            ("SetCommandStreamReceiver", "1"),
            ("ProductFamilyOverride", product),
            ("HardwareInfoOverride", size),
            ("IPEX_CACHE_DIR", ""),
        ];
        let variables = variables.map(|(name, value)| (name, value.into()));
        tiers::run_with(product, &variables, "every_kernel_is_accepted");
    }
}

/// Set where there is no loader.
const NO_LOADER: &str = "IPEX_TEST_NO_LOADER";

/// A loader that cannot be loaded is as good as none.
#[test]
fn without_a_loader() {
    let folder = std::env::temp_dir().join(format!("no-loader-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("libze_loader.so.1"), "no library").unwrap();
    let path = folder.clone().into_os_string();
    let variables = [("LD_LIBRARY_PATH", path), (NO_LOADER, "1".into())];
    tiers::run_with("a broken loader", &variables, "zz_there_is_no_loader");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
#[ignore = "needs a machine without a loader"]
fn zz_there_is_no_loader() {
    if std::env::var_os(NO_LOADER).is_none() {
        return;
    }
    for _ in 0..2 {
        let Err(Error::NoDevice(NoDevice::Loader(why))) = devices() else {
            panic!("{:?}", devices().map(<[Device]>::len));
        };
        assert!(
            why.contains("libze_loader.so.1 could not be opened"),
            "{why}"
        );
    }
    let told = devices().map(drop).unwrap_err().to_string();
    assert!(told.contains("Install Intel's GPU runtime"), "{told}");
}

/// Without the variables there is no driver here: an error that says what to do, and nothing else happens.
#[test]
fn no_device() {
    if std::env::var_os("ZE_ENABLE_ALT_DRIVERS").is_some() {
        return;
    }
    match devices() {
        Err(Error::NoDevice(none @ (NoDevice::Loader(_) | NoDevice::Driver { .. }))) => {
            assert!(none.to_string().contains("Install"), "{none}");
        }
        Ok(found) => assert!(!found.is_empty()),
        Err(other) => panic!("{other}"),
    }
}

fn device() -> &'static Device {
    &devices().unwrap()[0]
}

fn bytes(x: &[f32]) -> Vec<u8> {
    x.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// `y += a * x` a few times on a stream of its own.
fn axpy(times: usize) {
    let n = 1000;
    let x: Vec<f32> = (0..n).map(|i| i as f32).collect();
    let (device, mut stream) = (device(), device().stream().unwrap());
    let mut kernel = device.module(&AXPY).unwrap().kernel("axpy").unwrap();
    kernel.set_group([64, 1, 1]).unwrap();
    let (dx, dy) = (device.buffer(4 * n).unwrap(), device.buffer(4 * n).unwrap());
    stream.write(&dx, &bytes(&x)).unwrap();
    stream.fill(&dy, 0, 4 * n).unwrap();
    let timer = device.timer().unwrap();
    for k in 0..times {
        let arguments = [
            Argument::Memory(&dx, 0),
            Argument::Memory(&dy, 0),
            Argument::F32(2.0),
            Argument::I32(n as i32),
        ];
        let timer = (k == 0).then_some(&timer);
        // SAFETY: the kernel stays below n.
        unsafe {
            stream.launch(
                &mut kernel,
                [(n as u32).div_ceil(64), 1, 1],
                &arguments,
                timer,
            )
        }
        .unwrap();
    }
    let mut got = vec![0; 4 * n];
    stream.read(&dy, &mut got).unwrap();
    let want: Vec<f32> = x.iter().map(|x| 2.0 * times as f32 * x).collect();
    assert_eq!(got, bytes(&want));
    assert!(timer.elapsed().unwrap() > Duration::ZERO);
    assert_eq!(stream.launches(), times as u64);
}

#[test]
#[ignore = "needs a device"]
fn commands_run_in_order() {
    axpy(3);
}

/// What a queued launch uses is nobody else's until it has run, even if its owner drops it.
#[test]
#[ignore = "needs a device"]
fn queued_memory_is_kept() {
    let (n, device) = (1000, device());
    let (mut stream, mut other) = (device.stream().unwrap(), device.stream().unwrap());
    let [ones, twos] = [1f32, 2.0].map(|x| bytes(&vec![x; n]));
    let (x, y) = (device.buffer(4 * n).unwrap(), device.buffer(4 * n).unwrap());
    stream.write(&x, &ones).unwrap();
    stream.write(&y, &ones).unwrap();
    let module = device.module(&AXPY).unwrap();
    let mut kernel = module.kernel("axpy").unwrap();
    kernel.set_group([64, 1, 1]).unwrap();
    let arguments = [
        Argument::Memory(&x, 0),
        Argument::Memory(&y, 0),
        Argument::F32(1.0),
        Argument::I32(n as i32),
    ];
    let groups = [(n as u32).div_ceil(64), 1, 1];
    // SAFETY: the kernel stays below n.
    unsafe { stream.launch(&mut kernel, groups, &arguments, None) }.unwrap();
    let taken = x.address(0);
    drop((x, kernel, module));
    let others: Vec<_> = (0..4).map(|_| device.buffer(4 * n).unwrap()).collect();
    for buffer in &others {
        assert_ne!(buffer.address(0), taken, "it is in use");
        other.write(buffer, &twos).unwrap();
    }
    let mut got = vec![0; 4 * n];
    stream.read(&y, &mut got).unwrap();
    assert_eq!(got, twos);
    drop(others);
    let again = (0..8).map(|_| device.buffer(4 * n).unwrap());
    let again: Vec<_> = again.collect();
    assert!(again.iter().any(|b| b.address(0) == taken), "it is free");
}

#[test]
#[ignore = "needs a device"]
fn the_device_is_what_was_asked_for() {
    let want = match std::env::var("ZE_CPU_DEVICE").unwrap().as_str() {
        "hpg" => Architecture::XeHpg,
        "lpg" => Architecture::XeLpg,
        "hpc" => Architecture::XeHpc,
        "xe2" => Architecture::Xe2,
        _ => Architecture::Plain,
    };
    assert_eq!(device().architecture(), want);
    assert_eq!(device().memory_bytes(), 8 << 30);
}

#[test]
#[ignore = "needs a device"]
fn eight_threads_have_a_stream_each() {
    std::thread::scope(|s| (0..8).for_each(|k| drop(s.spawn(move || axpy(1 + k)))));
}

#[test]
#[ignore = "needs a device"]
fn nothing_leaks() {
    axpy(1);
    let control = Control::open();
    device().trim();
    let before = control.count();
    axpy(2);
    device().trim();
    let after = control.count();
    assert_eq!(before[..8], after[..8]);
    assert_eq!(after[8], before[8] + 2);
    assert_eq!(after[1..8], [0; 7], "only the context stays");
}

#[test]
#[ignore = "needs a device"]
fn out_of_memory() {
    let control = Control::open();
    control.fault("memory", 0, 1);
    assert!(
        device().buffer(5 << 20).is_ok(),
        "there is enough once the pool is empty"
    );
    control.fault("memory", 0, 2);
    let Err(Error::OutOfMemory { bytes, in_use }) = device().buffer(7 << 20).map(drop) else {
        panic!("there was memory");
    };
    assert_eq!((bytes, in_use), (7 << 20, 0));
    assert!(device().buffer(7 << 20).is_ok());
}

#[test]
#[ignore = "needs a device"]
fn a_failed_build_has_its_log() {
    let broken = Source {
        name: "broken",
        spirv: b"not SPIR-V at all...",
        ..AXPY
    };
    let Err(Error::Build { module, name, log }) = device().module(&broken).map(drop) else {
        panic!("it was built");
    };
    assert_eq!(
        (module.as_str(), name),
        ("broken", "ZE_RESULT_ERROR_MODULE_BUILD_FAILURE")
    );
    if devices().unwrap().len() == 1 {
        assert!(log.contains("not SPIR-V"), "{log}");
    } else {
        assert!(log.contains("no log"), "{log}");
    }
    let missing = device()
        .module(&AXPY)
        .unwrap()
        .kernel("nothing")
        .map(drop)
        .unwrap_err();
    assert!(
        missing
            .to_string()
            .contains("ZE_RESULT_ERROR_INVALID_KERNEL_NAME"),
        "{missing}"
    );
}

#[test]
#[ignore = "needs a device"]
fn wrong_arguments_are_refused() {
    let (device, mut stream) = (device(), device().stream().unwrap());
    let mut kernel = device.module(&AXPY).unwrap().kernel("axpy").unwrap();
    let buffer = device.buffer(64).unwrap();
    let memory = Argument::Memory(&buffer, 0);
    let mut launch = |arguments: &[Argument]| {
        // SAFETY: refused before anything runs.
        unsafe { stream.launch(&mut kernel, [1, 1, 1], arguments, None) }
            .unwrap_err()
            .to_string()
    };
    assert!(launch(&[memory]).contains("1 arguments for 4"));
    let wrong = launch(&[memory, memory, Argument::I64(1), Argument::I32(1)]);
    assert!(
        wrong.contains("argument 2 of axpy: ZE_RESULT_ERROR_INVALID_KERNEL_ARGUMENT_SIZE"),
        "{wrong}"
    );
    assert!(stream.fill(&buffer, 0, 100).is_err(), "beyond the buffer");
}

#[test]
#[ignore = "needs a device"]
fn modules_are_kept_on_disk() {
    let folder = std::env::temp_dir().join(format!("ipex-cache-{}", std::process::id()));
    // SAFETY: the tests of a device run in one thread.
    unsafe { std::env::set_var("IPEX_CACHE_DIR", &folder) };
    let first = device().module(&AXPY).unwrap();
    let files = || {
        std::fs::read_dir(folder.join("gpu"))
            .unwrap()
            .map(|f| f.unwrap().path())
            .collect::<Vec<_>>()
    };
    assert_eq!(files().len(), 1);
    drop(first);
    let stored = std::fs::metadata(&files()[0]).unwrap().modified().unwrap();
    axpy(1);
    assert_eq!(
        std::fs::metadata(&files()[0]).unwrap().modified().unwrap(),
        stored,
        "taken from the disk"
    );
    std::fs::write(&files()[0], b"damaged").unwrap();
    axpy(1);
    assert!(
        std::fs::read(&files()[0]).unwrap().len() > 100,
        "compiled anew"
    );
    // A process that ends in the middle leaves a temporary file, which nobody reads.
    std::fs::write(folder.join("gpu/.1-interrupted"), b"half").unwrap();
    axpy(1);
    std::fs::remove_dir_all(&folder).unwrap();
    // SAFETY: as above.
    unsafe { std::env::remove_var("IPEX_CACHE_DIR") };
}

/// A process that is killed while it compiles leaves what it has finished, and nothing that harms the next one.
#[test]
#[ignore = "needs a device"]
fn an_interrupted_compilation() {
    let folder = std::env::temp_dir().join(format!("ipex-killed-{}", std::process::id()));
    let whole = || {
        let files = std::fs::read_dir(folder.join("gpu")).into_iter().flatten();
        let names = files.map(|f| f.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !name.starts_with('.')).count()
    };
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "every_kernel_is_accepted"])
        .env("IPEX_CACHE_DIR", &folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while whole() == 0 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    let finished = whole();
    // SAFETY: the tests of a device run in one thread.
    unsafe { std::env::set_var("IPEX_CACHE_DIR", &folder) };
    let library = Library::new(device());
    let window = library.window(DType::F32, Epilogue::default()).unwrap();
    window.kernel("window").unwrap();
    assert_eq!(whole(), finished, "the finished module is taken");
    axpy(1);
    assert_eq!(whole(), finished + 1, "another one is compiled");
    std::fs::remove_dir_all(&folder).unwrap();
    // SAFETY: as above.
    unsafe { std::env::remove_var("IPEX_CACHE_DIR") };
}

#[test]
#[ignore = "needs a device"]
fn a_forked_process_is_told() {
    devices().unwrap();
    // SAFETY: the child only asks and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let told = matches!(devices(), Err(Error::Forked));
        // SAFETY: ends without running what belongs to the parent.
        unsafe { libc::_exit(if told { 7 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: waits for our own child.
    unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(libc::WEXITSTATUS(status), 7);
}

/// A product of no depth to speak of.
fn product_of(dtype: DType, result: DType) -> Product {
    let nothing = Operand {
        data: std::ptr::null(),
        strides: [0; 3],
    };
    Product {
        dtype,
        result,
        sizes: [1; 4],
        a: nothing,
        b: nothing,
        c: nothing,
        input: None,
        alpha: 1.0,
        beta: 0.0,
        repeat: 0,
    }
}

/// Kernels that read 2D blocks, where the device has them.
fn accepts_blocks(library: &Library) {
    if !device().architecture().has_blocks() {
        return;
    }
    for (dtype, result) in TYPES {
        for height in [Height::Few, Height::Many] {
            for layout in [Layout::Packed, Layout::Rows, Layout::Columns] {
                let p = product_of(dtype, result);
                let none = Epilogue::default();
                product::blocks_kernel(library, &p, none, height, layout).unwrap();
            }
        }
    }
}

/// Operands and results of matrix instructions.
const TYPES: [(DType, DType); 7] = [
    (DType::F16, DType::F16),
    (DType::BF16, DType::BF16),
    (DType::BF16, DType::F32),
    (DType::I8, DType::I32),
    (DType::I8, DType::F32),
    (DType::I8, DType::F16),
    (DType::I8, DType::BF16),
];

/// Every shipped kernel is compiled for the device and made; one is launched.
#[test]
#[ignore = "needs a device"]
fn every_kernel_is_accepted() {
    let (device, mut stream) = (device(), device().stream().unwrap());
    let (library, none) = (Library::new(device), Epilogue::default());
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let window = library.window(dtype, none).unwrap();
        window.kernel("window").unwrap();
        product::plain_kernel(&library, dtype, none).unwrap();
        product::rows_kernel(&library, dtype).unwrap();
        library
            .attention(dtype)
            .unwrap()
            .kernel("attention")
            .unwrap();
    }
    for (dtype, result) in TYPES {
        pack::pack_kernel(&library, dtype).unwrap();
        product::rows_kernel(&library, dtype).unwrap();
        let architecture = device.architecture();
        for height in Height::ALL.into_iter().filter(|h| h.is_of(architecture)) {
            let p = product_of(dtype, result);
            let kernel = product::matmul_kernel(&library, &p, none, height).unwrap();
            let lanes = kernel.map(|k| k.sub_group().unwrap());
            assert_eq!(lanes, device.architecture().matrix_sub_group());
        }
    }
    pack::pack_kernel(&library, DType::F32).unwrap();
    accepts_blocks(&library);
    library.columns().unwrap().kernel("columns").unwrap();
    library.windows().unwrap().kernel("windows").unwrap();
    let mut kernel = device.module(&AXPY).unwrap().kernel("axpy").unwrap();
    let buffer = device.buffer(4).unwrap();
    let memory = Argument::Memory(&buffer, 0);
    let arguments = [memory, memory, Argument::F32(1.0), Argument::I32(1)];
    // SAFETY: n is 1.
    unsafe { stream.launch(&mut kernel, [1, 1, 1], &arguments, None) }.unwrap();
    stream.wait().unwrap();
}

/// Last by name: the device is of no use afterwards.
#[test]
#[ignore = "needs a device"]
fn zz_a_lost_device_says_so() {
    let control = Control::open();
    let (device, mut stream) = (device(), device().stream().unwrap());
    let mut kernel = device.module(&AXPY).unwrap().kernel("axpy").unwrap();
    let buffer = device.buffer(4).unwrap();
    let memory = Argument::Memory(&buffer, 0);
    control.fault("launch", 0, 1);
    // SAFETY: n is 1.
    unsafe {
        stream.launch(
            &mut kernel,
            [1, 1, 1],
            &[memory, memory, Argument::F32(1.0), Argument::I32(1)],
            None,
        )
    }
    .unwrap();
    let lost = stream.wait().unwrap_err();
    assert!(lost.is_lost(), "{lost}");
    assert!(
        lost.to_string().contains("ZE_RESULT_ERROR_DEVICE_LOST"),
        "{lost}"
    );
}
