//! Which way a product takes, and how it is split over threads.

use super::block::{Part, Sums, Work};
use super::blocking::{Costs, Grid, grid, part, parts};
use super::convert::element;
use super::finish::{Finish, add, finish};
use super::groups::Quantised;
use super::micro::bytes::{ByteDots, byte_dots};
use super::micro::{Dot, Math};
use super::pack::{Columns, Engine, PackedB};
use super::parallel::Parallel;
use super::scratch;
use super::shape::{Precision, Product, math};
use super::split::Split;
use crate::ahead::Memory;
use crate::cpu::Isa;
use crate::{DType, Error, pool};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// Rows from which B is packed as a whole first, since each thread would pack a panel several times.
const PACK_ROWS: usize = 448;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Rows up to which floats by bytes are dot products.
const BYTE_ROWS: usize = 16;

/// Called for each part of the result that is complete, while it is in cache, by the thread that
/// computed it: product of the batch, rows, columns. The parts cover the result once.
pub type Epilogue<'a> = &'a (dyn Fn(usize, Range<usize>, Range<usize>) + Sync);

/// Rows of an A that is nowhere in memory as a whole, of the elements that the kernels multiply.
pub trait Rows: Sync {
    /// Writes elements `ks` of these rows, `stride` bytes apart.
    ///
    /// # Safety
    /// `to` holds them, and what the rows are made of is valid memory.
    unsafe fn write(&self, rows: Range<usize>, ks: Range<usize>, to: *mut u8, stride: usize);
}

/// How a product is carried out.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// At most what the processor has.
    pub isa: Isa,
    /// Who computes.
    pub threads: &'a dyn Parallel,
    /// B in panels, of the same elements as the product's B; then that is not read.
    pub packed: Option<&'a PackedB>,
    /// Makes A's rows, of which then no address is read; the batch has one item.
    pub made: Option<&'a dyn Rows>,
    /// What B is made of, of which then no address is read.
    pub groups: Option<&'a dyn Quantised>,
    /// What follows.
    pub epilogue: Option<Epilogue<'a>>,
    /// What parts it takes.
    pub parts: Parts,
}

/// Which parts of a result an epilogue is called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// Those that the split gives.
    Any,
    /// Rows of all columns, and only where the fastest split gives such.
    RowsIfSo,
    /// Rows of all columns, by which the product is split for that.
    Rows,
}

/// Computes a product. Returns whether the epilogue has been called: not so if the result has no elements, or
/// for [`Parts::RowsIfSo`] if the split gave others. Errors are an unsupported combination of types, and those of the threads.
///
/// # Safety
/// The product's matrices are valid memory; C overlaps none of them but an input of the same strides.
pub unsafe fn multiply(p: &Product, call: &Call) -> Result<bool, Error> {
    let made = call.made.is_none() || is_made(p, call);
    let grouped = call.groups.is_none_or(|g| g.fits(p, call.isa));
    if !p.is_supported() || !made || !grouped || call.isa > Isa::of_processor() {
        return Err(Error::Plan(format!("no product for {p:?}")));
    }
    if p.m * p.n * p.batch.count == 0 {
        return Ok(false);
    }
    let called = AtomicBool::new(false);
    let done = |item: usize, rows: Range<usize>, cols: Range<usize>| {
        let takes = call.parts != Parts::RowsIfSo || cols.len() == p.n;
        if let (Some(epilogue), true) = (call.epilogue, takes) {
            epilogue(item, rows, cols);
            called.store(true, Ordering::Relaxed);
        }
    };
    let turned = |item, rows, cols| done(item, cols, rows);
    // SAFETY: by contract.
    unsafe {
        if let Some(packed) = call.packed {
            with_packed(p, call, packed, &done)
        } else if let Some(groups) = call.groups {
            match p.m <= groups.few() && call.made.is_none() {
                true => groups.dots(p, call, &done),
                false => tiles(p, call, None, &done),
            }
        } else if p.is_column() && call.made.is_none() {
            choose(&p.turned(), call, &turned)
        } else {
            choose(p, call, &done)
        }
    }?;
    Ok(called.into_inner())
}

/// Whether rows of A can be made: of whole elements that the kernels read.
fn is_made(p: &Product, call: &Call) -> bool {
    let read = super::convert::element(p.math(call.isa), p.a.dtype);
    p.batch.count == 1 && read == p.a.dtype && p.a.strides[1] == 1
}

