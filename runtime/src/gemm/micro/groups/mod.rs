//! Dot products of few rows of f32 by quantised columns whose scales change along K, in groups: an element becomes
//! `byte * scale - zero * scale` in a register, where it is multiplied.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use super::Dot;
use crate::DType;
use crate::cpu::Isa;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use std::ops::Deref;

/// Groups are multiples of so many elements: of the widest vector.
pub const GRAIN: usize = 16;

/// Numbers, one for each column of B and group of K.
#[derive(Clone, Copy, Debug)]
pub struct Factors {
    /// That of the first column and group.
    pub data: *const u8,
    /// f32, bf16 or f16.
    pub dtype: DType,
    /// Elements between columns, and between groups.
    pub strides: [isize; 2],
}

// SAFETY: an address; those who read there say that they may.
unsafe impl Send for Factors {}
// SAFETY: as above.
unsafe impl Sync for Factors {}

impl Factors {
    /// Whether numbers of this type are read.
    pub fn reads(dtype: DType) -> bool {
        matches!(dtype, DType::F32 | DType::BF16 | DType::F16)
    }

    /// That of a column and group.
    pub fn at(&self, column: usize, group: usize) -> *const u8 {
        let at = column as isize * self.strides[0] + group as isize * self.strides[1];
        self.data.wrapping_offset(at * self.dtype.size() as isize)
    }

    /// Those of a column, from the first group on.
    ///
    /// # Safety
    /// They are valid memory.
    #[inline(always)]
    pub unsafe fn run(&self, column: usize, to: &mut [f32]) {
        let from = self.at(column, 0);
        match self.dtype {
            _ if self.strides[1] != 1 => {
                for (group, to) in to.iter_mut().enumerate() {
                    // SAFETY: by contract.
                    *to = unsafe { self.read(column, group) };
                }
            }
            DType::BF16 => {
                for (group, to) in to.iter_mut().enumerate() {
                    // SAFETY: by contract.
                    let bits = unsafe { from.cast::<u16>().add(group).read_unaligned() };
                    *to = f32::from_bits(u32::from(bits) << 16);
                }
            }
            DType::F16 => {
                // SAFETY: by contract; elements of a tensor are aligned.
                let from = unsafe { std::slice::from_raw_parts(from.cast::<f16>(), to.len()) };
                from.convert_to_f32_slice(to);
            }
            _ => {
                // SAFETY: by contract.
                unsafe { to.as_mut_ptr().cast::<u8>().copy_from(from, 4 * to.len()) };
            }
        }
    }

    /// One of them.
    ///
    /// # Safety
    /// It is valid memory.
    #[inline(always)]
    pub unsafe fn read(&self, column: usize, group: usize) -> f32 {
        let at = self.at(column, group);
        // SAFETY: by contract.
        unsafe {
            match self.dtype {
                DType::BF16 => bf16::from_bits(at.cast::<u16>().read_unaligned()).to_f32(),
                DType::F16 => f16::from_bits(at.cast::<u16>().read_unaligned()).to_f32(),
                _ => at.cast::<f32>().read_unaligned(),
            }
        }
    }
}

/// The work of one call of [`GroupDots::bytes`]: `c[i, j] = sum_k a[i, k] * (b[k, j] * scales + added)`. A is f32.
#[derive(Clone, Copy, Debug)]
pub struct GroupDot {
    /// The rest of it; K is whole groups.
    pub dot: Dot,
    /// Elements of a group, a multiple of [`GRAIN`].
    pub group: usize,
    /// Of each column, one for each group.
    pub scales: *const f32,
    /// As `scales`.
    pub added: *const f32,
    /// Elements between columns of both.
    pub stride: usize,
}

impl Deref for GroupDot {
    type Target = Dot;

    fn deref(&self) -> &Dot {
        &self.dot
    }
}

impl GroupDot {
    /// The same from column `j` on.
    pub fn from(&self, j: usize) -> GroupDot {
        GroupDot {
            dot: self.dot.from(j),
            scales: self.scales.wrapping_add(j * self.stride),
            added: self.added.wrapping_add(j * self.stride),
            ..*self
        }
    }

    /// The scale of a column and group, and what is added after it.
    ///
    /// # Safety
    /// They are valid memory.
    #[inline(always)]
    unsafe fn factors(&self, column: usize, group: usize) -> [f32; 2] {
        let at = column * self.stride + group;
        // SAFETY: by contract.
        unsafe { [*self.scales.add(at), *self.added.add(at)] }
    }
}

/// Kernels for few rows.
#[derive(Clone, Copy)]
pub struct GroupDots {
    /// Most rows of a call of `bytes`.
    pub rows: usize,
    /// Computes `1..=rows` rows of dot products by i8 (or u8) whose columns lie along K.
    ///
    /// # Safety
    /// The processor has the instruction set, and the pointers and strides address memory that is valid for what the
    /// fields say.
    pub bytes: unsafe fn(rows: usize, dot: &GroupDot),
}

/// The kernels for bytes of this type; none if the instruction set has none.
pub fn group_dots(isa: Isa, signed: bool) -> Option<GroupDots> {
    #[cfg(target_arch = "x86_64")]
    {
        match isa {
            Isa::Scalar => None,
            Isa::Avx2 => Some(avx2::dots(signed)),
            _ => Some(avx512::dots(signed)),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (isa, signed);
        None
    }
}
