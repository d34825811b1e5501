//! Many rows: a block's keys and values are packed once, and read by the register tiles of all rows.

use super::micro::Scores;
use super::state::{State, Task, Work};
use crate::gemm::micro::Tile;
use crate::gemm::parts;
use std::ops::Range;

/// Keys of a block: their packed form stays in the second cache, and a tile's scores close to it.
const KEYS: usize = 512;

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

/// Computes a task; see [`Work::with_state`].
///
/// # Safety
/// The attention's memory is valid, no other thread writes these rows, and the processor has the
/// instruction set.
pub unsafe fn run(work: &Work, task: &Task, given: Option<State>) {
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
        engine.kernels.rows * scores_stride,
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
                block.run(start..end.min(start + step));
            }
        }
    };
    // SAFETY: by contract.
    unsafe { work.with_state(task, given, bytes, body) }
}

impl Block<'_> {
    /// Adds a block of keys to all rows.
    unsafe fn run(&self, keys: Range<usize>) {
        // SAFETY: by contract.
        unsafe { self.pack(&keys) };
        let rows = self.task.rows.len();
        for tile in parts(rows, self.work.engine.kernels.rows) {
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
        for n in 0..a.width.div_ceil(cols) {
            let to = self.panel(self.v, n, engine.units(keys.len()));
            let columns = self.columns(n, a.width);
            // SAFETY: as above.
            unsafe { engine.panel(&v, columns, keys.clone(), to, self.spare) };
        }
    }

    /// Scores of a tile's rows by so many keys.
    unsafe fn scores(&self, rows: Range<usize>, keys: usize) {
        let engine = &self.work.engine;
        let cols = engine.kernels.cols;
        let depth = engine.units(self.work.a.depth);
        for n in 0..keys.div_ceil(cols) {
            let tile = Tile {
                k: depth,
                a: self.q.wrapping_add(rows.start * self.q_stride),
                a_stride: self.q_stride,
                b: self.panel(self.k, n, depth),
                b_stride: 4 * cols,
                c: self.scores.wrapping_add(4 * n * cols),
                c_stride: self.scores_stride,
                init: std::ptr::null(),
                init_stride: 0,
                cols: self.columns(n, keys).len(),
                next: self.panel(self.k, n + 1, depth),
                next_step: 16,
            };
            // SAFETY: by contract.
            unsafe { (engine.kernels.tile)(rows.len(), &tile) };
        }
    }

    /// Scores into weights.
    unsafe fn weights(&self, rows: Range<usize>, keys: Range<usize>) {
        let (a, engine) = (self.work.a, &self.work.engine);
        let fill = engine.units(keys.len()) * engine.math.per_unit();
        for (n, r) in rows.enumerate() {
            let row = self.task.rows.start + r;
            let len = a.seen(row).clamp(keys.start, keys.end) - keys.start;
            // SAFETY: by contract.
            unsafe {
                let scores = Scores {
                    data: self.scores.add(n * self.scores_stride).cast(),
                    len,
                    fill,
                    scale: a.rule.scale,
                    mask: self.work.mask(self.task, row, keys.start, len, self.mask),
                    max: self.state.sums.add(r).read().max,
                    narrow: engine.math.per_unit() == 2,
                };
                let sums = (self.work.kernels.softmax)(&scores);
                self.state.add(self.work, r, sums);
            }
        }
    }

    /// Adds weights times values; the panels hold `packed` keys.
    unsafe fn values(&self, rows: Range<usize>, keys: usize, packed: usize) {
        let engine = &self.work.engine;
        let cols = engine.kernels.cols;
        for n in 0..self.work.a.width.div_ceil(cols) {
            let c = self.state.row(rows.start).wrapping_add(n * cols).cast();
            let tile = Tile {
                k: engine.units(keys),
                a: self.scores,
                a_stride: self.scores_stride,
                b: self.panel(self.v, n, engine.units(packed)),
                b_stride: 4 * cols,
                c,
                c_stride: self.state.stride,
                init: c,
                init_stride: self.state.stride,
                cols: self.columns(n, self.work.a.width).len(),
                next: self.k,
                next_step: 0,
            };
            // SAFETY: by contract.
            unsafe { (engine.kernels.tile)(rows.len(), &tile) };
        }
    }
}