/// Without a packed B.
unsafe fn choose(p: &Product, call: &Call, done: Epilogue) -> Result<(), Error> {
    // SAFETY: by contract.
    unsafe {
        let made = call.made.is_some();
        if let Some(way) = dot_kernels(p, call.isa)?.filter(|_| !made) {
            return dots(p, way, call, done);
        }
        let engine = Engine::new(call.isa, p.math(call.isa))?;
        if !made && packs_a(p, &engine) {
            let p = p.turned();
            let columns = Columns { b: p.b, n: p.n };
            let packed = PackedB::with(&[columns], p.k, engine, call.threads)?;
            let turned = |item, rows, cols| done(item, cols, rows);
            return tiles(&p, call, Some(&packed), &turned);
        }
        // Bytes become floats a panel at a time: all of them would take four times the memory.
        if p.m >= PACK_ROWS && p.batch.count == 1 && !p.widens() {
            let math = if made {
                engine.math
            } else {
                p.packed_math(call.isa, call.threads.threads())
            };
            let columns = Columns { b: p.b, n: p.n };
            let packed = PackedB::new(&[columns], p.k, math, call.isa, call.threads)?;
            return with_packed(p, call, &packed, done);
        }
        tiles(p, call, None, done)
    }
}

/// With a packed B.
unsafe fn with_packed(
    p: &Product,
    call: &Call,
    packed: &PackedB,
    done: Epilogue,
) -> Result<(), Error> {
    let math = packed.engine().math;
    if math.parts() == 1 {
        // SAFETY: by contract.
        return unsafe { tiles(p, call, Some(packed), done) };
    }
    if p.a.dtype != DType::F32 || call.made.is_some() || packed.shape() != [p.k, p.n] {
        return Err(Error::Plan(format!("no parts of A for {p:?}")));
    }
    // SAFETY: by contract.
    unsafe {
        let split = Split::new(&p.a, [p.m, p.k], math.parts(), call.isa, call.threads)?;
        if let Some(split) = split {
            let a = split.matrix();
            return tiles(&Product { a, ..*p }, call, Some(packed), done);
        }
        let whole = packed.whole(call.threads)?;
        let b = whole.matrix();
        tiles(&Product { b, ..*p }, call, None, done)
    }
}

/// Whether A is packed and B, whose columns lie along K, read in place as rows of the transposed product.
/// Then the result is transposed too; but that and packing A take less time than packing a larger B.
fn packs_a(p: &Product, engine: &Engine) -> bool {
    /// Multiply-adds in the time to move an element into a panel or out of the sums.
    const MOVE: usize = 20;
    /// Columns of a vector.
    const LANES: usize = 16;
    let (m, n, k) = (p.m, p.n, p.k);
    let turned = m.next_multiple_of(LANES) * n * k + MOVE * m * (n + k);
    p.batch.count == 1
        && p.a.dtype == p.b.dtype
        && engine.math != Math::I8
        && p.b.strides[0] == 1
        && p.c.strides[1] == 1
        && k > 1
        && turned < (m + MOVE) * n * k
}

/// Whether products like this one, of so few rows that reading B takes longest, are as fast on B as it is
/// as on a packed one.
pub fn reads_in_place(p: &Product, isa: Isa) -> bool {
    matches!(dot_kernels(p, isa), Ok(Some(_)))
}

/// How dot products of few rows are computed.
#[derive(Clone, Copy)]
struct Dots {
    engine: Engine,
    /// Most rows of a call of it.
    rows: usize,
    dot: unsafe fn(usize, &Dot),
    /// Whether A is copied, as the kernels read it.
    copies_a: bool,
}

/// The kernels for few rows and a B whose columns lie along K; none if they do not apply.
fn dot_kernels(p: &Product, isa: Isa) -> Result<Option<Dots>, Error> {
    if p.b.strides[0] != 1 && p.k > 1 {
        return Ok(None);
    }
    let along = p.a.strides[1] == 1 || p.k <= 1;
    if p.widens() {
        let found = byte_dots(isa, p.a.dtype, p.b.dtype).filter(|_| p.m <= BYTE_ROWS);
        let of = |d: ByteDots| {
            let engine = Engine::new(isa, math(d.a, d.a, Precision::Full, isa))?;
            Ok(Dots {
                engine,
                rows: d.rows,
                dot: d.dot,
                copies_a: p.a.dtype != d.a || !along || p.m > 1,
            })
        };
        return found.map(of).transpose();
    }
    // Reading B takes longer than f32 arithmetic on so few rows, whatever the precision.
    let engine = Engine::new(isa, math(p.a.dtype, p.b.dtype, Precision::Full, isa))?;
    let own = |t: DType| element(engine.math, t) == t;
    let kernels = engine.kernels;
    let applies = p.m <= kernels.dot_rows && own(p.a.dtype) && own(p.b.dtype) && along;
    Ok(applies.then_some(Dots {
        engine,
        rows: kernels.dot_rows,
        dot: kernels.dot,
        copies_a: false,
    }))
}

