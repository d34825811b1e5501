//! Many rows: a block's keys and values are packed once, and read by the register tiles of all rows.

use super::micro::{Scores, Sums};
use super::state::{State, Task, Work};
use crate::gemm::micro::Tile;
use crate::gemm::{Matrix, element, part, parts};
use std::ops::Range;

/// Keys of a block: their packed form stays in the second cache, and a tile's scores close to it.
const KEYS: usize = 512;

/// Rows that become weights together.
const ROWS: usize = 8;

/// Memory of a task, and its sizes.
struct Block<'a> {
    work: &'a Work<'a>,
    task: &'a Task,
    state: &'a State,
    q: *mut u8,
    q_stride: usize,
    /// Panels of the keys' columns.
    k: *mut u8,
    /// Panels of the values.
    v: *mut u8,
    /// Room to rearrange a panel.
    spare: *mut u8,
    scores: *mut u8,
    scores_stride: usize,
    mask: *mut u8,
}

/// Computes a task, see [`Work::with_state`]; what `next` reads first comes closer meanwhile.
///
/// # Safety
/// The attention's memory is valid, no other thread writes these rows, and the processor has the
/// instruction set.
pub unsafe fn run(work: &Work, task: &Task, next: Option<Task>, given: Option<State>) {
    let (a, engine) = (work.a, &work.engine);
    let cols = engine.kernels.cols;
    let blocks = task.keys.len().div_ceil(KEYS).max(1);
    let step = task
        .keys
        .len()
        .div_ceil(blocks)
        .max(1)
        .next_multiple_of(cols);
    let panel = |units: usize| 4 * cols * units;
    // An odd number of cache lines spreads the rows of a tile over all sets.
    let lines = |bytes: usize| (bytes.div_ceil(64) | 1) * 64;
    let q_stride = lines(4 * engine.units(a.depth));
    let scores_stride = lines(4 * step);
    let (depth, units) = (engine.units(a.depth), engine.units(step));
    let bytes = [
        task.rows.len() * q_stride,
        panel(depth) * step / cols,
        panel(units) * a.width.div_ceil(cols),
        panel(depth.max(units)),
        engine.kernels.height * scores_stride,
        4 * step,
    ];
    let body = |state: &State, [q, k, v, spare, scores, mask]: [*mut u8; 6]| {
        let block = Block {
            work,
            task,
            state,
            q,
            q_stride,
            k,
            v,
            spare,
            scores,
            scores_stride,
            mask,
        };
        // SAFETY: by contract.
        unsafe {
            work.queries(task, q, q_stride);
            let seen = task.rows.clone().map(|r| a.seen(r)).max().unwrap_or(0);
            let end = task.keys.end.min(seen);
            for start in (task.keys.start..end).step_by(step) {
                let stop = end.min(start + step);
                let more = Task {
                    keys: stop..end.min(stop + step),
                    rows: 0..0,
                    ..task.clone()
                };
                let next = if stop < end {
                    Some(&more)
                } else {
                    next.as_ref()
                };
                if stop == end && given.is_none() {
                    work.claim(task);
                }
                block.run(start..stop, next);
            }
        }
    };
    // SAFETY: by contract.
    unsafe { work.with_state(task, given, bytes, body) }
}

