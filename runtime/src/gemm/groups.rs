//! Products by a quantised B whose scales change along K. Few rows are dot products that read the quantised elements; for more
//! rows a panel of B becomes floats in cache.

use super::blocking::{part, parts};
use super::convert::{Row, convert, element};
use super::dispatch::{Call, Epilogue};
use super::micro::groups::{Factors, GRAIN, GroupDot, GroupDots, group_dots};
use super::micro::{Dot, Math, Transpose};
use super::pack::Engine;
use super::scratch;
use super::shape::{Matrix, Product};
use crate::cpu::Isa;
use crate::{DType, Error};
use std::ops::Range;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Rows up to which products are dot products.
const ROWS: usize = 16;

/// Multiply-adds that are worth a thread.
const WORK: usize = 1 << 18;

/// A matrix `[k, n]` of `(bytes - zeros) * scales`.
#[derive(Clone, Copy, Debug)]
pub struct Groups {
    /// i8 or u8, whose columns lie along K.
    pub bytes: Matrix,
    /// Elements of K that share a scale; K is whole groups.
    pub size: usize,
    /// By which bytes are multiplied.
    pub scales: Factors,
    /// What is taken off them before.
    pub zeros: Option<Factors>,
}

impl Groups {
    /// Whether there are kernels for groups of this size.
    pub fn takes(size: usize, isa: Isa) -> bool {
        isa >= Isa::Avx2 && size > 0 && size.is_multiple_of(GRAIN)
    }

    /// Whether this is a B for the product.
    pub(super) fn fits(&self, p: &Product, isa: Isa) -> bool {
        let bytes = matches!(self.bytes.dtype, DType::I8 | DType::U8);
        let zeros = self.zeros.is_none_or(|z| Factors::reads(z.dtype));
        Groups::takes(self.size, isa)
            && p.k.is_multiple_of(self.size)
            && p.batch.count == 1
            && p.input.is_none()
            && p.alpha == 1.0
            && p.a.dtype.is_float()
            && p.c.dtype == DType::F32
            && p.c.strides[0] >= 0
            && bytes
            && (self.bytes.strides[0] == 1 || p.k <= 1)
            && self.bytes.strides[1] >= 0
            && Factors::reads(self.scales.dtype)
            && zeros
    }

    /// Whether so few rows are dot products.
    pub(super) fn has_few(p: &Product) -> bool {
        p.m <= ROWS
    }

    /// Dot products of few rows.
    ///
    /// # Safety
    /// As of [`super::multiply`].
    pub(super) unsafe fn dots(
        &self,
        p: &Product,
        call: &Call,
        done: Epilogue,
    ) -> Result<(), Error> {
        let engine = Engine::new(call.isa, Math::F32)?;
        let signed = self.bytes.dtype == DType::I8;
        let kernels = group_dots(call.isa, signed)
            .ok_or_else(|| Error::Plan("no kernels for groups".into()))?;
        let tasks = (p.m * p.n * p.k / WORK).clamp(1, call.threads.threads());
        let in_place = p.m == 1 && p.a.dtype == DType::F32 && (p.a.strides[1] == 1 || p.k <= 1);
        let task = |n: usize| {
            let cols = part(p.n, tasks, n);
            if cols.is_empty() {
                return;
            }
            // An odd number of cache lines spreads rows over all sets, beside B's columns.
            let row = ((4 * p.k).div_ceil(LINE) | 1) * LINE;
            scratch::with([if in_place { 0 } else { row * p.m }], |[floats]| {
                let (a, a_stride) = if in_place {
                    (p.a.data, 0)
                } else {
                    // SAFETY: by contract; the copy has room for all rows.
                    unsafe { engine.rows(&p.a, 0..p.m, 0..p.k, floats, row) };
                    (floats.cast_const(), row)
                };
                let dot = Dot {
                    k: p.k,
                    a,
                    a_stride,
                    b: self.bytes.data,
                    b_stride: self.bytes.strides[1].unsigned_abs(),
                    c: p.c.data.cast_mut(),
                    c_stride: p.c.strides[0].unsigned_abs() * 4,
                    cols: p.n,
                };
                let dot = GroupDot {
                    dot,
                    group: self.size,
                    scales: self.scales,
                    zeros: self.zeros,
                };
                // SAFETY: by contract; each task has its own columns.
                unsafe { each_rows(p.m, &kernels, &dot.from(cols.start), cols.len()) };
            });
            done(0, 0..p.m, cols);
        };
        call.threads.run(tasks, &task)
    }

