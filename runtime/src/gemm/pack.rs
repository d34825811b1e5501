//! Rows of A and panels of B in the layout of the register tiles.

use super::blocking::part;
use super::convert::{Row, convert, element, interleave};
use super::micro::{Kernels, Math, Transpose, kernels, kernels_alone};
use super::parallel::Parallel;
use super::scratch;
use super::shape::{Matrix, Precision, math};
use crate::cpu::Isa;
use crate::{DType, Error, pool};
use std::ops::Range;

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

    /// Columns `cols` of B (at most a panel), elements `ks`, as a panel `[units, Kernels::cols]`.
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
    ) {
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
                return (self.kernels.transpose)(&work);
            }
            if b.strides[1] == 1 {
                return self.interleave(b, cols, ks, panel);
            }
            for (n, j) in cols.enumerate() {
                let to = spare.add(n * 4 * units);
                self.line(b, b.at(ks.start, j), b.strides[0], ks.len(), to);
            }
            work.rows = spare;
            work.row_stride = 4 * units as isize;
            (self.kernels.transpose)(&work);
        }
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
    ) {
        let mut first = 0;
        let mut meet = b.iter().filter_map(|c| {
            let of = cols.start.max(first)..cols.end.min(first + c.n);
            let own = of.start.wrapping_sub(first)..of.end.wrapping_sub(first);
            first += c.n;
            (of.start < of.end).then_some((c.b, own))
        });
        let Some((b, own)) = meet.next() else {
            return;
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
        unsafe { self.panel(&copied, 0..cols.len(), 0..ks.len(), panel, spare) };
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

/// A matrix B in panels: made once, used by many products.
pub struct PackedB {
    data: *mut u8,
    bytes: usize,
    engine: Engine,
    shape: [usize; 2],
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
    /// Packs these columns, `k` elements each and of one type, for products with an A of type `a`. It is an error if there
    /// is no memory.
    ///
    /// # Safety
    /// The matrices are valid memory, and the processor has `isa`.
    pub unsafe fn new(
        b: &[Columns],
        k: usize,
        a: DType,
        precision: Precision,
        isa: Isa,
        threads: &dyn Parallel,
    ) -> Result<PackedB, Error> {
        let dtype = b.first().map_or(a, |c| c.b.dtype);
        let engine = Engine::packed(isa, math(a, dtype, precision, isa), threads.threads())?;
        // SAFETY: by contract.
        unsafe { PackedB::with(b, k, engine, threads) }
    }

    /// As [`PackedB::new`].
    pub(crate) unsafe fn with(
        b: &[Columns],
        k: usize,
        engine: Engine,
        threads: &dyn Parallel,
    ) -> Result<PackedB, Error> {
        let n = b.iter().map(|c| c.n).sum();
        let width = engine.kernels.cols;
        let panels = usize::div_ceil(n, width);
        let stride = 4 * width * engine.units(k);
        let (data, bytes) = pool::take((panels * stride).max(pool::SMALLEST))
            .ok_or_else(|| Error::Plan("no memory for a packed matrix".into()))?;
        let packed = PackedB {
            data,
            bytes,
            engine,
            shape: [k, n],
        };
        // Parts of K too if there are fewer panels than threads.
        let chunks = (2 * threads.threads()).div_ceil(panels.max(1));
        let chunks = chunks.min(engine.units(k) / UNITS_PER_CHUNK).max(1);
        let task = |task: usize| {
            let (p, chunk) = (task / chunks, task % chunks);
            let cols = p * width..n.min((p + 1) * width);
            let units = part(engine.units(k), chunks, chunk);
            let each = engine.math.per_unit();
            let ks = units.start * each..k.min(units.end * each);
            scratch::with([4 * width * units.len()], |[spare]| {
                let to = packed.panel(p).wrapping_add(4 * width * units.start);
                // SAFETY: every task writes its own part of a panel.
                unsafe { engine.side_by_side(b, cols, ks, to.cast_mut(), spare) };
            });
        };
        threads.run(panels * chunks, &task)?;
        Ok(packed)
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
        let stride = 4 * self.engine.kernels.cols * self.engine.units(self.shape[0]);
        self.data.wrapping_add(p * stride)
    }
}