/// Dot products of few rows.
unsafe fn dots(p: &Product, kernels: Dots, call: &Call, done: Epilogue) -> Result<(), Error> {
    let engine = kernels.engine;
    let items = p.batch.count;
    let each = call.threads.threads().div_ceil(items);
    let costs = Costs {
        per_unit: engine.math.per_unit(),
        packs: false,
        splits_k: true,
    };
    let split = grid([p.m, p.n, p.k], each, engine.kernels, costs).tasks();
    let way = match Finish::of(p) {
        Finish::InPlace if p.input.is_none() || p.beta == 0.0 => Finish::InPlace,
        Finish::InPlace => Finish::Update,
        other => other,
    };
    let task = |n: usize| {
        let (item, cols) = (n / split, part(p.n, split, n % split));
        let p = p.item(item);
        if cols.is_empty() {
            return;
        }
        let copy = way == Finish::Copy;
        let bytes = if copy { 4 * p.m * cols.len() } else { 0 };
        // An odd number of cache lines spreads rows over all sets, beside B's columns.
        let row = ((4 * engine.units(p.k)).div_ceil(LINE) | 1) * LINE;
        let floats = if kernels.copies_a { row * p.m } else { 0 };
        scratch::with([bytes, floats], |[sums, floats]| {
            let (c, c_stride) = if copy {
                (sums, 4 * cols.len())
            } else {
                let c = p.c.at(0, cols.start).cast_mut();
                (c, p.c.strides[0].unsigned_abs() * 4)
            };
            let size = p.b.dtype.size();
            let (a, a_stride) = if kernels.copies_a {
                // SAFETY: by contract; the copy has room for all rows.
                unsafe { engine.rows(&p.a, 0..p.m, 0..p.k, floats, row) };
                (floats.cast_const(), row)
            } else {
                let stride = p.a.strides[0].unsigned_abs() * p.a.dtype.size();
                (p.a.data, stride)
            };
            let dot = Dot {
                k: p.k,
                a,
                a_stride,
                b: p.b.at(0, cols.start),
                b_stride: p.b.strides[1].unsigned_abs() * size,
                c,
                c_stride,
                cols: cols.len(),
            };
            // SAFETY: by contract; each task has its own columns.
            unsafe {
                each_rows(p.m, &kernels, &dot);
                if way != Finish::InPlace {
                    finish(&p, engine.isa, 0..p.m, cols.clone(), c, c_stride);
                }
            }
        });
        done(item, 0..p.m, cols);
    };
    call.threads.run(items * split, &task)
}

/// Dot products of any number of rows: all of them with a few columns of B, which are in cache from the second time on.
unsafe fn each_rows(m: usize, kernels: &Dots, dot: &Dot) {
    /// Columns that the first cache holds beside rows of A.
    const COLUMNS: usize = 12;
    if m <= kernels.rows {
        // SAFETY: by contract.
        return unsafe { (kernels.dot)(m, dot) };
    }
    for j in (0..dot.cols).step_by(COLUMNS) {
        for rows in parts(m, kernels.rows) {
            let dot = Dot {
                a: dot.a.wrapping_add(rows.start * dot.a_stride),
                c: dot.c.wrapping_add(rows.start * dot.c_stride + 4 * j),
                b: dot.b.wrapping_add(j * dot.b_stride),
                cols: COLUMNS.min(dot.cols - j),
                ..*dot
            };
            // SAFETY: by contract.
            unsafe { (kernels.dot)(rows.len(), &dot) };
        }
    }
}

/// How register tiles are split over threads.
fn split(p: &Product, engine: Engine, packs: bool, threads: usize, parts: Parts) -> Grid {
    let items = p.batch.count;
    let costs = Costs {
        per_unit: engine.math.per_unit(),
        packs,
        splits_k: items == 1 && Finish::of(p) != Finish::Turned,
    };
    let each = threads.div_ceil(items);
    let split = grid([p.m, p.n, p.k], each, engine.kernels, costs);
    if parts == Parts::Rows {
        let m = (split.m * split.n).min(p.m);
        return Grid { m, n: 1, k: 1 };
    }
    split
}

