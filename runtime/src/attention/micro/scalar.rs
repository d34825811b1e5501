//! The reference for every processor.

use super::{EXPM1, Kernels, LEAST, LN2, RowMask, Scores, Sums, Weigh, pairs_loop};
use half::bf16;

pub static KERNELS: Kernels = Kernels {
    softmax,
    scale,
    narrow: None,
    pairs: pairs_loop,
    weigh_f32,
    weigh_bf16,
};

/// e^x for x <= 0, +inf or NaN; 0 where it is below the least normal number.
fn exp(x: f32) -> f32 {
    if x < LEAST {
        return 0.0;
    }
    let k = (x * std::f32::consts::LOG2_E).round_ties_even();
    let r = k.mul_add(-LN2[1], k.mul_add(-LN2[0], x));
    let p = EXPM1.iter().rev().fold(0.0f32, |p, &c| p.mul_add(r, c));
    let e = 1.0 + (r * r).mul_add(p, r);
    let power = (k as i32).wrapping_add(127) << 23;
    e * f32::from_bits(power.cast_unsigned())
}

/// The score with its mask.
unsafe fn score(s: &Scores, j: usize) -> f32 {
    // SAFETY: by contract.
    unsafe {
        let x = s.data.add(j).read() * s.scale;
        match s.mask {
            RowMask::None => x,
            RowMask::Add(mask) => x + mask.add(j).read(),
            RowMask::Bool(mask) if mask.add(j).read() == 0 => x + f32::NEG_INFINITY,
            RowMask::Keep(mask, other) if mask.add(j).read() == 0 => other,
            RowMask::Bool(_) | RowMask::Keep(..) => x,
        }
    }
}

/// See [`Kernels::softmax`].
unsafe fn softmax(rows: &[Scores], sums: &mut [Sums]) {
    for (s, to) in rows.iter().zip(sums) {
        // SAFETY: by contract.
        *to = unsafe { row(s) };
    }
}

unsafe fn row(s: &Scores) -> Sums {
    let mut max = s.max;
    let mut sum = 0.0;
    // SAFETY: by contract. A narrow weight is written over scores that have been read.
    unsafe {
        for j in 0..s.len {
            let x = score(s, j);
            s.data.add(j).write(x);
            max = max.max(x);
        }
        let base = Sums::base(max);
        for j in 0..s.fill {
            let weight = if j < s.len {
                exp(s.data.add(j).read() - base)
            } else {
                0.0
            };
            sum += weight;
            if s.narrow {
                s.data.cast::<bf16>().add(j).write(bf16::from_f32(weight));
            } else {
                s.data.add(j).write(weight);
            }
        }
    }
    Sums { max, sum }
}

unsafe fn scale(to: *mut f32, from: *const f32, len: usize, factor: f32) {
    for j in 0..len {
        // SAFETY: by contract.
        unsafe { to.add(j).write(from.add(j).read() * factor) };
    }
}

unsafe fn weigh_f32(rows: usize, w: &Weigh) {
    // SAFETY: by contract.
    unsafe { weigh(rows, w, |v: *const f32| v.read()) }
}

unsafe fn weigh_bf16(rows: usize, w: &Weigh) {
    // SAFETY: by contract.
    unsafe { weigh(rows, w, |v: *const bf16| v.read().to_f32()) }
}

unsafe fn weigh<T>(rows: usize, w: &Weigh, load: impl Fn(*const T) -> f32) {
    for key in 0..w.keys {
        let v = w.v.wrapping_offset(key as isize * w.v_stride).cast::<T>();
        for r in 0..rows {
            let out = w.out.wrapping_byte_add(r * w.out_stride);
            let weights = w.weights.wrapping_byte_add(r * w.weights_stride);
            for j in 0..w.width {
                // SAFETY: by contract.
                unsafe { *out.add(j) += weights.add(key).read() * load(v.add(j)) };
            }
        }
    }
}
