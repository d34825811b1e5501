//! One thread's part of a product: blocks of rows and of K, and panels of B in them.

use super::blocking::{Larger, block_rows, block_units, conflicts, part};
use super::dispatch::Rows;
use super::finish::{Finish, finish};
use super::groups::Quantised;
use super::micro::{Left, Rounded, Tile, Transpose};
use super::pack::{Engine, PackedB};
use super::scratch;
use super::shape::{Matrix, Product};
use crate::DType;
use crate::cpu::{Caches, Isa};
use std::ops::Range;

/// Units of K at a time when B is read in place: rows of B that are streamed side by side.
const STREAMS: usize = 16;
/// Panels for which a copy of A without conflicts pays.
const PANELS_PER_COPY: usize = 2;
/// Panels for which A as tiles pays.
const PANELS_PER_TILES: usize = 6;

/// See [`super::micro::Kernels::rounded`].
type RoundedTiles = unsafe fn(usize, &Tile, &Rounded);

/// Bytes of a cache line.
const LINE: usize = 64;

/// Where tiles write.
#[derive(Clone, Copy)]
pub struct Sums {
    /// The element of the part's first row and column.
    pub data: *mut u8,
    /// Bytes between rows.
    pub stride: usize,
}

/// What a thread computes.
#[derive(Clone)]
pub struct Part {
    pub rows: Range<usize>,
    /// Panels of B.
    pub panels: Range<usize>,
    /// Elements of K.
    pub ks: Range<usize>,
    /// Sums of a part of K go here instead of into the result.
    pub partial: Option<Sums>,
}

/// A product with what all threads share.
pub struct Work<'a> {
    pub p: &'a Product,
    pub engine: Engine,
    pub packed: Option<&'a PackedB>,
    pub made: Option<&'a dyn Rows>,
    pub groups: Option<&'a dyn Quantised>,
    pub finish: Finish,
}

/// A block of rows, and the copies that it needs.
struct Block<'a> {
    work: &'a Work<'a>,
    rows: Range<usize>,
    panels: Range<usize>,
    /// Elements of K before which the part starts.
    origin: usize,
    /// Units of the part.
    units: usize,
    /// Units at a time.
    step: usize,
    copies_a: bool,
    /// Whether tiles read B where it is.
    in_place: bool,
    sums: Sums,
    /// Whether `sums` has room for one panel only.
    by_panel: bool,
    finish: Finish,
    a: *mut u8,
    a_stride: usize,
    panel: *mut u8,
    spare: *mut u8,
    turned: *mut u8,
    /// For rows of A as tiles; null if that doesn't pay.
    tiles: *mut u8,
}

