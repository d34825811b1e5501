//! What the processor does not foresee is fetched ahead: the next row, where a row has several loops (it would come from
//! memory in the first that reads it, and the others would leave memory idle); the next tile of what is turned. Columns
//! that go through all rows lose by it.

use super::Refused;
use super::lir::{Lir, Mem as Operand};
use super::lower::{Lower, Part};
use crate::kernel::{Access, Index, Inst, Kernel, Loop, Mem, Stmt, VarId};

/// Bytes of rows for which it pays: those of several lines that leave room for others in the second-level cache.
const ROW: std::ops::RangeInclusive<i64> = 1 << 10..=1 << 16;
/// Bytes of a line.
const LINE: i64 = 64;

/// What a loop is the last of a row to read.
pub struct Ahead {
    /// The loop over rows.
    rows: VarId,
    /// What is read.
    reads: Vec<(Mem, Index)>,
}

/// For every loop of a row's body, if there are several: what is read there for the last time.
pub fn last_reads(kernel: &Kernel, body: &[Stmt], rows: Option<VarId>) -> Vec<Option<Ahead>> {
    let loops = body.iter().filter_map(|s| match s {
        Stmt::Loop(l) => Some(l),
        _ => None,
    });
    let loops: Vec<&Loop> = loops.collect();
    let reads: Vec<Vec<(Mem, Index)>> = loops.iter().map(|l| reads(kernel, l)).collect();
    let same = |k: usize, a: &(Mem, Index), j: usize, b: &(Mem, Index)| {
        a.0 == b.0 && a.1 == along(&b.1, loops[j].var, loops[k].var)
    };
    let of_loop = |k: usize| {
        let rows = rows.filter(|_| loops.len() > 1)?;
        let in_others = |a: &(Mem, Index), others: std::ops::Range<usize>| {
            others
                .into_iter()
                .any(|j| reads[j].iter().any(|b| same(k, a, j, b)))
        };
        let last = reads[k]
            .iter()
            .filter(|a| !in_others(a, k + 1..loops.len()));
        let last: Vec<_> = last.cloned().collect();
        (!last.is_empty()).then_some(Ahead { rows, reads: last })
    };
    (0..loops.len()).map(of_loop).collect()
}

/// An index of one loop's elements as another loop's.
fn along(index: &Index, from: VarId, to: VarId) -> Index {
    let mut index = index.clone();
    let own = index.vars.iter_mut().filter(|(v, _)| *v == from);
    own.for_each(|(v, _)| *v = to);
    index.vars.sort_unstable();
    index
}

/// What the body of a vector loop reads of arguments in order.
fn reads(kernel: &Kernel, l: &Loop) -> Vec<(Mem, Index)> {
    let read = |s: &Stmt| match s {
        Stmt::Let {
            inst:
                Inst::Load {
                    mem: mem @ Mem::Param(p),
                    index,
                },
            ..
        } if kernel.params[*p].access == Access::In && index.values.is_empty() => {
            Some((*mem, index.clone()))
        }
        _ => None,
    };
    match l.vector {
        true => l.body.iter().filter_map(read).collect(),
        false => Vec::new(),
    }
}

impl Lower<'_> {
    /// Fetches what the next row has in the place of a vector.
    pub fn fetch_ahead(
        &mut self,
        mem: Mem,
        index: &Index,
        copy: usize,
        m: Operand,
    ) -> Result<(), Refused> {
        let size = self.element_size(mem);
        // A line of narrow elements is several vectors.
        let starts_line = (copy as i64 * self.count * size) % LINE == 0;
        if self.lanes.part != Part::Full || !starts_line {
            return Ok(());
        }
        let Some(Ahead { rows, reads }) = &self.ahead else {
            return Ok(());
        };
        let row = size * super::lanes::stride(index, Some(*rows));
        if reads.iter().any(|(m, i)| *m == mem && i == index) && ROW.contains(&row) {
            self.fetch(m, row)?;
        }
        Ok(())
    }

    /// Fetches the line so many bytes behind an address.
    pub fn fetch(&mut self, m: Operand, behind: i64) -> Result<(), Refused> {
        let behind = i32::try_from(behind).map_err(|_| Refused::Extent)?;
        let disp = m.disp.checked_add(behind).ok_or(Refused::Extent)?;
        self.emit(Lir::Prefetch(Operand { disp, ..m }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::parse;

    #[test]
    fn what_a_row_reads_is_fetched_by_the_last_loop_that_reads_it() {
        let text = "kernel (p0: in f32, p1: in f32, p2: inout f32, p3: out f32) {
    loop i0 < 9 {
        loop i1 < 512 vector {
            v0: f32 = load p0[512*i0 + i1]
            v1: f32 = load p2[512*i0 + i1]
            v2: f32 = mul v0, v1
        } carry v3: f32 = sum v2
        loop i2 < 512 vector {
            v4: f32 = load p0[512*i0 + i2]
            v5: f32 = load p1[256*i0 + i2]
            v6: f32 = load p0[512*i0 + i2 + 1]
            v7: f32 = fma v4, v5, v6
            store p2[512*i0 + i2] = v7
        }
    }
}";
        let kernel = parse(text).unwrap();
        let found = last_reads(&kernel, &kernel.root.body, Some(kernel.root.var));
        let read: Vec<Vec<String>> = found
            .iter()
            .map(|a| match a {
                Some(a) => a.reads.iter().map(|(m, i)| format!("{m}[{i}]")).collect(),
                None => Vec::new(),
            })
            .collect();
        let last = ["p0[512*i0 + i2]", "p1[256*i0 + i2]", "p0[512*i0 + i2 + 1]"];
        assert_eq!(read, [vec![], last.map(String::from).to_vec()]);
    }
}
