//! How an attention is split over threads.

use super::shape::Attention;
use super::state::{State, Task, Work};
use super::{stream, tiles};
use crate::cpu::{Caches, Isa};
use crate::gemm::{Parallel, part};
use crate::{Error, pool};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Multiplications that are worth a second thread.
const WORK_PER_THREAD: usize = 1 << 17;
/// Tasks for each thread, so that they end at about the same time, where keys are split.
const TASKS_PER_THREAD: usize = 3;
/// Rows that take as long as packing the keys and values, which every task of a head does.
const ROWS_PER_PACK: usize = 32;
/// Keys of a task at least, where they are split.
const LEAST_KEYS: usize = 256;

/// Computes an attention. Errors are an unsupported combination of types, and those of the threads.
///
/// # Safety
/// The tensors are valid memory, and the results overlap none of them.
pub unsafe fn attend(a: &Attention, isa: Isa, threads: &dyn Parallel) -> Result<(), Error> {
    if !a.is_supported() || isa > Isa::of_processor() {
        return Err(Error::Plan(format!("no attention for {a:?}")));
    }
    if a.batch * a.heads * a.queries == 0 {
        return Ok(());
    }
    let work = Work::new(a, isa)?;
    let streams = stream::applies(&work);
    let split = Split::new(&work, streams, threads.threads());
    // SAFETY: by contract.
    let run = |task: &Task, next: Option<Task>, given: Option<State>| unsafe {
        if streams {
            stream::run(&work, task, given);
        } else {
            tiles::run(&work, task, next, given);
        }
    };
    if split.keys == 1 {
        // The last rows of a causal attention see most keys: they come first.
        let last = split.tasks() - 1;
        return each(threads, split.workers, split.tasks(), &|n, next| {
            let next = next.map(|n| split.task(a, last - n));
            run(&split.task(a, last - n), next, None);
        });
    }
    let most = a.rows().div_ceil(split.rows);
    let [out, sums] = State::bytes(most, work.stride()).map(|b| b.next_multiple_of(64));
    let bytes = ((out + sums) * split.tasks()).max(pool::SMALLEST);
    let (data, bytes) = pool::take(bytes).ok_or(Error::Memory(bytes))?;
    let base = data as usize;
    let state = |n: usize| {
        let out_at = (base as *mut u8).wrapping_add(n * (out + sums));
        State {
            out: out_at.cast(),
            stride: work.stride(),
            sums: out_at.wrapping_add(out).cast(),
        }
    };
    let summed = each(threads, split.workers, split.tasks(), &|n, _| {
        run(&split.task(a, n), None, Some(state(n)));
    });
    let merge = |n: usize, _| {
        let first = n * split.keys;
        let task = split.task(a, first);
        // SAFETY: by contract; all sums are there.
        unsafe {
            for other in 1..split.keys {
                state(first).merge(&work, &state(first + other), task.rows.len());
            }
            state(first).finish(&work, &task);
        }
    };
    let result =
        summed.and_then(|()| each(threads, split.workers, split.tasks() / split.keys, &merge));
    pool::give(data, bytes);
    result
}

/// Runs tasks on so many threads, each taking the next one when it is done. A task is told which one will
/// probably follow.
fn each(
    threads: &dyn Parallel,
    workers: usize,
    tasks: usize,
    task: &(dyn Fn(usize, Option<usize>) + Sync),
) -> Result<(), Error> {
    let next = AtomicUsize::new(0);
    threads.run(workers.min(tasks), &|_| {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= tasks {
                break;
            }
            let following = next.load(Ordering::Relaxed);
            task(n, (following < tasks).then_some(following));
        }
    })
}

/// The parts of each head's rows for which the last thread is done first.
fn least_time(heads: usize, rows: usize, workers: usize, parts: RangeInclusive<usize>) -> usize {
    let least = *parts.start();
    let time =
        |parts: usize| (heads * parts).div_ceil(workers) * (rows.div_ceil(parts) + ROWS_PER_PACK);
    parts.min_by_key(|&parts| time(parts)).unwrap_or(least)
}

/// Parts of the rows of each head of keys, and of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Split {
    /// Batch times heads of keys.
    heads: usize,
    rows: usize,
    keys: usize,
    workers: usize,
}

impl Split {
    fn new(work: &Work, streams: bool, threads: usize) -> Split {
        let a = work.a;
        let heads = a.batch * a.kv_heads;
        let products = heads * a.rows() * a.keys * (a.depth + a.width);
        let workers = threads.min(products / WORK_PER_THREAD).max(1);
        let wanted = if workers == 1 {
            1
        } else {
            TASKS_PER_THREAD * workers
        };
        let rows = if streams {
            1
        } else {
            // Queries and sums of a task stay in the second cache beside a block of keys and values.
            let each = 4 * (a.depth + a.width).max(1);
            let most = (Caches::get().l2 / 4 / each).max(work.engine.kernels.height);
            let useful = a.rows().div_ceil(2 * work.engine.kernels.height);
            let least = a.rows().div_ceil(most).max(1);
            // The tasks of a causal attention differ: as many as without one would do, and more.
            let more = if a.rule.causal {
                wanted.div_ceil(heads)
            } else {
                1
            };
            least_time(
                heads,
                a.rows(),
                workers,
                least.max(more.min(useful))..=least.max(useful),
            )
        };
        let missing = wanted.div_ceil(heads * rows);
        let keys = if heads * rows >= workers {
            1
        } else {
            missing.clamp(1, (a.keys / LEAST_KEYS).max(1))
        };
        Split {
            heads,
            rows,
            keys,
            workers,
        }
    }

    fn tasks(&self) -> usize {
        self.heads * self.rows * self.keys
    }

    fn task(&self, a: &Attention, n: usize) -> Task {
        let (n, keys) = (n / self.keys, n % self.keys);
        let (head, rows) = (n / self.rows, n % self.rows);
        Task {
            batch: head / a.kv_heads,
            kv_head: head % a.kv_heads,
            rows: part(a.rows(), self.rows, rows),
            keys: part(a.keys, self.keys, keys),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_split_where_threads_would_wait() {
        let parts = |heads: usize, rows: usize, workers: usize| {
            least_time(heads, rows, workers, 1..=rows.div_ceil(32))
        };
        // A head packs once for each of its tasks.
        assert_eq!(parts(12, 128, 2), 1);
        assert_eq!(parts(12, 128, 16), 1);
        // Half of the threads would have nothing to do.
        assert_eq!(parts(8, 128, 16), 2);
        assert_eq!(parts(1, 4096, 16), 16);
    }
}
