//! What a task has summed so far, and how sums become the result.

use super::micro::{Kernels, RowMask, Sums};
use super::shape::{Attention, MaskKind, MaskedRows};
use crate::DType;
use crate::cpu::Isa;
use crate::gemm::{Engine, Math, Matrix, Row, convert, scratch};
use crate::prefetch;
use std::ops::Range;

/// An attention with what all threads share.
pub struct Work<'a> {
    pub a: &'a Attention,
    pub engine: Engine,
    pub kernels: &'static Kernels,
}

/// Rows that share keys (see [`Attention::rows`]), and those of the keys that they go through.
#[derive(Clone, Debug)]
pub struct Task {
    pub batch: usize,
    pub kv_head: usize,
    pub rows: Range<usize>,
    pub keys: Range<usize>,
}

/// Sums of a task's rows, in the order of the rows.
#[derive(Clone, Copy)]
pub struct State {
    /// f32 `[rows, width]`: weights times values.
    pub out: *mut f32,
    /// Bytes between its rows.
    pub stride: usize,
    /// Of the weights.
    pub sums: *mut Sums,
}

impl State {
    /// Bytes of `out` and of `sums`, for so many rows.
    pub fn bytes(rows: usize, stride: usize) -> [usize; 2] {
        [rows * stride, rows * size_of::<Sums>()]
    }

    /// Nothing summed.
    ///
    /// # Safety
    /// The memory is there.
    pub unsafe fn clear(&self, rows: usize) {
        // SAFETY: by contract.
        unsafe {
            self.out.write_bytes(0, rows * self.stride / 4);
            std::slice::from_raw_parts_mut(self.sums, rows).fill(Sums::NONE);
        }
    }

    /// The first number of a row.
    pub fn row(&self, row: usize) -> *mut f32 {
        self.out.wrapping_byte_add(row * self.stride)
    }

    /// Makes room for the weights of more keys, whose sums are relative to a maximum that covers those before.
    ///
    /// # Safety
    /// The row exists.
    pub unsafe fn add(&self, work: &Work, row: usize, new: Sums) {
        // SAFETY: by contract.
        unsafe {
            let old = self.sums.add(row).read();
            let mut sum = new.sum;
            if old.sum != 0.0 {
                let factor = old.rescale(new.max);
                if factor != 1.0 {
                    (work.kernels.scale)(self.row(row), self.row(row), work.a.width, factor);
                }
                sum += old.sum * factor;
            }
            let max = new.max;
            self.sums.add(row).write(Sums { max, sum });
        }
    }

    /// Adds what another task has summed of the same rows.
    ///
    /// # Safety
    /// Both have so many rows.
    pub unsafe fn merge(&self, work: &Work, other: &State, rows: usize) {
        for r in 0..rows {
            // SAFETY: by contract.
            unsafe {
                let (mine, theirs) = (self.sums.add(r).read(), other.sums.add(r).read());
                if theirs.sum == 0.0 {
                    continue;
                }
                let max = mine.max.max(theirs.max);
                let factor = theirs.rescale(max);
                let sum = theirs.sum * factor;
                self.add(work, r, Sums { max, sum });
                for j in 0..work.a.width {
                    *self.row(r).add(j) += other.row(r).add(j).read() * factor;
                }
            }
        }
    }

    /// Writes the result of a task's rows.
    ///
    /// # Safety
    /// No other thread writes these rows of the result.
    pub unsafe fn finish(&self, work: &Work, task: &Task) {
        let a = work.a;
        for (n, row) in task.rows.clone().enumerate() {
            let (head, query) = a.place(task.kv_head, row);
            // SAFETY: by contract.
            unsafe {
                let Sums { max, sum } = self.sums.add(n).read();
                let none = sum == 0.0;
                let factor = match a.rule.masked_rows {
                    MaskedRows::Zero if none => 0.0,
                    MaskedRows::Nan if none && a.keys > 0 => f32::NAN,
                    _ if none => 0.0,
                    _ => sum.recip(),
                };
                let to = a.out.row(task.batch, head, query).cast_mut();
                if a.out.dtype == DType::F32 {
                    (work.kernels.scale)(to.cast(), self.row(n), a.width, factor);
                } else if let (DType::BF16, Some(narrow)) = (a.out.dtype, work.kernels.narrow) {
                    narrow(to.cast(), self.row(n), a.width, factor);
                } else {
                    (work.kernels.scale)(self.row(n), self.row(n), a.width, factor);
                    let result = Row {
                        from: self.row(n).cast(),
                        dtype: DType::F32,
                        stride: 1,
                        len: a.width,
                        to,
                        into: a.out.dtype,
                    };
                    convert(work.engine.isa, &result);
                }
                if let Some(lse) = &a.lse {
                    let to = lse.row(task.batch, head, query).cast_mut().cast::<f32>();
                    to.write(if none { 0.0 } else { max + sum.ln() });
                }
            }
        }
    }
}

