//! Few rows, as in decoding: reading the keys and values takes longest, so they are read once, in place.

use super::micro::{ROWS, Scores, Sums, Weigh};
use super::state::{State, Task, Work};
use crate::gemm::element;
use crate::gemm::micro::Dot;

/// Keys of a block.
const KEYS: usize = 128;

/// Whether [`run`] computes this.
pub fn applies(work: &Work) -> bool {
    let (a, engine) = (work.a, &work.engine);
    let few = a.rows() <= engine.kernels.dot_rows.min(ROWS);
    let in_place = element(engine.math, a.k.dtype) == a.k.dtype
        && (a.k.strides[3] == 1 || a.depth <= 1)
        && (a.v.strides[3] == 1 || a.width <= 1);
    few && in_place && work.kernels.weigh(a.v.dtype).is_some()
}

/// Computes a task; see [`Work::with_state`].
///
/// # Safety
/// The attention's memory is valid, no other thread writes these rows, the processor has the instruction
/// set, and [`applies`] holds.
pub unsafe fn run(work: &Work, task: &Task, given: Option<State>) {
    let (a, engine) = (work.a, &work.engine);
    let Some(weigh) = work.kernels.weigh(a.v.dtype) else {
        return debug_assert!(false, "no kernel for {}", a.v.dtype);
    };
    let rows = task.rows.len();
    let q_stride = (4 * engine.units(a.depth)).next_multiple_of(64);
    let scores_stride = 4 * KEYS;
    let bytes = [rows * q_stride, rows * scores_stride, 4 * KEYS];
    let body = |state: &State, [q, scores, mask]: [*mut u8; 3]| {
        // SAFETY: by contract.
        unsafe {
            work.queries(task, q, q_stride);
            let seen = task.rows.clone().map(|r| a.seen(r)).max().unwrap_or(0);
            let k = a.k.matrix(task.batch, task.kv_head);
            let v = a.v.matrix(task.batch, task.kv_head);
            let size = k.dtype.size();
            let end = task.keys.end.min(seen);
            for start in (task.keys.start..end).step_by(KEYS) {
                let keys = (end - start).min(KEYS);
                let dot = Dot {
                    k: a.depth,
                    a: q,
                    a_stride: q_stride,
                    b: k.at(start, 0),
                    b_stride: k.strides[0].unsigned_abs() * size,
                    c: scores,
                    c_stride: scores_stride,
                    cols: keys,
                };
                // Rows of keys may be far apart, where the processor itself does not see what comes next.
                work.prefetch(&v, a.width, start..start + keys);
                (engine.kernels.dot)(rows, &dot);
                for (r, row) in task.rows.clone().enumerate() {
                    let len = a.seen(row).clamp(start, start + keys) - start;
                    let row_scores = Scores {
                        data: scores.add(r * scores_stride).cast(),
                        len,
                        fill: keys,
                        scale: a.rule.scale,
                        mask: work.mask(task, row, start, len, mask),
                        max: state.sums.add(r).read().max,
                        narrow: false,
                    };
                    let mut sums = [Sums::NONE];
                    (work.kernels.softmax)(&[row_scores], &mut sums);
                    state.add(work, r, sums[0]);
                }
                let next = start + keys..end.min(start + 2 * keys);
                work.prefetch(&k, a.depth, next);
                let sums = Weigh {
                    weights: scores.cast(),
                    weights_stride: scores_stride,
                    v: v.at(start, 0),
                    v_stride: v.strides[0] * size as isize,
                    keys,
                    out: state.out,
                    out_stride: state.stride,
                    width: a.width,
                };
                weigh(rows, &sums);
            }
        }
    };
    // SAFETY: by contract.
    unsafe { work.with_state(task, given, bytes, body) }
}
