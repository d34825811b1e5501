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
pub(super) const ROWS: usize = 16;

/// Columns at a time of dot products, whose factors the first cache holds beside rows of A: whole calls for any number of rows.
const COLUMNS: usize = 12;

/// Multiply-adds that are worth a thread.
const WORK: usize = 1 << 18;

/// A B that is no matrix of numbers in memory: what its elements become where they are multiplied.
pub trait Quantised: Sync {
    /// Whether this is a B for the product.
    fn fits(&self, p: &Product, isa: Isa) -> bool;

    /// Rows up to which [`Quantised::dots`] is fastest.
    fn few(&self) -> usize;

    /// A product of few rows.
    ///
    /// # Safety
    /// As of [`super::multiply`].
    unsafe fn dots(&self, p: &Product, call: &Call, done: Epilogue) -> Result<(), Error>;

    /// As [`Engine::panel`].
    ///
    /// # Safety
    /// As there.
    unsafe fn panel(
        &self,
        p: &Product,
        engine: &Engine,
        part: (Range<usize>, Range<usize>),
        memory: (*mut u8, *mut u8),
    );
}

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

    /// Scales of columns, one for each group, one column after the other, and what is added after them (nothing without zero
    /// points).
    ///
    /// # Safety
    /// `to` holds them, and the processor has the instruction set.
    unsafe fn factors(&self, isa: Isa, cols: Range<usize>, groups: usize, to: [*mut f32; 2]) {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
        unsafe fn wide(g: &Groups, cols: Range<usize>, groups: usize, to: [*mut f32; 2]) {
            // SAFETY: by contract.
            unsafe { g.columns(cols, groups, to) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c")]
        unsafe fn half(g: &Groups, cols: Range<usize>, groups: usize, to: [*mut f32; 2]) {
            // SAFETY: by contract.
            unsafe { g.columns(cols, groups, to) }
        }
        // SAFETY: by contract.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            if isa >= Isa::Avx512 {
                return wide(self, cols, groups, to);
            } else if isa == Isa::Avx2 {
                return half(self, cols, groups, to);
            }
            let _ = isa;
            self.columns(cols, groups, to);
        }
    }

    #[inline(always)]
    unsafe fn columns(&self, cols: Range<usize>, groups: usize, [scales, added]: [*mut f32; 2]) {
        for (n, j) in cols.enumerate() {
            // SAFETY: by contract.
            unsafe {
                let scales = std::slice::from_raw_parts_mut(scales.add(n * groups), groups);
                self.scales.run(j, scales);
                let Some(zeros) = &self.zeros else {
                    continue;
                };
                let added = std::slice::from_raw_parts_mut(added.add(n * groups), groups);
                zeros.run(j, added);
                for (a, s) in added.iter_mut().zip(scales) {
                    // A scale that is not finite would make a NaN of a zero point that is not there.
                    *a = if *a == 0.0 { 0.0 } else { -*a * *s };
                }
            }
        }
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

impl Quantised for Groups {
    fn fits(&self, p: &Product, isa: Isa) -> bool {
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

    fn few(&self) -> usize {
        ROWS
    }

    unsafe fn dots(&self, p: &Product, call: &Call, done: Epilogue) -> Result<(), Error> {
        let signed = self.bytes.dtype == DType::I8;
        let kernels = group_dots(call.isa, signed)
            .ok_or_else(|| Error::Plan("no kernels for groups".into()))?;
        let groups = p.k / self.size;
        let factors = 4 * COLUMNS * groups;
        let task = |cols: Range<usize>, (a, a_stride): (*const u8, usize), spare: *mut u8| {
            let (scales, added) = (spare, spare.wrapping_add(factors));
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
            let all = GroupDot {
                dot,
                group: self.size,
                scales: scales.cast(),
                added: added.cast(),
                stride: groups,
            };
            // SAFETY: room for the factors of so many columns.
            unsafe { added.write_bytes(0, factors) };
            for first in cols.clone().step_by(COLUMNS) {
                let cols = first..cols.end.min(first + COLUMNS);
                let mut some = all;
                some.dot = all.dot.from(first);
                some.dot.cols = cols.len();
                // SAFETY: by contract; each task has its own columns, and room for their factors.
                unsafe {
                    self.factors(call.isa, cols, groups, [scales.cast(), added.cast()]);
                    each_rows(p.m, &kernels, &some);
                }
            }
            done(0, 0..p.m, cols);
        };
        // SAFETY: by contract.
        unsafe { few_rows(p, call, p.n, 2 * factors, &task) }
    }

    unsafe fn panel(
        &self,
        p: &Product,
        engine: &Engine,
        (cols, ks): (Range<usize>, Range<usize>),
        (panel, spare): (*mut u8, *mut u8),
    ) {
        let into = element(engine.math, p.a.dtype);
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

/// What a task of few rows computes: its columns (or blocks of them), A's rows as f32 with their stride in bytes, scratch memory.
type Task<'a> = &'a (dyn Fn(Range<usize>, (*const u8, usize), *mut u8) + Sync);

/// Shares `columns` (or blocks of them) over threads, with all rows of A as f32 and `more` bytes of scratch memory for each.
///
/// # Safety
/// As of [`super::multiply`].
pub(super) unsafe fn few_rows(
    p: &Product,
    call: &Call,
    columns: usize,
    more: usize,
    task: Task,
) -> Result<(), Error> {
    let engine = Engine::new(call.isa, Math::F32)?;
    let tasks = (p.m * p.n * p.k / WORK).clamp(1, call.threads.threads());
    let in_place = p.m == 1 && p.a.dtype == DType::F32 && (p.a.strides[1] == 1 || p.k <= 1);
    // An odd number of cache lines spreads rows over all sets, beside B's columns.
    let row = ((4 * p.k).div_ceil(LINE) | 1) * LINE;
    let floats = if in_place { 0 } else { row * p.m };
    call.threads.run(tasks, &|n| {
        let columns = part(columns, tasks, n);
        if columns.is_empty() {
            return;
        }
        scratch::with([floats, more], |[floats, spare]| {
            if in_place {
                return task(columns, (p.a.data, 0), spare);
            }
            // SAFETY: by contract; the copy has room for all rows.
            unsafe { engine.rows(&p.a, 0..p.m, 0..p.k, floats, row) };
            task(columns, (floats, row), spare);
        });
    })
}

/// Dot products of any number of rows, by columns that are in cache from the second time on.
unsafe fn each_rows(m: usize, kernels: &GroupDots, dot: &GroupDot) {
    for rows in parts(m, kernels.rows) {
        let mut dot = *dot;
        dot.dot.a = dot.a.wrapping_add(rows.start * dot.a_stride);
        dot.dot.c = dot.c.wrapping_add(rows.start * dot.c_stride);
        // SAFETY: by contract.
        unsafe { (kernels.bytes)(rows.len(), &dot) };
    }
}