/// The `n`-th part of all: which product of the batch it belongs to, which part of K it is, and what a thread computes.
fn cut(p: &Product, engine: Engine, split: Grid, n: usize) -> (usize, usize, Part) {
    let (n, k) = (n / split.k, n % split.k);
    let (item, m, n) = (n / (split.m * split.n), n / split.n % split.m, n % split.n);
    let panels = p.n.div_ceil(engine.kernels.cols);
    // Whole tile registers, if K is of such.
    let units = engine.units(p.k);
    let grain = if units.is_multiple_of(16) { 16 } else { 1 };
    let units = part(units / grain, split.k, k);
    let each = grain * engine.math.per_unit();
    let part = Part {
        rows: part(p.m, split.m, m),
        panels: part(panels, split.n, n),
        ks: units.start * each..p.k.min(units.end * each),
        partial: None,
    };
    (item, k, part)
}

/// What each thread reads of a packed B when it computes the part of its number.
pub fn reads(p: &Product, packed: &PackedB, threads: usize, parts: Parts) -> Vec<Memory> {
    let engine = packed.engine();
    let split = split(p, engine, false, threads, parts);
    let of = |n: usize| {
        if n >= split.tasks() {
            return Memory::NONE;
        }
        let (_, _, part) = cut(p, engine, split, n);
        let first = part.ks.start / engine.math.per_unit() * engine.panel_stride();
        Memory {
            start: packed.panel(part.panels.start).wrapping_add(first),
            bytes: engine.units(part.ks.len()) * engine.panel_stride(),
            stride: engine.units(p.k) * engine.panel_stride(),
            count: part.panels.len(),
        }
    };
    (0..threads).map(of).collect()
}

/// Register tiles.
unsafe fn tiles(
    p: &Product,
    call: &Call,
    packed: Option<&PackedB>,
    done: Epilogue,
) -> Result<(), Error> {
    let engine = match packed {
        Some(packed) if packed.shape() == [p.k, p.n] && p.batch.count == 1 => packed.engine(),
        Some(_) => return Err(Error::Plan("a packed matrix of another shape".into())),
        None => Engine::new(call.isa, p.math(call.isa))?,
    };
    let items = p.batch.count;
    let finish = Finish::of(p);
    let threads = call.threads.threads();
    let split = split(p, engine, packed.is_none(), threads, call.parts);
    let cut = |n: usize| cut(p, engine, split, n);
    if split.k > 1 {
        let work = Work {
            p,
            engine,
            packed,
            made: call.made,
            groups: call.groups,
            finish,
        };
        // SAFETY: by contract.
        return unsafe { partial_sums(&work, split, call.threads, &cut, done) };
    }
    let task = |n: usize| {
        let (item, _, part) = cut(n);
        let work = Work {
            p: &p.item(item),
            engine,
            packed,
            made: call.made,
            groups: call.groups,
            finish,
        };
        // SAFETY: by contract; the parts are disjoint.
        unsafe { work.compute(&part, &|rows, cols| done(item, rows, cols)) };
    };
    call.threads.run(items * split.tasks(), &task)
}

/// Parts of K into memory of their own, and then their sum into the result. The batch has one item.
unsafe fn partial_sums(
    work: &Work,
    split: Grid,
    threads: &dyn Parallel,
    cut: &(dyn Fn(usize) -> (usize, usize, Part) + Sync),
    done: Epilogue,
) -> Result<(), Error> {
    let p = work.p;
    let stride = 4 * p.n.next_multiple_of(16);
    let plane = stride * p.m;
    let (data, bytes) = pool::take((plane * split.k).max(pool::SMALLEST))
        .ok_or_else(|| Error::Plan("no memory for partial sums".into()))?;
    let base = data as usize;
    let task = |n: usize| {
        let (_, k, mut part) = cut(n);
        let first = work.columns(&part.panels).start;
        let offset = k * plane + part.rows.start * stride + 4 * first;
        part.partial = Some(Sums {
            data: (base as *mut u8).wrapping_add(offset),
            stride,
        });
        // SAFETY: by contract; the parts are disjoint.
        unsafe { work.compute(&part, &|_, _| {}) };
    };
    let sum = |n: usize| {
        let rows = part(p.m, split.tasks(), n);
        for i in rows.clone() {
            let at = |k: usize| (base as *mut u8).wrapping_add(k * plane + i * stride);
            for k in 1..split.k {
                // SAFETY: the row's elements in the first and in the `k`-th plane.
                unsafe { add(p, work.engine.isa, at(0), at(k)) };
            }
        }
        let sums = (base as *const u8).wrapping_add(rows.start * stride);
        // SAFETY: by contract; each task has its own rows.
        unsafe { finish(p, work.engine.isa, rows.clone(), 0..p.n, sums, stride) };
        if !rows.is_empty() {
            done(0, rows, 0..p.n);
        }
    };
    let result = threads
        .run(split.tasks(), &task)
        .and_then(|()| threads.run(split.tasks(), &sum));
    pool::give(data, bytes);
    result
}
