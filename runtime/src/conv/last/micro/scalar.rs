//! One channel, without vector instructions.

use super::{Bf16, Channels, F32 as Floats, Kernel, Vector, walk};
use crate::gemm::round_to_bf16;

pub const F32: [Kernel; 1] = [(1, floats)];
pub const BF16: [Kernel; 1] = [(1, bf16s)];

#[derive(Clone, Copy)]
struct V(f32);

impl Vector for V {
    #[inline(always)]
    unsafe fn zero() -> V {
        V(0.0)
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> V {
        // SAFETY: by contract.
        V(unsafe { from.read_unaligned() })
    }
    #[inline(always)]
    unsafe fn widen(from: *const u16) -> V {
        // SAFETY: by contract.
        let bits = unsafe { from.read_unaligned() };
        V(f32::from_bits(u32::from(bits) << 16))
    }
    #[inline(always)]
    unsafe fn add_product(self, x: V, y: V) -> V {
        V(self.0 + x.0 * y.0)
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: by contract.
        unsafe { to.write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn round(self, to: *mut u16) {
        // SAFETY: by contract.
        unsafe { to.write_unaligned(round_to_bf16(self.0)) }
    }
}

unsafe fn floats(c: &Channels) {
    // SAFETY: by contract.
    unsafe { of::<Floats>(c) }
}

unsafe fn bf16s(c: &Channels) {
    // SAFETY: by contract.
    unsafe { of::<Bf16>(c) }
}

/// Any window, tap by tap.
unsafe fn of<E: super::Element>(c: &Channels) {
    // SAFETY: by contract.
    unsafe {
        if c.size[1] >= 4 {
            walk::<V, E, 1, 1, 4>(c)
        } else {
            walk::<V, E, 1, 1, 1>(c)
        }
    }
}
