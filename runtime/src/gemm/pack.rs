//! Rows of A and panels of B in the layout of the register tiles.

use super::blocking::part;
use super::convert::{Row, convert, element, interleave};
use super::micro::bytes::{Widen, widener};
use super::micro::{Kernels, Math, Transpose, kernels, kernels_alone};
use super::parallel::Parallel;
use super::scratch;
use super::shape::Matrix;
use super::split::{Runs, split};
use crate::cpu::Isa;
use crate::{DType, Error, pool};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// Units of K that are worth a task of their own.
const UNITS_PER_CHUNK: usize = 128;

/// Which kernels a product runs through.
#[derive(Clone, Copy)]
pub struct Engine {
    pub isa: Isa,
    pub math: Math,
    pub kernels: &'static Kernels,
}

impl Engine {
    pub fn new(isa: Isa, math: Math) -> Result<Engine, Error> {
        Engine::of(isa, math, kernels(isa, math))
    }

    /// For products with a packed B, of so many threads.
    pub fn packed(isa: Isa, math: Math, threads: usize) -> Result<Engine, Error> {
        let kernels = if threads == 1 {
            kernels_alone(isa, math)
        } else {
            kernels(isa, math)
        };
        Engine::of(isa, math, kernels)
    }

    fn of(isa: Isa, math: Math, kernels: Option<&'static Kernels>) -> Result<Engine, Error> {
        let kernels = kernels
            .ok_or_else(|| Error::Plan(format!("no {math:?} kernels for {}", isa.name())))?;
        Ok(Engine { isa, math, kernels })
    }

    /// Units that hold these elements of K.
    pub fn units(&self, elements: usize) -> usize {
        elements.div_ceil(self.math.per_unit())
    }

    /// Bytes of a row of units of a panel.
    pub fn panel_stride(&self) -> usize {
        4 * self.math.parts() * self.kernels.cols
    }

    /// Whether units of `k` elements that are neighbours can be read in place.
    pub fn reads(&self, matrix: &Matrix, stride: isize, k: usize) -> bool {
        element(self.math, matrix.dtype) == matrix.dtype
            && k.is_multiple_of(self.math.per_unit())
            && (stride == 1 || k <= 1)
    }

    /// Copies elements `ks` of a row or column (`stride` apart) and fills the last unit with zeros.
    unsafe fn line(&self, m: &Matrix, from: *const u8, stride: isize, k: usize, to: *mut u8) {
        let into = element(self.math, m.dtype);
        let row = Row {
            from,
            dtype: m.dtype,
            stride,
            len: k,
            to,
            into,
        };
        let missing = (self.units(k) * self.math.per_unit() - k) * into.size();
        // SAFETY: `to` holds whole units.
        unsafe {
            convert(self.isa, &row);
            to.add(k * into.size()).write_bytes(0, missing);
        }
    }

    /// Rows `rows` of A, elements `ks`, as rows of units `stride` bytes apart.
    ///
    /// # Safety
    /// `to` holds them, and the processor has the instruction set.
    pub unsafe fn rows(
        &self,
        a: &Matrix,
        rows: Range<usize>,
        ks: Range<usize>,
        to: *mut u8,
        stride: usize,
    ) {
        if self.reads(a, a.strides[0], rows.len()) && self.math == Math::F32 && a.strides[1] != 1 {
            let work = Transpose {
                panel: to.cast(),
                panel_stride: stride / 4,
                rows: a.at(rows.start, ks.start),
                row_stride: a.strides[1] * 4,
                cols: ks.len(),
                units: rows.len(),
                fill: ks.len(),
            };
            // SAFETY: columns of A are rows of units, of which `ks` become neighbours.
            return unsafe { (self.kernels.transpose)(&work) };
        }
        for (n, i) in rows.enumerate() {
            // SAFETY: by contract.
            unsafe {
                let to = to.add(n * stride);
                self.line(a, a.at(i, ks.start), a.strides[1], ks.len(), to);
            }
        }
    }

