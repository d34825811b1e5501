//! What a launch costs the host in our code alone: launches by a stream, and the same calls of the driver straight through the
//! bindings, in turns. Timing decides no test: docs/gpu.md has the command that prints it.

use super::{Argument, Kernel, Stream, null_mut};
use crate::level_zero::{Buffer, Source, devices};
use level_zero_sys::{ZE_RESULT_SUCCESS, ze_group_count_t};
use std::time::{Duration, Instant};
use ze_cpu::control::Control;
use ze_cpu::tiers;

const ROUNDS: usize = 200;
const LAUNCHES: u32 = 100;

#[test]
fn on_ze_cpu() {
    tiers::run("the cost of a launch", &tiers::DEVICES[..2]);
}

fn by_stream(stream: &mut Stream, kernel: &mut Kernel, buffer: &Buffer) {
    let memory = Argument::Memory(buffer, 0);
    let arguments = [memory, memory, Argument::F32(1.0), Argument::I32(1)];
    // SAFETY: the kernel's n is 1.
    unsafe { stream.launch(kernel, [1, 1, 1], &arguments, None) }.unwrap();
}

fn by_bindings(stream: &Stream, kernel: &Kernel, buffer: &Buffer) {
    let (ze, handle) = (stream.device.0.ze, kernel.handle());
    let (address, scale, n) = (buffer.address(0), 1f32, 1i32);
    let pointer = (8, (&raw const address).cast());
    let numbers = [(4, (&raw const scale).cast()), (4, (&raw const n).cast())];
    let one = ze_group_count_t {
        groupCountX: 1,
        groupCountY: 1,
        groupCountZ: 1,
    };
    // SAFETY: the handles are alive, the values have these sizes, and the kernel's n is 1.
    unsafe {
        for (k, (size, value)) in (0..).zip([pointer, pointer].into_iter().chain(numbers)) {
            let set = (ze.zeKernelSetArgumentValue)(handle, k, size, value);
            assert_eq!(set, ZE_RESULT_SUCCESS);
        }
        let launch = ze.zeCommandListAppendLaunchKernel;
        let queued = launch(stream.list, handle, &one, null_mut(), 0, null_mut());
        assert_eq!(queued, ZE_RESULT_SUCCESS);
        if stream.done.is_some() {
            let barrier = ze.zeCommandListAppendBarrier;
            let ordered = barrier(stream.list, null_mut(), 0, null_mut());
            assert_eq!(ordered, ZE_RESULT_SUCCESS);
        }
    }
}

fn timed(mut launch: impl FnMut()) -> Duration {
    let start = Instant::now();
    (0..LAUNCHES).for_each(|_| launch());
    start.elapsed() / LAUNCHES
}

#[test]
#[ignore = "needs a device"]
fn cost_of_a_launch() {
    let device = &devices().unwrap()[0];
    let axpy = Source {
        name: "axpy",
        spirv: include_bytes!("../../../kernels/axpy.spv"),
        large_registers: false,
        constants: &[],
    };
    let mut kernel = device.module(&axpy).unwrap().kernel("axpy").unwrap();
    let (mut stream, buffer) = (device.stream().unwrap(), device.buffer(4).unwrap());
    let control = Control::open();
    control.fault("idle", 0, 1);
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(timed(|| by_stream(&mut stream, &mut kernel, &buffer)));
        raw.push(timed(|| by_bindings(&stream, &kernel, &buffer)));
        stream.wait().unwrap();
    }
    control.fault("idle", 0, 0);
    assert_eq!(stream.launches(), (ROUNDS as u64) * u64::from(LAUNCHES));
    let [ours, raw] = [ours, raw].map(|mut all| {
        all.sort();
        all[ROUNDS / 2]
    });
    let alone = ours.as_nanos() as i128 - raw.as_nanos() as i128;
    println!("a launch: {ours:?}; its calls of the driver alone: {raw:?}; ours: {alone} ns");
}
