//! Products by a B of four bits, with scales and zero points for groups of K. Few rows are summed from the packed elements; for
//! more rows a panel of B becomes floats in cache.

use super::blocking::parts;
use super::convert::{Row, convert, element};
use super::dispatch::{Call, Epilogue};
use super::groups::{Quantised, ROWS, few_rows};
use super::micro::Dot;
use super::micro::groups::Factors;
use super::micro::nibbles::{NibbleDot, RUN, nibble_sums};
use super::pack::Engine;
use super::shape::Product;
use crate::cpu::Isa;
use crate::{DType, Error};
use std::ops::Range;

/// Elements of K at a time of a panel, whole units.
const CHUNK: usize = 64;

/// A matrix `[k, n]` of `(nibble - 8) * scale + zero`, in blocks of columns ([`super::micro::nibbles`]).
#[derive(Clone, Copy, Debug)]
pub struct Nibbles {
    /// The first block.
    pub data: *const u8,
    /// Columns of a block, 32 or 64.
    pub columns: usize,
    /// Elements of K that share factors; K is whole groups.
    pub size: usize,
    /// `[groups, n, 2]`: scale and zero point of each column.
    pub factors: *const u8,
    /// Their type.
    pub dtype: DType,
}

// SAFETY: addresses; whoever makes a product promises that its memory is valid during the call.
unsafe impl Send for Nibbles {}
// SAFETY: as above; nobody writes there.
unsafe impl Sync for Nibbles {}

impl Nibbles {
    /// Whether there are kernels for such a matrix.
    pub fn takes([n, k]: [usize; 2], columns: usize, size: usize, isa: Isa) -> bool {
        let blocks = matches!(columns, 32 | 64) && n.is_multiple_of(columns);
        isa >= Isa::Avx2 && blocks && size > 0 && k.is_multiple_of(size)
    }

    /// Bytes of a block for an element of K.
    fn row(&self) -> usize {
        self.columns / 2
    }

    /// Elements `ks` of 16 columns from `first` on, row by row.
    #[inline(always)]
    unsafe fn rows(
        &self,
        p: [usize; 2],
        first: usize,
        ks: Range<usize>,
        mut row: impl FnMut(usize, &[f32; RUN]),
    ) {
        let [n, k] = p;
        let (block, quarter) = (first / self.columns, first % self.columns / RUN);
        let runs = self.row() / RUN;
        let shift = if quarter < runs { 0 } else { 4 };
        let data = self
            .data
            .wrapping_add(block * k * self.row() + quarter % runs * RUN);
        let mut factors = [[0f32; RUN]; 2];
        for at in ks.clone() {
            if at == ks.start || at.is_multiple_of(self.size) {
                let of = Factors {
                    data: self.factors,
                    dtype: self.dtype,
                    strides: [2, 2 * n as isize],
                };
                let [scales, zeros] = &mut factors;
                for (j, (s, z)) in scales.iter_mut().zip(zeros).enumerate() {
                    let zero = Factors {
                        data: of.data.wrapping_add(self.dtype.size()),
                        ..of
                    };
                    let group = at / self.size;
                    // SAFETY: by contract.
                    (*s, *z) = unsafe { (of.read(first + j, group), zero.read(first + j, group)) };
                }
            }
            // SAFETY: a run of the block's row.
            let bytes = unsafe { *data.add(at * self.row()).cast::<[u8; RUN]>() };
            let float = |j: usize| {
                let q = f32::from(bytes[j] >> shift & 15) - 8.0;
                q * factors[0][j] + factors[1][j]
            };
            row(at - ks.start, &std::array::from_fn(float));
        }
    }

    /// The same, one row after the other.
    unsafe fn floats(&self, isa: Isa, p: [usize; 2], first: usize, ks: Range<usize>, to: *mut f32) {
        #[inline(always)]
        unsafe fn run(n: &Nibbles, p: [usize; 2], first: usize, ks: Range<usize>, to: *mut f32) {
            // SAFETY: by contract.
            unsafe {
                n.rows(p, first, ks, |k, x| {
                    to.add(k * RUN).cast::<[f32; RUN]>().write(*x)
                });
            }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
        unsafe fn wide(n: &Nibbles, p: [usize; 2], first: usize, ks: Range<usize>, to: *mut f32) {
            // SAFETY: by contract.
            unsafe { run(n, p, first, ks, to) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        unsafe fn half(n: &Nibbles, p: [usize; 2], first: usize, ks: Range<usize>, to: *mut f32) {
            // SAFETY: by contract.
            unsafe { run(n, p, first, ks, to) }
        }
        // SAFETY: by contract.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            if isa >= Isa::Avx512 {
                return wide(self, p, first, ks, to);
            } else if isa == Isa::Avx2 {
                return half(self, p, first, ks, to);
            }
            let _ = isa;
            run(self, p, first, ks, to);
        }
    }
}

impl Quantised for Nibbles {
    fn fits(&self, p: &Product, isa: Isa) -> bool {
        Nibbles::takes([p.n, p.k], self.columns, self.size, isa)
            && p.batch.count == 1
            && p.input.is_none()
            && p.alpha == 1.0
            && p.a.dtype.is_float()
            && p.c.dtype == DType::F32
            && p.c.strides[0] >= 0
            && Factors::reads(self.dtype)
    }