impl Work<'_> {
    fn larger(&self) -> Larger {
        if self.finish == Finish::Turned {
            Larger::A
        } else {
            Larger::B
        }
    }

    /// The columns of a range of panels.
    pub fn columns(&self, panels: &Range<usize>) -> Range<usize> {
        let width = self.engine.kernels.cols;
        panels.start * width..self.p.n.min(panels.end * width)
    }

    /// Computes a part; calls `done` for each block of rows that is complete.
    ///
    /// # Safety
    /// The product's memory is valid, no other thread writes this part, the processor has the
    /// engine's instruction set.
    pub unsafe fn compute(&self, part: &Part, done: &dyn Fn(Range<usize>, Range<usize>)) {
        let columns = self.columns(&part.panels);
        let step = block_rows(
            part.rows.len(),
            self.engine.units(part.ks.len()) * self.engine.math.parts(),
            self.engine.kernels,
            self.larger(),
        );
        for first in part.rows.clone().step_by(step) {
            let rows = first..part.rows.end.min(first + step);
            // SAFETY: by contract.
            unsafe { self.block(part, rows.clone(), columns.clone()) };
            done(rows, columns.clone());
        }
    }

    unsafe fn block(&self, part: &Part, rows: Range<usize>, columns: Range<usize>) {
        let (p, engine) = (self.p, &self.engine);
        let kernels = engine.kernels;
        let units = engine.units(part.ks.len());
        let a_row = p.a.strides[0].unsigned_abs() * p.a.dtype.size();
        let tile_rows = rows.len().min(kernels.height);
        let first = p.a.at(rows.start, part.ks.start) as usize;
        let misaligned = !(first | a_row).is_multiple_of(kernels.alignment);
        // Kernels that read whole lines of A come back to none of them before the next panel.
        let conflicts = kernels.alignment < LINE && conflicts(tile_rows, a_row);
        let copies_a = self.made.is_some()
            || !engine.reads(&p.a, p.a.strides[1], part.ks.len())
            || ((misaligned || conflicts) && part.panels.len() >= PANELS_PER_COPY);
        let in_place = self.packed.is_none()
            && self.groups.is_none()
            && rows.len() <= kernels.rows
            && engine.math.per_unit() == 1
            && engine.reads(&p.b, p.b.strides[1], columns.len());
        let step = if in_place {
            STREAMS
        } else {
            block_units(rows.len(), units, engine.math.parts(), self.larger())
        };
        let finish = match part.partial {
            Some(_) => Finish::InPlace,
            None => self.finish,
        };
        let elsewhere = matches!(finish, Finish::Copy | Finish::Turned);
        let by_panel = units <= step;
        // An odd number of cache lines spreads the rows of a tile over all sets.
        let a_stride = ((4 * step.min(units)).div_ceil(64) | 1) * 64;
        let panel_bytes = engine.panel_stride() * step.min(units);
        let sums_stride = 4 * if by_panel {
            kernels.cols
        } else {
            columns.len()
        };
        let tiles_bytes = 4 * rows.len() * units;
        let tiled = kernels.tiled
            && by_panel
            && !copies_a
            && finish == Finish::Copy
            && part.panels.len() >= PANELS_PER_TILES
            && tiles_bytes <= Caches::get().l2 / 2;
        let bytes = [
            if copies_a { rows.len() * a_stride } else { 0 },
            panel_bytes,
            panel_bytes,
            if elsewhere {
                rows.len() * sums_stride
            } else {
                0
            },
            if finish == Finish::Turned {
                4 * rows.len() * kernels.cols
            } else {
                0
            },
            if tiled { tiles_bytes } else { 0 },
        ];
        scratch::with(bytes, |[a, panel, spare, sums, turned, tiles]| {
            let sums = match (part.partial, finish) {
                (Some(to), _) => Sums {
                    data: to
                        .data
                        .wrapping_add((rows.start - part.rows.start) * to.stride),
                    ..to
                },
                (None, _) if elsewhere => Sums {
                    data: sums,
                    stride: sums_stride,
                },
                (None, _) => Sums {
                    data: p.c.at(rows.start, columns.start).cast_mut(),
                    stride: p.c.strides[0].unsigned_abs() * 4,
                },
            };
            let block = Block {
                work: self,
                rows,
                panels: part.panels.clone(),
                origin: part.ks.start,
                units,
                step,
                copies_a,
                in_place,
                sums,
                by_panel: by_panel && elsewhere,
                finish: if part.partial.is_some() {
                    Finish::InPlace
                } else {
                    finish
                },
                a,
                a_stride,
                panel,
                spare,
                turned,
                tiles: if tiled { tiles } else { std::ptr::null_mut() },
            };
            // SAFETY: by contract.
            unsafe { block.run(part.partial.is_some(), part.ks.end) };
        });
    }
}

