//! Sizes and offsets of the bindings against the C headers, where these and a C compiler are installed.

use level_zero_sys::*;
use std::io::Write;
use std::mem::{offset_of, size_of};
use std::process::Command;

macro_rules! layouts {
    ($($ty:ident { $($field:ident)* })*) => {
        [$((
            stringify!($ty),
            size_of::<$ty>(),
            vec![$((stringify!($field), offset_of!($ty, $field))),*],
        )),*]
    };
}

/// Says what is not tested here, past the test harness, which keeps what is printed.
fn not_run(why: &str) {
    let line = format!("NOT RUN: layout of level-zero-sys against the C headers: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    if let Some(path) = std::env::var_os("IPEX_NOT_RUN") {
        let mut file = std::fs::File::options()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}

#[test]
fn layouts_are_those_of_the_headers() {
    let layouts = layouts! {
        ze_driver_properties_t { stype pNext uuid driverVersion }
        ze_device_properties_t { stype pNext deviceId flags maxMemAllocSize timerResolution kernelTimestampValidBits uuid name }
        ze_device_compute_properties_t { maxTotalGroupSize maxSharedLocalMemory numSubGroupSizes subGroupSizes }
        ze_device_module_properties_t { spirvVersionSupported flags maxArgumentsSize }
        ze_device_memory_properties_t { flags totalSize name }
        ze_command_queue_group_properties_t { flags maxMemoryFillPatternSize numQueues }
        ze_context_desc_t { stype pNext flags }
        ze_command_queue_desc_t { ordinal index flags mode priority }
        ze_device_mem_alloc_desc_t { flags ordinal }
        ze_host_mem_alloc_desc_t { flags }
        ze_module_desc_t { format inputSize pInputModule pBuildFlags pConstants }
        ze_module_constants_t { numConstants pConstantIds pConstantValues }
        ze_kernel_desc_t { flags pKernelName }
        ze_kernel_properties_t { numKernelArgs requiredGroupSizeX requiredSubgroupSize maxSubgroupSize privateMemSize spillMemSize uuid }
        ze_group_count_t { groupCountX groupCountY groupCountZ }
        ze_event_pool_desc_t { flags count }
        ze_event_desc_t { index signal wait }
        ze_kernel_timestamp_result_t { global context }
    };
    let mut source = String::from(
        "#include <level_zero/ze_api.h>\n#include <stddef.h>\n#define SAME(a, b) _Static_assert((a) == (b), #a)\n",
    );
    for (ty, size, fields) in &layouts {
        source += &format!("SAME(sizeof({ty}), {size});\n");
        for (field, offset) in fields {
            // bindgen's name for a C field that is a keyword of Rust.
            let c = if *field == "type_" { "type" } else { field };
            source += &format!("SAME(offsetof({ty}, {c}), {offset});\n");
        }
    }
    let values = [
        (
            "ZE_RESULT_ERROR_DEVICE_LOST",
            ZE_RESULT_ERROR_DEVICE_LOST as u64,
        ),
        (
            "ZE_RESULT_ERROR_MODULE_BUILD_FAILURE",
            ZE_RESULT_ERROR_MODULE_BUILD_FAILURE as u64,
        ),
        (
            "ZE_STRUCTURE_TYPE_KERNEL_DESC",
            ZE_STRUCTURE_TYPE_KERNEL_DESC as u64,
        ),
        (
            "ZE_EVENT_POOL_FLAG_KERNEL_TIMESTAMP",
            ZE_EVENT_POOL_FLAG_KERNEL_TIMESTAMP as u64,
        ),
    ];
    for (name, value) in values {
        source += &format!("SAME({name}, {value:#x});\n");
    }
    let folder = std::env::temp_dir().join(format!("level-zero-sys-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let compile = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        Command::new("cc").arg("-fsyntax-only").arg(&path).output()
    };
    let probe = compile("probe.c", "#include <level_zero/ze_api.h>\n");
    let result = compile("layout.c", &source);
    std::fs::remove_dir_all(&folder).unwrap();
    match (probe, result) {
        (Err(e), _) | (_, Err(e)) => not_run(&format!("no C compiler: {e}")),
        (Ok(probe), _) if !probe.status.success() => not_run("no headers (Debian: libze-dev)"),
        (_, Ok(checked)) => {
            let errors = String::from_utf8_lossy(&checked.stderr);
            assert!(checked.status.success(), "{errors}");
        }
    }
}