    /// Columns `cols` of B (at most a panel), elements `ks`, as a panel `[units, parts, Kernels::cols]`. False if an
    /// element can't be split into parts.
    ///
    /// # Safety
    /// `panel` and `spare` hold a panel each, and the processor has the instruction set.
    pub unsafe fn panel(
        &self,
        b: &Matrix,
        cols: Range<usize>,
        ks: Range<usize>,
        panel: *mut u8,
        spare: *mut u8,
    ) -> bool {
        if self.math.parts() > 1 {
            // SAFETY: by contract.
            return unsafe { self.panel_of_parts(b, cols, ks, panel, spare) };
        }
        let units = self.units(ks.len());
        let mut work = Transpose {
            panel: panel.cast(),
            panel_stride: self.kernels.cols,
            rows: b.at(ks.start, cols.start),
            row_stride: b.strides[1] * b.dtype.size() as isize,
            cols: cols.len(),
            units,
            fill: self.kernels.cols,
        };
        // SAFETY: the panel holds whole rows of units; `spare` the lines of one panel.
        unsafe {
            if self.reads(b, b.strides[0], ks.len()) {
                (self.kernels.transpose)(&work);
                return true;
            }
            if b.strides[0] == 1
                && let Some(widen) = widener(self.isa, self.math, b.dtype)
            {
                self.panel_of_bytes(b, (cols, ks), (panel, spare), widen);
                return true;
            }
            if b.strides[1] == 1 {
                self.interleave(b, cols, ks, panel);
                return true;
            }
            for (n, j) in cols.enumerate() {
                let to = spare.add(n * 4 * units);
                self.line(b, b.at(ks.start, j), b.strides[0], ks.len(), to);
            }
            work.rows = spare;
            work.row_stride = 4 * units as isize;
            (self.kernels.transpose)(&work);
        }
        true
    }

    /// As [`Engine::panel`] for bytes that lie along K: transposed as bytes, a quarter of what they become.
    unsafe fn panel_of_bytes(
        &self,
        b: &Matrix,
        (cols, ks): (Range<usize>, Range<usize>),
        (panel, spare): (*mut u8, *mut u8),
        widen: unsafe fn(&Widen),
    ) {
        /// Bytes of a unit.
        const UNIT: usize = 4;
        /// Rows of units that the first cache holds beside what they become.
        const ROWS: usize = 32;
        let width = self.kernels.cols;
        let whole = ks.len() / UNIT;
        let row_bytes = UNIT / self.math.per_unit() * self.panel_stride();
        for first in (0..whole).step_by(ROWS) {
            let rows = ROWS.min(whole - first);
            let transpose = Transpose {
                panel: spare.cast(),
                panel_stride: width,
                rows: b.at(ks.start + UNIT * first, cols.start),
                row_stride: b.strides[1],
                cols: cols.len(),
                units: rows,
                fill: width,
            };
            let work = Widen {
                from: spare.cast(),
                rows,
                cols: width,
                to: panel.wrapping_add(first * row_bytes).cast(),
            };
            // SAFETY: by contract; `spare` has room for a panel.
            unsafe {
                (self.kernels.transpose)(&transpose);
                widen(&work);
            }
        }
        // What fills no unit of bytes, line by line.
        let rest = ks.start + UNIT * whole..ks.end;
        if rest.is_empty() {
            return;
        }
        let units = self.units(rest.len());
        for (n, j) in cols.clone().enumerate() {
            let to = spare.wrapping_add(n * 4 * units);
            // SAFETY: as above.
            unsafe { self.line(b, b.at(rest.start, j), 1, rest.len(), to) };
        }
        let work = Transpose {
            panel: panel.wrapping_add(whole * row_bytes).cast(),
            panel_stride: width,
            rows: spare,
            row_stride: 4 * units as isize,
            cols: cols.len(),
            units,
            fill: width,
        };
        // SAFETY: as above.
        unsafe { (self.kernels.transpose)(&work) };
    }

    /// As [`Engine::panel`] of f32 in parts.
    unsafe fn panel_of_parts(
        &self,
        b: &Matrix,
        cols: Range<usize>,
        ks: Range<usize>,
        panel: *mut u8,
        spare: *mut u8,
    ) -> bool {
        let (parts, units) = (self.math.parts(), self.units(ks.len()));
        let line = 4 * units * parts;
        let mut all_fit = true;
        for (n, j) in cols.clone().enumerate() {
            let runs = Runs {
                to: spare.wrapping_add(n * line),
                stride: 4 * units,
                parts,
            };
            // SAFETY: by contract; `spare` has a line for each column.
            all_fit &= unsafe { split(self.isa, b.at(ks.start, j), b.strides[0], ks.len(), runs) };
        }
        for part in 0..parts {
            let work = Transpose {
                panel: panel.cast::<u32>().wrapping_add(part * self.kernels.cols),
                panel_stride: parts * self.kernels.cols,
                rows: spare.wrapping_add(part * 4 * units),
                row_stride: line as isize,
                cols: cols.len(),
                units,
                fill: self.kernels.cols,
            };
            // SAFETY: the lines, and their part of the panel.
            unsafe { (self.kernels.transpose)(&work) };
        }
        all_fit
    }