    fn few(&self) -> usize {
        ROWS
    }

    unsafe fn dots(&self, p: &Product, call: &Call, done: Epilogue) -> Result<(), Error> {
        let kernels = nibble_sums(call.isa, self.columns)
            .ok_or_else(|| Error::Plan("no kernels for nibbles".into()))?;
        let size = 2 * self.dtype.size();
        let task = |blocks: Range<usize>, (a, a_stride): (*const u8, usize), _: *mut u8| {
            for block in blocks.clone() {
                for rows in parts(p.m, kernels.rows) {
                    let first = block * self.columns;
                    let dot = Dot {
                        k: p.k,
                        a: a.wrapping_add(rows.start * a_stride),
                        a_stride,
                        b: self.data.wrapping_add(block * p.k * self.row()),
                        b_stride: self.row(),
                        c: p.c.at(rows.start, first).cast_mut(),
                        c_stride: p.c.strides[0].unsigned_abs() * 4,
                        cols: self.columns,
                    };
                    let dot = NibbleDot {
                        dot,
                        group: self.size,
                        factors: self.factors.wrapping_add(first * size),
                        dtype: self.dtype,
                        stride: p.n * size,
                    };
                    // SAFETY: by contract; each task has its own columns.
                    unsafe { (kernels.sums)(rows.len(), &dot) };
                }
            }
            let [first, end] = [blocks.start, blocks.end].map(|block| block * self.columns);
            done(0, 0..p.m, first..end);
        };
        // SAFETY: by contract.
        unsafe { few_rows(p, call, p.n / self.columns, 0, &task) }
    }

    unsafe fn panel(
        &self,
        p: &Product,
        engine: &Engine,
        (cols, ks): (Range<usize>, Range<usize>),
        (panel, _): (*mut u8, *mut u8),
    ) {
        let into = element(engine.math, p.a.dtype);
        let (units, per_unit) = (engine.units(ks.len()), engine.math.per_unit());
        let width = engine.kernels.cols;
        for column in (0..width).step_by(RUN) {
            let (first, to) = (cols.start + column, panel.wrapping_add(4 * column));
            let mut floats = [[0f32; RUN]; CHUNK];
            for begin in (0..units).step_by(CHUNK / per_unit) {
                let count = (CHUNK / per_unit).min(units - begin);
                let from = ks.start + begin * per_unit;
                let ks = from..ks.end.min(from + count * per_unit);
                if first < cols.end {
                    // What fills the last unit is nothing.
                    floats[ks.len()..].fill([0.0; RUN]);
                    // SAFETY: by contract.
                    unsafe {
                        self.floats(
                            engine.isa,
                            [p.n, p.k],
                            first,
                            ks,
                            floats.as_mut_ptr().cast(),
                        )
                    };
                }
                let rows = &floats[..count * per_unit];
                let to = to.wrapping_add(4 * begin * width);
                // SAFETY: by contract; the panel has whole runs.
                unsafe { units_of(engine.isa, rows, into, to.cast(), width) };
            }
        }
    }
}

/// Writes runs of units of one f32, or two of a narrower type, `width` units apart. There are 64 rows at most.
unsafe fn units_of(isa: Isa, rows: &[[f32; RUN]], into: DType, to: *mut u32, width: usize) {
    let place = |unit: usize, units: [u32; RUN]| {
        // SAFETY: by contract.
        unsafe {
            to.add(unit * width)
                .cast::<[u32; RUN]>()
                .write_unaligned(units)
        };
    };
    if into == DType::F32 {
        for (unit, row) in rows.iter().enumerate() {
            place(unit, row.map(f32::to_bits));
        }
        return;
    }
    let mut halves = [[0u16; RUN]; CHUNK];
    let all = Row {
        from: rows.as_ptr().cast(),
        dtype: DType::F32,
        stride: 1,
        len: rows.as_flattened().len(),
        to: halves.as_mut_ptr().cast(),
        into,
    };
    // SAFETY: both hold as many elements.
    unsafe { convert(isa, &all) };
    for (unit, pair) in halves[..rows.len()].chunks_exact(2).enumerate() {
        let of = |j: usize| u32::from(pair[0][j]) | u32::from(pair[1][j]) << 16;
        place(unit, std::array::from_fn(of));
    }
}
