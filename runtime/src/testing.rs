//! What the tests of several kernels share: elements of any type as numbers, and what is skipped.

use crate::DType;
use crate::gemm::Parallel;
use half::{bf16, f16};
use std::io::Write;

/// Pretends to have some threads; the tasks run backwards.
pub struct Fake(pub usize);

impl Parallel for Fake {
    fn threads(&self) -> usize {
        self.0
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) -> Result<(), crate::Error> {
        (0..tasks).rev().for_each(task);
        Ok(())
    }
}

/// Writes a number, rounded to this type, to the bytes of an element.
pub fn write(dtype: DType, to: &mut [u8], x: f64) {
    match dtype {
        DType::F32 => to.copy_from_slice(&(x as f32).to_ne_bytes()),
        DType::BF16 => to.copy_from_slice(&bf16::from_f64(x).to_ne_bytes()),
        DType::F16 => to.copy_from_slice(&f16::from_f64(x).to_ne_bytes()),
        DType::U8 => to[0] = x as u8,
        DType::I8 => to[0] = x as i8 as u8,
        DType::I32 => to.copy_from_slice(&(x as i32).to_ne_bytes()),
        DType::Bool => to[0] = u8::from(x != 0.0),
        other => panic!("{other}"),
    }
}

/// Reads an element of a test's own tensor.
pub fn read(dtype: DType, at: *const u8) -> f64 {
    // SAFETY: tests pass elements of their own tensors.
    unsafe {
        match dtype {
            DType::F32 => at.cast::<f32>().read_unaligned().into(),
            DType::BF16 => at.cast::<bf16>().read_unaligned().to_f64(),
            DType::F16 => at.cast::<f16>().read_unaligned().to_f64(),
            DType::U8 | DType::Bool => at.read().into(),
            DType::I8 => at.cast::<i8>().read().into(),
            DType::I32 => at.cast::<i32>().read_unaligned().into(),
            other => panic!("{other}"),
        }
    }
}

/// Says what is not tested here, straight to the stream: the test harness keeps what is printed.
pub fn skipped(what: &str) {
    writeln!(std::io::stderr(), "SKIPPED: {what}").unwrap();
}