impl Block<'_> {
    unsafe fn run(&self, partial: bool, end: usize) {
        let engine = &self.work.engine;
        let per_unit = engine.math.per_unit();
        let mut unit = 0;
        loop {
            let units = self.step.min(self.units - unit);
            let first = self.origin + unit * per_unit;
            let ks = first..end.min(first + units * per_unit);
            let last = unit + units == self.units;
            let a = &self.work.p.a;
            // Rows that lie along K are copied tile by tile, while the next ones come closer.
            let by_tile = a.strides[1] == 1;
            let (a, a_stride) = if self.copies_a {
                if !by_tile {
                    // SAFETY: the copy has room for the block's rows of a step.
                    unsafe { self.copy(self.rows.clone(), ks.clone(), self.a) };
                }
                (self.a.cast_const(), self.a_stride)
            } else {
                let stride = a.strides[0].unsigned_abs() * a.dtype.size();
                (a.at(self.rows.start, ks.start), stride)
            };
            for panel in self.panels.clone() {
                // SAFETY: by contract.
                unsafe {
                    let (b, b_stride) = self.panel(panel, ks.clone(), unit);
                    let tile = Tile {
                        k: units,
                        a,
                        a_stride,
                        b,
                        b_stride,
                        ..self.destination(panel, unit == 0, partial)
                    };
                    // A kernel that rounds sums itself gains more than fetching A ahead does.
                    let rounds = !self.copies_a && self.rounded(&tile, panel).is_some();
                    let finished = if by_tile && panel == self.panels.start && !rounds {
                        self.first_tiles(&tile, ks.clone());
                        0
                    } else {
                        self.tiles(&tile, panel, ks.start)
                    };
                    if last && self.finish != Finish::InPlace && self.by_panel {
                        self.finish(panel..panel + 1, finished);
                    }
                }
            }
            unit += units;
            if last {
                break;
            }
        }
        if self.finish != Finish::InPlace && !self.by_panel {
            // SAFETY: by contract.
            unsafe { self.finish(self.panels.clone(), 0) };
        }
    }

    /// The first `finished` rows of the block need nothing more.
    unsafe fn finish(&self, panels: Range<usize>, finished: usize) {
        if self.finish == Finish::Turned {
            for (n, panel) in panels.enumerate() {
                // SAFETY: by contract.
                unsafe { self.turn(panel, n) };
            }
            return;
        }
        let (p, isa) = (self.work.p, self.work.engine.isa);
        let columns = self.work.columns(&panels);
        // SAFETY: by contract.
        unsafe {
            finish(
                p,
                isa,
                self.rows.start + finished..self.rows.end,
                columns,
                self.sums.data.wrapping_add(finished * self.sums.stride),
                self.sums.stride,
            );
        }
    }

    /// Transposes the `n`-th panel of the sums into the result, whose columns lie together.
    unsafe fn turn(&self, panel: usize, n: usize) {
        let (p, engine) = (self.work.p, &self.work.engine);
        let cols = self.work.columns(&(panel..panel + 1));
        let same = matches!(p.c.dtype, DType::F32 | DType::I32);
        let (to, stride) = if same {
            let to = p.c.at(self.rows.start, cols.start).cast_mut();
            (to, p.c.strides[1].unsigned_abs())
        } else {
            (self.turned, self.rows.len())
        };
        let work = Transpose {
            panel: to.cast(),
            panel_stride: stride,
            rows: self.sums.data.wrapping_add(4 * n * engine.kernels.cols),
            row_stride: self.sums.stride as isize,
            cols: self.rows.len(),
            units: cols.len(),
            fill: self.rows.len(),
        };
        // SAFETY: by contract; `turned` holds a panel of sums.
        unsafe {
            (engine.kernels.transpose)(&work);
            let p = p.turned();
            if Finish::of(&p) != Finish::InPlace || (p.input.is_some() && p.beta != 0.0) {
                finish(&p, engine.isa, cols, self.rows.clone(), to, 4 * stride);
            }
        }
    }

    /// A panel of B for these elements of K, and the bytes between its rows.
    unsafe fn panel(&self, panel: usize, ks: Range<usize>, unit: usize) -> (*const u8, usize) {
        let (engine, b) = (&self.work.engine, &self.work.p.b);
        let stride = engine.panel_stride();
        if let Some(packed) = self.work.packed {
            let first = unit + self.origin / engine.math.per_unit();
            return (packed.panel(panel).wrapping_add(first * stride), stride);
        }
        let cols = self.work.columns(&(panel..panel + 1));
        if self.in_place && cols.len() == engine.kernels.cols {
            return (b.at(ks.start, cols.start), b.strides[0].unsigned_abs() * 4);
        }
        // SAFETY: both blocks hold a panel of a step.
        unsafe {
            match self.work.groups {
                Some(groups) => {
                    groups.panel(self.work.p, engine, (cols, ks), (self.panel, self.spare))
                }
                None => _ = engine.panel(b, cols, ks, self.panel, self.spare),
            }
        };
        (self.panel, stride)
    }

    /// The result's part of a tile for the block's first row.
    fn destination(&self, panel: usize, first: bool, partial: bool) -> Tile {
        let p = self.work.p;
        let columns = self.work.columns(&(panel..panel + 1));
        let at = if self.by_panel {
            0
        } else {
            columns.start - self.work.columns(&self.panels).start
        };
        let c = self.sums.data.wrapping_add(4 * at);
        let input = p.input.filter(|_| p.beta != 0.0 && !partial);
        let (init, init_stride) = match input {
            _ if !first => (c.cast_const(), self.sums.stride),
            Some(input) if self.finish == Finish::InPlace => (
                input.at(self.rows.start, columns.start),
                input.strides[0].unsigned_abs() * 4,
            ),
            _ => (std::ptr::null(), 0),
        };
        Tile {
            k: 0,
            a: std::ptr::null(),
            a_stride: 0,
            b: std::ptr::null(),
            b_stride: 0,
            c,
            c_stride: self.sums.stride,
            init,
            init_stride,
            cols: columns.len(),
            next: std::ptr::null(),
            next_step: 0,
            next_run: usize::MAX,
            next_jump: 0,
        }
    }

    /// Copies rows of A, elements `ks`, into whole units.
    unsafe fn copy(&self, rows: Range<usize>, ks: Range<usize>, to: *mut u8) {
        let (engine, p) = (&self.work.engine, self.work.p);
        let Some(made) = self.work.made else {
            // SAFETY: by contract.
            return unsafe { engine.rows(&p.a, rows, ks, to, self.a_stride) };
        };
        let (count, used) = (rows.len(), ks.len() * p.a.dtype.size());
        // SAFETY: by contract.
        unsafe { made.write(rows, ks.clone(), to, self.a_stride) };
        let missing = 4 * engine.units(ks.len()) - used;
        for n in (0..count).take_while(|_| missing > 0) {
            // SAFETY: the copy has whole units.
            unsafe { to.add(n * self.a_stride + used).write_bytes(0, missing) };
        }
    }

    /// As [`Block::tiles`] for the first panel, which fetches rows of A and copies them where needed.
    unsafe fn first_tiles(&self, first: &Tile, ks: Range<usize>) {
        let (engine, a) = (&self.work.engine, &self.work.p.a);
        let kernels = engine.kernels;
        let size = a.dtype.size();
        let lines = (ks.len() * size).div_ceil(LINE);
        let row_bytes = a.strides[0].unsigned_abs() * size;
        for rows in self.cut(kernels.height) {
            let (from, to) = (self.rows.start + rows.start, self.rows.start + rows.end);
            if self.copies_a {
                let copy = self.a.wrapping_add(rows.start * self.a_stride);
                // SAFETY: the copy has room for the block's rows of a step.
                unsafe { self.copy(from..to, ks.clone(), copy) };
            }
            // After the last rows come those of the next block, or the next step's.
            let next = if to == self.rows.end && self.units > self.step {
                a.at(self.rows.start, ks.end)
            } else {
                a.at(to, ks.start)
            };
            let tile = Tile {
                next,
                next_step: LINE * kernels.height.div_ceil(16),
                next_run: lines.max(1),
                next_jump: row_bytes.wrapping_sub(LINE * lines.max(1)),
                ..first.down(rows.start)
            };
            // SAFETY: by contract.
            unsafe { (kernels.tile)(rows.len(), &tile) };
        }
    }

    /// The block's rows, counted from its first, in parts of `most`.
    fn cut(&self, most: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let kernels = self.work.engine.kernels;
        let len = self.rows.len();
        // Kernels that cut rows themselves are fastest with whole tiles; else equal parts are.
        let whole = kernels.rows > kernels.height;
        let count = len.div_ceil(most);
        (0..count).map(move |n| {
            if whole {
                n * most..len.min((n + 1) * most)
            } else {
                part(len, count, n)
            }
        })
    }

    /// Runs through the block's rows, while the next panel comes closer. How many of them are results
    /// already.
    unsafe fn tiles(&self, first: &Tile, panel: usize, k: usize) -> usize {
        let kernels = self.work.engine.kernels;
        let (next, step) = self.next(panel, k);
        let count = self.rows.len().div_ceil(kernels.height);
        // As many bytes for each tile, so that the last one ends the panel.
        let next_step = if first.k == 0 {
            0
        } else {
            (step / count).min(LINE * self.work.engine.math.parts())
        };
        let first = Tile {
            next,
            next_step,
            ..*first
        };
        if let Some((rounded, out)) = self.rounded(&first, panel) {
            let rows = self.rows.len() / kernels.height * kernels.height;
            // SAFETY: by contract.
            unsafe {
                rounded(rows, &first, &out);
                if rows < self.rows.len() {
                    (kernels.tile)(self.rows.len() - rows, &first.down(rows));
                }
            }
            return rows;
        }
        for (n, rows) in self.cut(kernels.rows).enumerate() {
            let tile = Tile {
                next: next.wrapping_add(n * next_step * first.k),
                ..first.down(rows.start)
            };
            // SAFETY: by contract.
            unsafe { (kernels.tile)(rows.len(), &tile) };
        }
        0
    }

    /// The kernel that rounds sums itself, and where to, if it applies to this panel.
    fn rounded(&self, t: &Tile, panel: usize) -> Option<(RoundedTiles, Rounded)> {
        let (p, kernels) = (self.work.p, self.work.engine.kernels);
        let rounded = kernels.rounded?;
        let input = p.input.filter(|_| p.beta != 0.0);
        let plain = |i: Matrix| i.dtype == DType::BF16 && i.strides[1] == 1 && i.strides[0] >= 0;
        let applies = self.work.engine.isa >= Isa::Avx512Bf16
            && self.by_panel
            && self.finish == Finish::Copy
            && self.rows.len() >= kernels.height
            && t.cols == kernels.cols
            && t.k > 0
            && t.k.is_multiple_of(16)
            && p.c.dtype == DType::BF16
            && p.c.strides[0] >= 0
            && p.alpha == 1.0
            && input.is_none_or(|i| p.beta == 1.0 && plain(i));
        let (row, col) = (
            self.rows.start,
            self.work.columns(&(panel..panel + 1)).start,
        );
        let out = Rounded {
            to: p.c.at(row, col).cast_mut(),
            stride: 2 * p.c.strides[0].unsigned_abs(),
            added: input.map_or(std::ptr::null(), |i| i.at(row, col)),
            added_stride: input.map_or(0, |i| 2 * i.strides[0].unsigned_abs()),
            left: match self.tiles {
                tiles if tiles.is_null() => Left::Rows,
                // The first panel's rows become tiles, which the others read.
                tiles if panel == self.panels.start => Left::ToTiles(tiles),
                tiles => Left::Tiles(tiles),
            },
        };
        applies.then_some((rounded, out))
    }

    /// Where the next panel's data starts, and how many bytes it has for each unit of K.
    fn next(&self, panel: usize, k: usize) -> (*const u8, usize) {
        let (engine, p) = (&self.work.engine, self.work.p);
        let here = self.work.columns(&(panel..panel + 1)).start;
        if panel + 1 >= self.panels.end {
            return (p.a.at(self.rows.start, 0), 0);
        }
        if let Some(packed) = self.work.packed {
            let stride = engine.panel_stride();
            let units = k / engine.math.per_unit();
            return (packed.panel(panel + 1).wrapping_add(units * stride), stride);
        }
        let follows =
            p.b.strides[0] == 1 && p.b.strides[1] as usize == self.units * engine.math.per_unit();
        if follows && self.units <= self.step {
            let bytes = engine.kernels.cols * engine.math.per_unit() * p.b.dtype.size();
            return (p.b.at(k, here + engine.kernels.cols), bytes);
        }
        (p.a.at(self.rows.start, 0), 0)
    }
}