impl Block<'_> {
    /// Adds a block of keys to all rows.
    unsafe fn run(&self, keys: Range<usize>, next: Option<&Task>) {
        // SAFETY: by contract.
        unsafe { self.pack(&keys) };
        let rows = self.task.rows.len();
        let tiles = parts(rows, self.work.engine.kernels.height);
        let count = tiles.clone().count();
        for (n, tile) in tiles.enumerate() {
            if let Some(next) = next {
                self.prefetch(next, keys.len(), count, n);
            }
            let seen = |r: usize| self.work.a.seen(self.task.rows.start + r);
            let end = keys.end.min(tile.clone().map(seen).max().unwrap_or(0));
            if end > keys.start {
                // SAFETY: by contract.
                unsafe {
                    self.scores(tile.clone(), end - keys.start);
                    self.weights(tile.clone(), keys.start..end);
                    self.values(tile, end - keys.start, keys.len());
                }
            }
        }
    }

    /// The `n`-th of so many parts of the first rows that a task reads.
    fn prefetch(&self, next: &Task, keys: usize, count: usize, n: usize) {
        let a = self.work.a;
        let keys = part(next.keys.len().min(keys), count, n);
        let keys = next.keys.start + keys.start..next.keys.start + keys.end;
        let (batch, head) = (next.batch, next.kv_head);
        let (k, v) = (a.k.matrix(batch, head), a.v.matrix(batch, head));
        self.work.prefetch(&k, a.depth, keys.clone());
        self.work.prefetch(&v, a.width, keys);
        for row in part(next.rows.len(), count, n) {
            let (head, query) = a.place(next.kv_head, next.rows.start + row);
            let q = a.q.matrix(batch, head);
            self.work.prefetch(&q, a.depth, query..query + 1);
        }
    }

    /// The columns of a panel.
    fn columns(&self, panel: usize, of: usize) -> Range<usize> {
        let cols = self.work.engine.kernels.cols;
        panel * cols..of.min((panel + 1) * cols)
    }

    /// A panel of so many units.
    fn panel(&self, of: *mut u8, n: usize, units: usize) -> *mut u8 {
        of.wrapping_add(n * units * 4 * self.work.engine.kernels.cols)
    }

    unsafe fn pack(&self, keys: &Range<usize>) {
        let (a, engine) = (self.work.a, &self.work.engine);
        let cols = engine.kernels.cols;
        let (batch, head) = (self.task.batch, self.task.kv_head);
        let k = a.k.matrix(batch, head).transposed();
        let v = a.v.matrix(batch, head);
        for n in 0..keys.len().div_ceil(cols) {
            let columns = self.columns(n, keys.len());
            let columns = keys.start + columns.start..keys.start + columns.end;
            let to = self.panel(self.k, n, engine.units(a.depth));
            // SAFETY: the panels have room for the block.
            unsafe { engine.panel(&k, columns, 0..a.depth, to, self.spare) };
        }
        let own = element(engine.math, v.dtype) == v.dtype && v.strides[1] == 1;
        for n in 0..a.width.div_ceil(cols) {
            let to = self.panel(self.v, n, engine.units(keys.len()));
            let columns = self.columns(n, a.width);
            // SAFETY: as above.
            unsafe {
                if own && columns.len() == cols {
                    self.copy(&v, columns, keys, to);
                } else {
                    engine.panel(&v, columns, keys.clone(), to, self.spare);
                }
            }
        }
    }

    /// A whole panel of values that tiles multiply as they are.
    unsafe fn copy(&self, v: &Matrix, columns: Range<usize>, keys: &Range<usize>, to: *mut u8) {
        let per_unit = self.work.engine.math.per_unit();
        for (n, key) in keys.clone().step_by(per_unit).enumerate() {
            let to = to.wrapping_add(n * 4 * columns.len());
            let from = v.at(key, columns.start);
            // SAFETY: by contract.
            unsafe {
                if per_unit == 1 {
                    std::ptr::copy_nonoverlapping(from, to, 4 * columns.len());
                } else {
                    let next = if key + 1 < keys.end {
                        v.at(key + 1, columns.start)
                    } else {
                        std::ptr::null()
                    };
                    let rows = [from.cast(), next.cast()];
                    (self.work.kernels.pairs)(to.cast(), rows, columns.len());
                }
            }
        }
    }

    /// Scores of a tile's rows by so many keys.
    unsafe fn scores(&self, rows: Range<usize>, keys: usize) {
        let engine = &self.work.engine;
        let cols = engine.kernels.cols;
        let depth = engine.units(self.work.a.depth);
        let tile = Tile {
            k: depth,
            a: self.q.wrapping_add(rows.start * self.q_stride),
            a_stride: self.q_stride,
            b: self.k,
            b_stride: 4 * cols,
            c: self.scores,
            c_stride: self.scores_stride,
            init: std::ptr::null(),
            init_stride: 0,
            cols: keys,
            next: self.k,
            next_step: 0,
            next_run: usize::MAX,
            next_jump: 0,
        };
        // SAFETY: by contract.
        unsafe { engine.kernels.panels(rows.len(), &tile, 4 * cols * depth) };
    }

    /// Scores into weights.
    unsafe fn weights(&self, rows: Range<usize>, keys: Range<usize>) {
        // A row's mask may lie in the only spare one.
        let most = if self.work.a.mask.is_some() { 1 } else { ROWS };
        for n in (0..rows.len()).step_by(most) {
            let count = most.min(rows.len() - n);
            let (mut scores, mut sums) = ([Scores::NONE; ROWS], [Sums::NONE; ROWS]);
            // SAFETY: by contract.
            unsafe {
                for (i, scores) in scores.iter_mut().enumerate().take(count) {
                    *scores = self.row(n + i, rows.start + n + i, &keys);
                }
                (self.work.kernels.softmax)(&scores[..count], &mut sums[..count]);
                for (i, sums) in sums.into_iter().enumerate().take(count) {
                    self.state.add(self.work, rows.start + n + i, sums);
                }
            }
        }
    }

    /// The `n`-th row of scores, which is the task's row `r`.
    unsafe fn row(&self, n: usize, r: usize, keys: &Range<usize>) -> Scores {
        let (a, engine) = (self.work.a, &self.work.engine);
        let row = self.task.rows.start + r;
        let len = a.seen(row).clamp(keys.start, keys.end) - keys.start;
        // SAFETY: by contract.
        unsafe {
            Scores {
                data: self.scores.add(n * self.scores_stride).cast(),
                len,
                fill: engine.units(keys.len()) * engine.math.per_unit(),
                scale: a.rule.scale,
                mask: self.work.mask(self.task, row, keys.start, len, self.mask),
                max: self.state.sums.add(r).read().max,
                narrow: engine.math.per_unit() == 2,
            }
        }
    }

    /// Adds weights times values; the panels hold `packed` keys.
    unsafe fn values(&self, rows: Range<usize>, keys: usize, packed: usize) {
        let engine = &self.work.engine;
        let cols = engine.kernels.cols;
        let c = self.state.row(rows.start).cast();
        let tile = Tile {
            k: engine.units(keys),
            a: self.scores,
            a_stride: self.scores_stride,
            b: self.v,
            b_stride: 4 * cols,
            c,
            c_stride: self.state.stride,
            init: c,
            init_stride: self.state.stride,
            cols: self.work.a.width,
            next: self.k,
            next_step: 0,
            next_run: usize::MAX,
            next_jump: 0,
        };
        // SAFETY: by contract.
        unsafe {
            engine
                .kernels
                .panels(rows.len(), &tile, 4 * cols * engine.units(packed))
        };
    }
}
