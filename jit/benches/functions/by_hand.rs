//! What a person would write for AVX-512: loops over vectors, two at a time by the compiler's unrolling.

use ipex_jit::math::{exp_table, pow_table, tables};
use std::arch::x86_64::*;

/// `y[i] = f(x[i])`; lengths are multiples of 64.
pub type Loop = unsafe fn(&[f32], &mut [f32]);

macro_rules! loops {
    ($($name:ident $vector:ident),*) => {$(
        /// The function on all elements.
        ///
        /// # Safety
        /// The processor has AVX-512 F and DQ.
        #[target_feature(enable = "avx512f,avx512dq")]
        pub unsafe fn $name(x: &[f32], y: &mut [f32]) {
            for (x, y) in x.chunks_exact(64).zip(y.chunks_exact_mut(64)) {
                for k in (0..64).step_by(16) {
                    // SAFETY: 16 of 64 elements.
                    unsafe {
                        let v = _mm512_loadu_ps(x.as_ptr().add(k));
                        _mm512_storeu_ps(y.as_mut_ptr().add(k), $vector(v));
                    }
                }
            }
        }
    )*};
}
loops! { exp exp_v, tanh tanh_v, erf erf_v, sin sin_v }

#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn poly(c: &[f32], x: __m512) -> __m512 {
    let mut sum = _mm512_set1_ps(c[c.len() - 1]);
    for &c in c[..c.len() - 1].iter().rev() {
        sum = _mm512_fmadd_ps(sum, x, _mm512_set1_ps(c));
    }
    sum
}

#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn exp_v(x: __m512) -> __m512 {
    // Also of a NaN.
    let above = _mm512_cmp_ps_mask::<_CMP_NLE_UQ>(x, _mm512_set1_ps(-104.5));
    // The second operand is the result for NaN.
    let x = _mm512_min_ps(_mm512_set1_ps(89.0), x);
    let shift = _mm512_set1_ps(pow_table::SIXTEENTHS);
    let shifted = _mm512_fmadd_ps(x, _mm512_set1_ps(std::f32::consts::LOG2_E), shift);
    let k = _mm512_sub_ps(shifted, shift);
    let d = _mm512_fnmadd_ps(k, _mm512_set1_ps(std::f32::consts::LN_2), x);
    let d = _mm512_fmadd_ps(k, _mm512_set1_ps(1.904_654_2e-9), d);
    // SAFETY: 16 elements.
    let table = unsafe { _mm512_loadu_ps(pow_table::EXP2.as_ptr()) };
    let t = _mm512_permutexvar_ps(_mm512_castps_si512(shifted), table);
    let y = _mm512_fmadd_ps(_mm512_mul_ps(d, t), poly(&exp_table::P, d), t);
    _mm512_maskz_scalef_ps(above, y, k)
}

/// A table's polynomial, without its constant, and the constant.
#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn chosen(table: &[[f32; 16]], shifted: __m512, d: __m512) -> (__m512, __m512) {
    let i = _mm512_castps_si512(shifted);
    // SAFETY: 16 elements each.
    let at = |k: usize| unsafe { _mm512_permutexvar_ps(i, _mm512_loadu_ps(table[k].as_ptr())) };
    let mut p = at(table.len() - 1);
    for k in (1..table.len() - 1).rev() {
        p = _mm512_fmadd_ps(p, d, at(k));
    }
    (p, at(0))
}

/// `y` with the sign of `x`.
#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn signed(y: __m512, x: __m512) -> __m512 {
    let (y, x) = (_mm512_castps_si512(y), _mm512_castps_si512(x));
    let sign = _mm512_set1_epi32(i32::MIN);
    _mm512_castsi512_ps(_mm512_ternarylogic_epi32::<0xD8>(y, x, sign))
}

#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn tanh_v(x: __m512) -> __m512 {
    let t = _mm512_min_ps(_mm512_set1_ps(9.6), _mm512_abs_ps(x));
    let shift = _mm512_set1_ps(12_582_912.0);
    let shifted = _mm512_fmadd_ps(t, _mm512_set1_ps(1.6), shift);
    let at = _mm512_sub_ps(shifted, shift);
    let d = _mm512_fnmadd_ps(at, _mm512_set1_ps(0.625), t);
    let (p, constant) = chosen(&tables::TANH, shifted, d);
    signed(_mm512_fmadd_ps(p, d, constant), x)
}

#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn erf_v(x: __m512) -> __m512 {
    let end = _mm512_set1_ps(3.875f32.next_down());
    let t = _mm512_min_ps(end, _mm512_abs_ps(x));
    let shift = _mm512_set1_ps(3_145_728.0);
    let shifted = _mm512_add_ps(t, shift);
    let d = _mm512_sub_ps(t, _mm512_sub_ps(shifted, shift));
    let (p, constant) = chosen(&tables::ERF, shifted, d);
    let constant = _mm512_fmadd_ps(d, _mm512_set1_ps(tables::ERF_SLOPE), constant);
    signed(_mm512_fmadd_ps(p, d, constant), x)
}

/// For |x| below 2^15 alone.
#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn sin_v(x: __m512) -> __m512 {
    const SIN: [f32; 3] = [-0.166_666_55, 0.008_332_187, -0.000_195_178_95];
    const COS: [f32; 3] = [0.041_666_646, -0.001_388_731, 2.443_233e-5];
    let n = _mm512_mul_ps(x, _mm512_set1_ps(std::f32::consts::FRAC_2_PI));
    let n = _mm512_roundscale_ps::<8>(n);
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(1.570_797), x);
    let r = _mm512_fmadd_ps(n, _mm512_set1_ps(6.397_579e-7), r);
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(6.223_372e-14), r);
    let i = _mm512_cvtps_epi32(n);
    let r2 = _mm512_mul_ps(r, r);
    let sin = _mm512_fmadd_ps(_mm512_mul_ps(r2, poly(&SIN, r2)), r, r);
    let cos = _mm512_fmadd_ps(poly(&COS, r2), r2, _mm512_set1_ps(-0.5));
    let cos = _mm512_fmadd_ps(cos, r2, _mm512_set1_ps(1.0));
    let odd = _mm512_test_epi32_mask(i, _mm512_set1_epi32(1));
    let y = _mm512_mask_blend_ps(odd, sin, cos);
    let flip = _mm512_slli_epi32::<30>(_mm512_and_epi32(i, _mm512_set1_epi32(2)));
    _mm512_xor_ps(y, _mm512_castsi512_ps(flip))
}
