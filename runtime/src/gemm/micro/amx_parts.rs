//! AMX for f32: the products of elements that are sums of two or three bf16 ([`Math::parts`]), in two by two tile registers of sums.
//!
//! A register of operands serves all products that it can before the next is loaded: 14 loads for 24 products of three
//! parts, 8 for 12 of two, where plain bf16 has 16 for 16.
//!
//! [`Math::parts`]: super::Math::parts

use super::amx::{LINE, Registers, SIDE};

/// Adds the products of 16 units. A and B: address and stride, in which all parts of a row lie one after the other.
///
/// Operands are zeroed after their last use, as for plain bf16.
///
/// # Safety
/// As of [`Registers`].
#[inline(always)]
pub(super) unsafe fn multiply<T: Registers, const LOWER: bool, const RIGHT: bool>(
    a: [usize; 2],
    b: [usize; 2],
) {
    // SAFETY: by the caller's contract.
    unsafe {
        if T::PARTS == 3 {
            load_a::<T, LOWER>(a, 0);
            load_b::<T, RIGHT>(b, 2);
            products::<T, LOWER, RIGHT>();
            next_b::<T, RIGHT>(b, 1);
            products::<T, LOWER, RIGHT>();
            next_a::<T, LOWER>(a, 1);
            products::<T, LOWER, RIGHT>();
            next_b::<T, RIGHT>(b, 0);
            products::<T, LOWER, RIGHT>();
            next_a::<T, LOWER>(a, 2);
            products::<T, LOWER, RIGHT>();
            next_a::<T, LOWER>(a, 0);
            products::<T, LOWER, RIGHT>();
        } else {
            load_a::<T, LOWER>(a, 0);
            load_b::<T, RIGHT>(b, 1);
            products::<T, LOWER, RIGHT>();
            next_b::<T, RIGHT>(b, 0);
            products::<T, LOWER, RIGHT>();
            next_a::<T, LOWER>(a, 1);
            products::<T, LOWER, RIGHT>();
        }
        free_a::<T, LOWER>();
        free_b::<T, RIGHT>();
    }
}

/// The products of what is loaded.
#[inline(always)]
unsafe fn products<T: Registers, const LOWER: bool, const RIGHT: bool>() {
    // SAFETY: by contract.
    unsafe {
        T::multiply::<0, 4, 6>();
        if RIGHT {
            T::multiply::<1, 4, 7>();
        }
        if LOWER {
            T::multiply::<2, 5, 6>();
        }
        if LOWER && RIGHT {
            T::multiply::<3, 5, 7>();
        }
    }
}

#[inline(always)]
unsafe fn load_a<T: Registers, const LOWER: bool>([a, stride]: [usize; 2], part: usize) {
    let a = a + part * (stride / T::PARTS);
    // SAFETY: by contract.
    unsafe {
        T::load_a::<4>(a, stride);
        if LOWER {
            T::load_a::<5>(a + SIDE * stride, stride);
        }
    }
}

#[inline(always)]
unsafe fn load_b<T: Registers, const RIGHT: bool>([b, stride]: [usize; 2], part: usize) {
    let b = b + part * (stride / T::PARTS);
    // SAFETY: by contract.
    unsafe {
        T::load_b::<6>(b, stride);
        if RIGHT {
            T::load_b::<7>(b + LINE, stride);
        }
    }
}

#[inline(always)]
unsafe fn next_a<T: Registers, const LOWER: bool>(a: [usize; 2], part: usize) {
    // SAFETY: by contract.
    unsafe {
        free_a::<T, LOWER>();
        load_a::<T, LOWER>(a, part);
    }
}

#[inline(always)]
unsafe fn next_b<T: Registers, const RIGHT: bool>(b: [usize; 2], part: usize) {
    // SAFETY: by contract.
    unsafe {
        free_b::<T, RIGHT>();
        load_b::<T, RIGHT>(b, part);
    }
}

#[inline(always)]
unsafe fn free_a<T: Registers, const LOWER: bool>() {
    // SAFETY: by contract.
    unsafe {
        T::zero::<4>();
        if LOWER {
            T::zero::<5>();
        }
    }
}

#[inline(always)]
unsafe fn free_b<T: Registers, const RIGHT: bool>() {
    // SAFETY: by contract.
    unsafe {
        T::zero::<6>();
        if RIGHT {
            T::zero::<7>();
        }
    }
}