impl<'a> Work<'a> {
    /// Chooses the arithmetic.
    pub fn new(a: &'a Attention, isa: Isa) -> Result<Work<'a>, crate::Error> {
        let math = match a.q.dtype {
            DType::BF16 if isa == Isa::Scalar || isa >= Isa::Avx512Bf16 => Math::Bf16,
            _ => Math::F32,
        };
        Ok(Work {
            a,
            engine: Engine::new(isa, math)?,
            kernels: super::micro::kernels(isa),
        })
    }

    /// Bytes between rows of [`State::out`].
    pub fn stride(&self) -> usize {
        // Tiles write whole vectors.
        4 * self.a.width.next_multiple_of(16)
    }

    /// Runs `f` with a cleared state and other memory, then writes the result; with a given state, which others
    /// will be merged with, without the latter.
    ///
    /// # Safety
    /// A given state has room for the task's rows, and no other thread writes those.
    pub unsafe fn with_state<const N: usize>(
        &self,
        task: &Task,
        given: Option<State>,
        bytes: [usize; N],
        f: impl FnOnce(&State, [*mut u8; N]),
    ) {
        let (rows, stride) = (task.rows.len(), self.stride());
        let own = match given {
            Some(_) => [0, 0],
            None => State::bytes(rows, stride),
        };
        // One block for all, since the thread keeps one.
        let starts = |sizes: &[usize], start: *mut u8| {
            let mut at = start;
            let mut starts = [std::ptr::null_mut(); N];
            for (start, size) in starts.iter_mut().zip(sizes) {
                *start = at;
                at = at.wrapping_add(size.next_multiple_of(64));
            }
            starts
        };
        let other = bytes.iter().map(|b| b.next_multiple_of(64)).sum();
        scratch::with([own[0], own[1], other], |[out, sums, rest]| {
            let state = given.unwrap_or(State {
                out: out.cast(),
                stride,
                sums: sums.cast(),
            });
            // SAFETY: by contract.
            unsafe {
                state.clear(rows);
                f(&state, starts(&bytes, rest));
                if given.is_none() {
                    state.finish(self, task);
                }
            }
        });
    }

    /// Rows of q as rows of units, `stride` bytes apart.
    ///
    /// # Safety
    /// `to` holds them.
    pub unsafe fn queries(&self, task: &Task, to: *mut u8, stride: usize) {
        let a = self.a;
        let mut row = task.rows.start;
        while row < task.rows.end {
            let (head, query) = a.place(task.kv_head, row);
            let end = a.queries.min(query + task.rows.end - row);
            let at = to.wrapping_add((row - task.rows.start) * stride);
            let q = a.q.matrix(task.batch, head);
            // SAFETY: by contract.
            unsafe {
                if self.engine.reads(&q, q.strides[1], a.depth) {
                    for n in 0..end - query {
                        let bytes = a.depth * q.dtype.size();
                        let to = at.add(n * stride);
                        std::ptr::copy_nonoverlapping(q.at(query + n, 0), to, bytes);
                    }
                } else {
                    self.engine.rows(&q, query..end, 0..a.depth, at, stride);
                }
            }
            row += end - query;
        }
    }

    /// Asks for rows that will be read soon.
    pub fn prefetch(&self, of: &Matrix, columns: usize, rows: Range<usize>) {
        // Columns that are apart are on too many lines.
        if of.strides[1] == 1 {
            for row in rows {
                prefetch::read(of.at(row, 0), columns * of.dtype.size());
            }
        }
    }

    /// Asks for the memory of a task's results, which other threads have read.
    pub fn claim(&self, task: &Task) {
        let a = self.a;
        for row in task.rows.clone() {
            let (head, query) = a.place(task.kv_head, row);
            let to = a.out.row(task.batch, head, query);
            prefetch::write(to, a.width * a.out.dtype.size());
        }
    }

    /// What the mask has for `len` keys of a row, from `key` on; `spare` holds as many floats.
    ///
    /// # Safety
    /// As the attention's memory.
    pub unsafe fn mask(
        &self,
        task: &Task,
        row: usize,
        key: usize,
        len: usize,
        spare: *mut u8,
    ) -> RowMask {
        let (Some(mask), Some(kind)) = (&self.a.mask, self.a.rule.mask) else {
            return RowMask::None;
        };
        let (head, query) = self.a.place(task.kv_head, row);
        let stride = mask.strides[3];
        let size = mask.dtype.size() as isize;
        let from = mask.row(task.batch, head, query);
        let from = from.wrapping_offset(key as isize * stride * size);
        let bytes = mask.dtype == DType::Bool;
        let into = if bytes { DType::U8 } else { DType::F32 };
        let dtype = if bytes { DType::U8 } else { mask.dtype };
        let data = if stride == 1 && dtype == into {
            from
        } else {
            let row = Row {
                from,
                dtype,
                stride,
                len,
                to: spare,
                into,
            };
            // SAFETY: by contract.
            unsafe { convert(self.engine.isa, &row) };
            spare.cast_const()
        };
        match kind {
            MaskKind::Add if bytes => RowMask::Bool(data),
            MaskKind::Add => RowMask::Add(data.cast()),
            MaskKind::Keep(other) => RowMask::Keep(data, other),
        }
    }
}