    /// As [`Engine::panel`] for a B whose columns lie in several matrices. A panel of columns of two or more is made of a
    /// copy of them.
    unsafe fn side_by_side(
        &self,
        b: &[Columns],
        cols: Range<usize>,
        ks: Range<usize>,
        panel: *mut u8,
        spare: *mut u8,
    ) -> bool {
        let mut first = 0;
        let mut meet = b.iter().filter_map(|c| {
            let of = cols.start.max(first)..cols.end.min(first + c.n);
            let own = of.start.wrapping_sub(first)..of.end.wrapping_sub(first);
            first += c.n;
            (of.start < of.end).then_some((c.b, own))
        });
        let Some((b, own)) = meet.next() else {
            return true;
        };
        if own.len() == cols.len() {
            // SAFETY: by contract.
            return unsafe { self.panel(&b, own, ks, panel, spare) };
        }
        let size = b.dtype.size();
        // Whole words, so that elements of any type are aligned.
        let mut copy = vec![0u32; (cols.len() * ks.len() * size).div_ceil(4)];
        let to = copy.as_mut_ptr().cast::<u8>();
        let mut at = 0;
        for (b, own) in std::iter::once((b, own)).chain(meet) {
            for (j, k) in own.flat_map(|j| ks.clone().map(move |k| (j, k))) {
                // SAFETY: an element of a valid matrix, and the place of one in the copy.
                unsafe { to.add(at).copy_from_nonoverlapping(b.at(k, j), size) };
                at += size;
            }
        }
        let copied = Matrix {
            data: to,
            dtype: b.dtype,
            strides: [1, ks.len() as isize],
        };
        // SAFETY: by contract; the copy has all columns of the panel.
        unsafe { self.panel(&copied, 0..cols.len(), 0..ks.len(), panel, spare) }
    }

    /// A panel of a B whose columns are neighbours: the rows of a unit side by side.
    unsafe fn interleave(&self, b: &Matrix, cols: Range<usize>, ks: Range<usize>, panel: *mut u8) {
        const WIDEST: usize = 48;
        let per_unit = self.math.per_unit();
        let into = element(self.math, b.dtype);
        let width = self.kernels.cols;
        let row_bytes = b.strides[0] * b.dtype.size() as isize;
        let in_place = into == b.dtype && cols.len() == width;
        let place = |from: *const u8, stride: isize, to: *mut u8| {
            // SAFETY: a row of the panel, and rows that are valid or a copy's.
            unsafe {
                match width {
                    WIDEST => interleave::<WIDEST>(self.isa, per_unit, from, stride, to),
                    32 => interleave::<32>(self.isa, per_unit, from, stride, to),
                    _ => interleave::<16>(self.isa, per_unit, from, stride, to),
                }
            }
        };
        // Elements that must be converted, or that fill no unit or panel.
        let mut copy = [[0u8; 4 * WIDEST]; 4];
        for unit in 0..self.units(ks.len()) {
            let to = panel.wrapping_add(unit * width * 4);
            let first = ks.start + unit * per_unit;
            let from = b.at(first, cols.start);
            if in_place && first + per_unit <= ks.end {
                place(from, row_bytes, to);
                continue;
            }
            for (p, copy) in copy.iter_mut().enumerate().take(per_unit) {
                if first + p >= ks.end {
                    *copy = [0; 4 * WIDEST];
                    continue;
                }
                let row = Row {
                    from: from.wrapping_offset(p as isize * row_bytes),
                    dtype: b.dtype,
                    stride: 1,
                    len: cols.len(),
                    to: copy.as_mut_ptr(),
                    into,
                };
                // SAFETY: a copy holds the widest panel's row.
                unsafe { convert(self.isa, &row) };
            }
            place(copy.as_ptr().cast(), 4 * WIDEST as isize, to);
        }
    }
}

/// A matrix that has all rows of a B and some of its columns.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields are named by their role")]
pub struct Columns {
    pub b: Matrix,
    /// So many.
    pub n: usize,
}

/// A matrix `[k, n]` of f32 in memory of its own.
pub(super) struct Whole {
    data: *mut u8,
    bytes: usize,
    n: usize,
}

// SAFETY: the block is ours; while it is filled, tasks write elements of their own.
unsafe impl Sync for Whole {}

impl Drop for Whole {
    fn drop(&mut self) {
        pool::give(self.data, self.bytes);
    }
}

impl Whole {
    pub fn matrix(&self) -> Matrix {
        Matrix {
            data: self.data,
            dtype: DType::F32,
            strides: [self.n as isize, 1],
        }
    }
}

/// A matrix B in panels: made once, used by many products.
pub struct PackedB {
    data: *mut u8,
    bytes: usize,
    engine: Engine,
    shape: [usize; 2],
    /// Whether all elements could be split into the arithmetic's parts.
    fits: bool,
}

// SAFETY: the block is ours, and nobody writes it after `new`.
unsafe impl Send for PackedB {}
// SAFETY: as above.
unsafe impl Sync for PackedB {}

