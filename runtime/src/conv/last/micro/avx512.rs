//! AVX-512: up to 14 sums of 16 channels; what is left of the channels goes to AVX2's.

use super::{Bf16, Channels, F32 as Floats, Kernel, Vector, avx2, channels, scalar};
use std::arch::x86_64::*;

pub static F32: [Kernel; 3] = [(16, floats), avx2::F32[0], scalar::F32[0]];
pub static BF16: [Kernel; 3] = [(16, bf16s), avx2::BF16[0], scalar::BF16[0]];

#[derive(Clone, Copy)]
struct V(__m512);

impl Vector for V {
    #[inline(always)]
    unsafe fn zero() -> V {
        // SAFETY: by contract.
        V(unsafe { _mm512_setzero_ps() })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> V {
        // SAFETY: by contract.
        V(unsafe { _mm512_loadu_ps(from) })
    }
    #[inline(always)]
    unsafe fn widen(from: *const u16) -> V {
        // SAFETY: by contract.
        unsafe {
            let x = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            V(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(x)))
        }
    }
    #[inline(always)]
    unsafe fn add_product(self, x: V, y: V) -> V {
        // SAFETY: by contract.
        V(unsafe { _mm512_fmadd_ps(x.0, y.0, self.0) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: by contract.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn round(self, to: *mut u16) {
        // SAFETY: by contract; both types are 256 bits.
        unsafe {
            let x = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(self.0));
            _mm256_storeu_si256(to.cast(), x);
        }
    }
}

channels!(floats, V, Floats, "avx512f", 14);
channels!(bf16s, V, Bf16, "avx512f,avx512bw,avx512vl,avx512bf16", 14);