    /// As [`Engine::panel`].
    ///
    /// # Safety
    /// As there.
    pub(super) unsafe fn panel(
        &self,
        engine: &Engine,
        into: DType,
        (cols, ks): (Range<usize>, Range<usize>),
        (panel, spare): (*mut u8, *mut u8),
    ) {
        let into = element(engine.math, into);
        let units = engine.units(ks.len());
        for (n, j) in cols.clone().enumerate() {
            let to = spare.wrapping_add(n * 4 * units);
            // SAFETY: by contract; `spare` has a line for each column.
            unsafe {
                self.line(engine.isa, j, ks.clone(), to, into);
                let missing = (units * engine.math.per_unit() - ks.len()) * into.size();
                to.add(ks.len() * into.size()).write_bytes(0, missing);
            }
        }
        let work = Transpose {
            panel: panel.cast(),
            panel_stride: engine.kernels.cols,
            rows: spare,
            row_stride: 4 * units as isize,
            cols: cols.len(),
            units,
            fill: engine.kernels.cols,
        };
        // SAFETY: by contract.
        unsafe { (engine.kernels.transpose)(&work) };
    }

    /// Elements of a column, as floats of a type.
    unsafe fn line(&self, isa: Isa, j: usize, ks: Range<usize>, to: *mut u8, into: DType) {
        const CHUNK: usize = 256;
        let mut floats = [0f32; CHUNK];
        let mut k = ks.start;
        while k < ks.end {
            let group = k / self.size;
            let len = ((group + 1) * self.size).min(ks.end).min(k + CHUNK) - k;
            let at = to.wrapping_add((k - ks.start) * into.size());
            // SAFETY: by contract.
            unsafe {
                let zero = self.zeros.map_or(0.0, |z| z.read(j, group));
                let work = Segment {
                    from: self.bytes.at(k, j),
                    signed: self.bytes.dtype == DType::I8,
                    scale: self.scales.read(j, group),
                    zero,
                    len,
                };
                if into == DType::F32 {
                    work.run(isa, at.cast());
                } else {
                    work.run(isa, floats.as_mut_ptr());
                    let row = Row {
                        from: floats.as_ptr().cast(),
                        dtype: DType::F32,
                        stride: 1,
                        len,
                        to: at,
                        into,
                    };
                    convert(isa, &row);
                }
            }
            k += len;
        }
    }
}

/// Bytes of one group and column.
struct Segment {
    from: *const u8,
    signed: bool,
    scale: f32,
    zero: f32,
    len: usize,
}

impl Segment {
    unsafe fn run(&self, isa: Isa, to: *mut f32) {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
        unsafe fn wide(s: &Segment, to: *mut f32) {
            // SAFETY: by contract.
            unsafe { s.floats(to) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2")]
        unsafe fn vectors(s: &Segment, to: *mut f32) {
            // SAFETY: by contract.
            unsafe { s.floats(to) }
        }
        // SAFETY: by contract.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            match isa {
                Isa::Scalar => self.floats(to),
                Isa::Avx2 => vectors(self, to),
                _ => wide(self, to),
            }
            #[cfg(not(target_arch = "x86_64"))]
            {
                let _ = isa;
                self.floats(to)
            }
        }
    }

    #[inline(always)]
    unsafe fn floats(&self, to: *mut f32) {
        let &Segment {
            scale, zero, len, ..
        } = self;
        // SAFETY: by contract.
        let to = unsafe { std::slice::from_raw_parts_mut(to, len) };
        if self.signed {
            // SAFETY: by contract.
            let from = unsafe { std::slice::from_raw_parts(self.from.cast::<i8>(), len) };
            let of = |&x: &i8| (f32::from(x) - zero) * scale;
            to.iter_mut().zip(from).for_each(|(t, x)| *t = of(x));
        } else {
            // SAFETY: by contract.
            let from = unsafe { std::slice::from_raw_parts(self.from, len) };
            let of = |&x: &u8| (f32::from(x) - zero) * scale;
            to.iter_mut().zip(from).for_each(|(t, x)| *t = of(x));
        }
    }
}

/// Dot products of any number of rows by `cols` columns: with a few columns at a time, which are in cache from the second time on.
unsafe fn each_rows(m: usize, kernels: &GroupDots, dot: &GroupDot, cols: usize) {
    /// Columns that the first cache holds beside rows of A.
    const COLUMNS: usize = 12;
    let step = if m <= kernels.rows { cols } else { COLUMNS };
    for j in (0..cols).step_by(step.max(1)) {
        for rows in parts(m, kernels.rows) {
            let mut dot = dot.from(j);
            dot.dot.a = dot.a.wrapping_add(rows.start * dot.a_stride);
            dot.dot.c = dot.c.wrapping_add(rows.start * dot.c_stride);
            dot.dot.cols = step.min(cols - j);
            // SAFETY: by contract.
            unsafe { (kernels.bytes)(rows.len(), &dot) };
        }
    }
}
