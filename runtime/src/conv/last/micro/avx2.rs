//! AVX2 and FMA: up to 7 sums of 8 channels.

use super::{Bf16, Channels, F32 as Floats, Kernel, Vector, channels, scalar};
use std::arch::x86_64::*;

pub static F32: [Kernel; 2] = [(8, floats), scalar::F32[0]];
pub static BF16: [Kernel; 2] = [(8, bf16s), scalar::BF16[0]];

#[derive(Clone, Copy)]
struct V(__m256);

impl Vector for V {
    #[inline(always)]
    unsafe fn zero() -> V {
        // SAFETY: by contract.
        V(unsafe { _mm256_setzero_ps() })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> V {
        // SAFETY: by contract.
        V(unsafe { _mm256_loadu_ps(from) })
    }
    #[inline(always)]
    unsafe fn widen(from: *const u16) -> V {
        // SAFETY: by contract.
        unsafe {
            let x = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            V(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(x)))
        }
    }
    #[inline(always)]
    unsafe fn add_product(self, x: V, y: V) -> V {
        // SAFETY: by contract.
        V(unsafe { _mm256_fmadd_ps(x.0, y.0, self.0) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: by contract.
        unsafe { _mm256_storeu_ps(to, self.0) }
    }
    /// To the nearest, ties to even; a NaN stays one.
    #[inline(always)]
    unsafe fn round(self, to: *mut u16) {
        // SAFETY: by contract.
        unsafe {
            let bits = _mm256_castps_si256(self.0);
            let high = _mm256_srli_epi32::<16>(bits);
            let odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
            let up = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
            let rounded = _mm256_srli_epi32::<16>(_mm256_add_epi32(bits, up));
            let quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
            let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(self.0, self.0));
            let x = _mm256_blendv_epi8(rounded, quiet, nan);
            let low = _mm256_castsi256_si128(x);
            let x = _mm_packus_epi32(low, _mm256_extracti128_si256::<1>(x));
            _mm_storeu_si128(to.cast(), x);
        }
    }
}

channels!(floats, V, Floats, "avx2,fma",);
channels!(bf16s, V, Bf16, "avx2,fma",);