impl Drop for PackedB {
    fn drop(&mut self) {
        pool::give(self.data, self.bytes);
    }
}

impl PackedB {
    /// Packs these columns, `k` elements each and of one type, for this arithmetic; for f32's if their elements can't be split
    /// into parts. It is an error if there is no memory.
    ///
    /// # Safety
    /// The matrices are valid memory, and the processor has `isa`.
    pub unsafe fn new(
        b: &[Columns],
        k: usize,
        math: Math,
        isa: Isa,
        threads: &dyn Parallel,
    ) -> Result<PackedB, Error> {
        let engine = |math| Engine::packed(isa, math, threads.threads());
        // SAFETY: by contract.
        let packed = unsafe { PackedB::with(b, k, engine(math)?, threads) }?;
        if packed.fits {
            return Ok(packed);
        }
        // SAFETY: by contract.
        unsafe { PackedB::with(b, k, engine(Math::F32)?, threads) }
    }

    /// As [`PackedB::new`] for kernels that are given.
    pub(crate) unsafe fn with(
        b: &[Columns],
        k: usize,
        engine: Engine,
        threads: &dyn Parallel,
    ) -> Result<PackedB, Error> {
        let n = b.iter().map(|c| c.n).sum();
        let width = engine.kernels.cols;
        let panels = usize::div_ceil(n, width);
        let panel_bytes = engine.panel_stride() * engine.units(k);
        let (data, bytes) = pool::take((panels * panel_bytes).max(pool::SMALLEST))
            .ok_or_else(|| Error::Plan("no memory for a packed matrix".into()))?;
        let mut packed = PackedB {
            data,
            bytes,
            engine,
            shape: [k, n],
            fits: true,
        };
        let all_fit = AtomicBool::new(true);
        // Parts of K too if there are fewer panels than threads.
        let chunks = (2 * threads.threads()).div_ceil(panels.max(1));
        let chunks = chunks.min(engine.units(k) / UNITS_PER_CHUNK).max(1);
        let task = |task: usize| {
            let (p, chunk) = (task / chunks, task % chunks);
            let cols = p * width..n.min((p + 1) * width);
            let units = part(engine.units(k), chunks, chunk);
            let each = engine.math.per_unit();
            let ks = units.start * each..k.min(units.end * each);
            let stride = engine.panel_stride();
            scratch::with([stride * units.len()], |[spare]| {
                let to = packed.panel(p).wrapping_add(stride * units.start);
                // SAFETY: every task writes its own part of a panel.
                if !unsafe { engine.side_by_side(b, cols, ks, to.cast_mut(), spare) } {
                    all_fit.store(false, Ordering::Relaxed);
                }
            });
        };
        threads.run(panels * chunks, &task)?;
        packed.fits = all_fit.into_inner();
        Ok(packed)
    }

    /// The matrix whose elements the parts are sums of.
    pub(super) fn whole(&self, threads: &dyn Parallel) -> Result<Whole, Error> {
        let ([k, n], engine) = (self.shape, self.engine);
        let (data, bytes) = pool::take((4 * k * n).max(pool::SMALLEST))
            .ok_or_else(|| Error::Plan("no memory for a matrix of its parts".into()))?;
        let whole = Whole { data, bytes, n };
        let width = engine.kernels.cols;
        let task = |p: usize| {
            let whole = &whole;
            let line = |unit: usize, part: usize| {
                let at = unit * engine.panel_stride() + 4 * width * part;
                self.panel(p).wrapping_add(at).cast::<[u16; 2]>()
            };
            for (i, j) in (0..k).flat_map(|i| (0..width.min(n - p * width)).map(move |j| (i, j))) {
                let parts = (0..engine.math.parts()).map(|part| {
                    // SAFETY: a unit of the panel.
                    let unit = unsafe { line(i / 2, part).add(j).read() };
                    f32::from_bits(u32::from(unit[i % 2]) << 16)
                });
                // The smallest first: then no sum is rounded.
                let sum = parts.rev().sum::<f32>();
                let at = whole.data.cast::<f32>().wrapping_add(i * n + p * width + j);
                // SAFETY: an element of the matrix, of this panel's columns.
                unsafe { at.write(sum) };
            }
        };
        threads.run(n.div_ceil(width), &task)?;
        Ok(whole)
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// K and N.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// Columns of a panel.
    pub(crate) fn width(&self) -> usize {
        self.engine.kernels.cols
    }

    pub(crate) fn engine(&self) -> Engine {
        self.engine
    }

    /// The first unit of a panel.
    pub(crate) fn panel(&self, p: usize) -> *const u8 {
        let bytes = self.engine.panel_stride() * self.engine.units(self.shape[0]);
        self.data.wrapping_add(p * bytes)
    }
}
