//! What the processor does not foresee is fetched ahead: the next row, where a row has several loops (it would come from
//! memory in the first that reads it, and the others would leave memory idle); the next tile of what is turned. Columns
//! that go through all rows lose by it.

use super::Refused;
use super::encode::Cond;
use super::lir::{Lir, Mem as Operand, Reg};
use super::lower::{Lower, Part};
use crate::kernel::{Access, Index, Inst, Kernel, Loop, Mem, Stmt, Type, VarId};

/// Bytes of rows for which it pays: those of several lines that leave room for others in the second-level cache.
const ROW: std::ops::RangeInclusive<i64> = 1 << 10..=1 << 16;
/// Most bytes of a row that is fetched into the first-level cache: it stays there beside the row before it and what both share.
const NEAR: i64 = 8 << 10;
/// Bytes of a line.
pub const LINE: i64 = 64;

/// What a loop is the last of a row to read.
pub struct Ahead {
    /// The loop over rows.
    rows: VarId,
    /// What is read.
    reads: Vec<(Mem, Index)>,
    /// Where the next row of what is gathered starts.
    gathered: Vec<((Mem, Index), Reg)>,
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
        (!last.is_empty()).then_some(Ahead {
            rows,
            reads: last,
            gathered: Vec::new(),
        })
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

/// What the body of a vector loop reads of arguments.
fn reads(kernel: &Kernel, l: &Loop) -> Vec<(Mem, Index)> {
    let read = |s: &Stmt| match s {
        Stmt::Let {
            inst:
                Inst::Load {
                    mem: mem @ Mem::Param(p),
                    index,
                },
            ..
        } if kernel.params[*p].access == Access::In => Some((*mem, index.clone())),
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
        let Some(ahead) = &self.ahead else {
            return Ok(());
        };
        let here = |(m, i): &(Mem, Index)| *m == mem && i == index;
        if let Some((_, base)) = ahead.gathered.iter().find(|(read, _)| here(read)) {
            let next = Operand {
                base: Some(*base),
                ..m
            };
            let near = index.values.iter().all(|(_, step)| step * size <= NEAR);
            return self.fetch_to(next, 0, near);
        }
        let row = size * super::lanes::stride(index, Some(ahead.rows));
        let fixed = index.values.is_empty() && ROW.contains(&row);
        if fixed && ahead.reads.iter().any(here) {
            self.fetch_to(m, row, row <= NEAR)?;
        }
        Ok(())
    }

    /// Computes where the next row of what the next loop gathers starts; of the last row, that row itself.
    pub fn find_next_row(&mut self, body: &[Stmt]) -> Result<(), Refused> {
        let Some(mut ahead) = self.ahead.take() else {
            return Ok(());
        };
        let rows = ahead.rows;
        let places: Vec<_> = (ahead.reads.iter())
            .filter_map(|read| Some((read.clone(), self.place(read, rows, body)?)))
            .collect();
        if !places.is_empty() {
            let next = self.next(rows)?;
            for (read, (place, step)) in places {
                let (mem, index) = &place;
                let at = self.start_of(*mem, index, rows, next)?;
                let disp = i32::try_from(index.offset * self.element_size(*mem));
                let place = self.general();
                self.emit(Lir::LoadPointer {
                    d: place,
                    base: at,
                    disp: disp.map_err(|_| Refused::Extent)?,
                });
                let base = self.start_of(read.0, &read.1, rows, next)?;
                let base = self.further(read.0, base, place, step)?;
                ahead.gathered.push((read, base));
            }
        }
        self.ahead = Some(ahead);
        Ok(())
    }

    /// What says where a gathered row is, and the elements between two rows, if it is one number for each row in memory.
    fn place(
        &self,
        (gathered, index): &(Mem, Index),
        rows: VarId,
        body: &[Stmt],
    ) -> Option<((Mem, Index), i64)> {
        let [(value, step)] = *index.values.as_slice() else {
            return None;
        };
        let read = body.iter().find_map(|s| match s {
            Stmt::Let {
                value: v,
                inst: Inst::Load { mem, index },
            } if *v == value => Some((*mem, index.clone())),
            _ => None,
        });
        let (mem, at) = read?;
        let numbered = at.values.is_empty() && super::lanes::stride(&at, Some(rows)) != 0;
        let of_64_bits = self.kernel.values[value] == Type::I64 && self.element_size(mem) == 8;
        let long = ROW.contains(&(step * self.element_size(*gathered)));
        (numbered && of_64_bits && long).then_some(((mem, at), step))
    }

    /// The number of the next row, or of this one if it is the last.
    fn next(&mut self, rows: VarId) -> Result<Reg, Refused> {
        let row = self.vars[rows].ok_or(Refused::Extent)?;
        // Code is shared by kernels of any number of rows: only the caller knows the last.
        let end = self.ends[rows].ok_or(Refused::Extent)?;
        let (next, over) = (self.general(), self.f.label());
        self.emit(Lir::Move { d: next, a: row });
        self.emit(Lir::Advance { d: next, by: 1 });
        self.emit(Lir::JumpIf {
            cond: Cond::Less,
            a: next,
            b: end,
            to: over,
        });
        self.emit(Lir::Move { d: next, a: row });
        self.emit(Lir::Bind(over));
        Ok(next)
    }

    /// The address of what an index reads in a row, without what the loop in it and gathered values add.
    fn start_of(&mut self, mem: Mem, index: &Index, rows: VarId, row: Reg) -> Result<Reg, Refused> {
        let mut base = self.pointers[&mem];
        for &(var, stride) in &index.vars {
            let at = if var == rows {
                Some(row)
            } else {
                self.vars[var]
            };
            if let Some(at) = at {
                base = self.further(mem, base, at, stride)?;
            }
        }
        Ok(base)
    }

    /// Fetches the line so many bytes behind an address.
    pub fn fetch(&mut self, m: Operand, behind: i64) -> Result<(), Refused> {
        self.fetch_to(m, behind, false)
    }

    /// The same, into the first-level cache if it is to be near.
    fn fetch_to(&mut self, m: Operand, behind: i64, near: bool) -> Result<(), Refused> {
        let behind = i32::try_from(behind).map_err(|_| Refused::Extent)?;
        let disp = m.disp.checked_add(behind).ok_or(Refused::Extent)?;
        let m = Operand { disp, ..m };
        self.emit(Lir::Prefetch { m, near });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::target::Target;
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

    /// The bytes by which a row's number is multiplied for the lines that are fetched, and how many are.
    fn fetched(text: &str) -> (Vec<i32>, usize) {
        let kernel = parse(text).unwrap();
        let f = super::super::lower::lower(&kernel, Target::Avx512 { bf16: false }).unwrap();
        let lines = f.code.iter().filter_map(|i| match i {
            Lir::Prefetch { m, .. } => m.base,
            _ => None,
        });
        let lines: Vec<Reg> = lines.collect();
        let any = |is: &dyn Fn(&Lir) -> bool| f.code.iter().any(is);
        let next = |n: &Reg| any(&|i| matches!(i, Lir::Advance { d, by: 1 } if d == n));
        let of_next = |at: &Reg| {
            any(&|i| matches!(i, Lir::AddScaled { d, index, by: 8, .. } if d == at && next(index)))
        };
        let read = |at: &Reg| {
            any(&|i| matches!(i, Lir::LoadPointer { d, base, .. } if d == at && of_next(base)))
        };
        let factors = f.code.iter().filter_map(|i| match i {
            Lir::AddScaled { d, index, by, .. } if lines.contains(d) && read(index) => Some(*by),
            _ => None,
        });
        (factors.collect(), lines.len())
    }

    /// Whether each line goes into the first-level cache.
    fn near(text: &str) -> Vec<bool> {
        let kernel = parse(text).unwrap();
        let f = super::super::lower::lower(&kernel, Target::Avx512 { bf16: false }).unwrap();
        let lines = f.code.iter().filter_map(|i| match i {
            Lir::Prefetch { near, .. } => Some(*near),
            _ => None,
        });
        lines.collect()
    }

    #[test]
    fn short_rows_are_fetched_into_the_first_cache() {
        let text = "kernel (p0: in f32, p1: out f32) {
    loop i0 < 9 {
        loop i1 < 2048 vector {
            v0: f32 = load p0[2048*i0 + i1]
        } carry v1: f32 = sum v0
        loop i2 < 2048 vector {
            v2: f32 = load p0[2048*i0 + i2]
            v3: f32 = mul v2, v1
            store p1[2048*i0 + i2] = v3
        }
    }
}";
        assert_eq!(near(text), [true; 4]);
        assert_eq!(near(&text.replace("2048", "2056")), [false; 4]);
    }

    #[test]
    fn gathered_rows_are_fetched_where_the_next_row_is() {
        let text = "kernel (p0: in f32, p1: in i64, p2: out f32) {
    loop i0 < 9 {
        v0: i64 = load p1[i0]
        loop i1 < 512 vector {
            v1: f32 = load p0[512*v0 + i1]
        } carry v2: f32 = sum v1
        loop i2 < 512 vector {
            v3: f32 = load p0[512*v0 + i2]
            v4: f32 = mul v3, v2
            store p2[512*i0 + i2] = v4
        }
    }
}";
        assert_eq!(fetched(text), (vec![2048], 4));
        assert_eq!(near(text), [true; 4]);
        assert_eq!(near(&text.replace("512", "2056")), [false; 4], "long rows");
        let none = (Vec::new(), 0);
        assert_eq!(fetched(&text.replace("512", "200")), none, "short rows");
        assert_eq!(fetched(&text.replace("p1[i0]", "p1[0]")), none, "one row");
        let narrow = text.replace("p1: in i64", "p1: in i32");
        let narrow = narrow.replace(
            "v0: i64 = load p1[i0]",
            "v5: i32 = load p1[i0]\n v0: i64 = convert v5",
        );
        assert_eq!(fetched(&narrow), none, "a number that is computed");
    }
}
