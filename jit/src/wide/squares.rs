//! A tile that is turned into scratch, and the loops that alone read it there: where both go by the same rows and columns,
//! its squares stay in registers. Besides the time of writing and reading them, that seems to leave the processor's queue of
//! stores, which is emptied in order, to the result: stores to scratch would wait there for those to memory.

use super::ahead::LINE;
use super::encode::Cond;
use super::lanes::{is_invariant, stride};
use super::lir::{Bound, Lir, Mem as Operand, Reg};
use super::lower::{Lanes, Lower, Part, UNIFORM};
use super::transpose::Turn;
use super::{Refused, functions};
use crate::kernel::{Index, Inst, Loop, Mem, Stmt, ValueId, VarId};
use cranelift_entity::EntitySet;

/// Instructions of all rows of a square, above which its code would be too long.
const MOST: usize = 1024;

/// A tile that is turned, and what reads it.
pub struct Squares<'a> {
    turn: Turn<'a>,
    rows: &'a Loop,
    columns: &'a Loop,
    /// The loop around both.
    tile: Option<VarId>,
}

/// What a square fetches of the next tile.
#[derive(Clone, Copy)]
struct Ahead {
    /// The address of what is fetched next.
    at: Reg,
    /// Columns that are fetched, lines of each, and bytes from one to the next.
    columns: i64,
    of_column: i64,
    column: i64,
}

impl Lower<'_> {
    /// Two neighbouring statements as a tile that is turned and read, if they are one.
    pub fn squares<'a>(&self, copy: &'a Stmt, reader: Option<&'a Stmt>) -> Option<Squares<'a>> {
        let (Stmt::Loop(copy), Some(Stmt::Loop(rows))) = (copy, reader) else {
            return None;
        };
        let turn = self.turn(copy)?;
        let [Stmt::Loop(columns)] = rows.body.as_slice() else {
            return None;
        };
        let plain = [rows, columns].iter().all(|l| l.carries.is_empty());
        let extent = |l: &Loop| self.kernel.vars[l.var].extent;
        let same = extent(rows) == extent(turn.rows) && extent(columns) == extent(turn.columns);
        let lanes = columns.vector && !rows.vector;
        let s = Squares {
            turn,
            rows,
            columns,
            tile: self.current,
        };
        (plain && same && lanes && self.reads_in_order(&s) && self.is_short(&s)).then_some(s)
    }

    /// Whether the tile lies in scratch as its reader goes through it, which touches nothing else there or where the tile is from.
    fn reads_in_order(&self, s: &Squares) -> bool {
        let (scratch, written) = s.turn.to;
        if !matches!(scratch, Mem::Scratch(_)) || written.offset != 0 {
            return false;
        }
        let steps = |index: &Index, rows: &Loop, columns: &Loop| {
            [rows, columns].map(|l| stride(index, Some(l.var)))
        };
        let order = steps(written, s.turn.rows, s.turn.columns);
        let fits = |stmt: &Stmt| match stmt {
            Stmt::Let {
                inst: Inst::Load { mem, index },
                ..
            } if *mem == scratch => {
                let terms = index.vars.len() == 2 && index.values.is_empty();
                terms && index.offset == 0 && steps(index, s.rows, s.columns) == order
            }
            Stmt::Let {
                inst: Inst::Load { index, .. },
                ..
            } => index.values.is_empty(),
            Stmt::Let {
                inst: Inst::Var(_), ..
            } => false,
            Stmt::Let { .. } => true,
            Stmt::Store { mem, index, .. } => {
                let aside = !matches!(mem, Mem::Scratch(_)) && *mem != s.turn.from.0;
                aside && index.values.is_empty() && stride(index, Some(s.columns.var)) == 1
            }
            Stmt::Loop(_) => false,
        };
        written.vars.len() == 2 && s.columns.body.iter().all(fits)
    }

    /// Whether the code of a square's rows, one after the other, is not too long.
    fn is_short(&self, s: &Squares) -> bool {
        let cost = |stmt: &Stmt| match stmt {
            Stmt::Let {
                inst: Inst::Const(_),
                ..
            } => 0,
            Stmt::Let { inst, .. } if functions::is_own(inst) => functions::VALUES,
            _ => 1,
        };
        let row: usize = s.columns.body.iter().map(cost).sum();
        row * self.count as usize <= MOST
    }

    /// Runs both: rows of squares, in each of which columns of squares follow one another.
    pub fn in_squares(&mut self, s: &Squares) -> Result<(), Refused> {
        let extent = |l: &Loop| i32::try_from(self.kernel.vars[l.var].extent);
        let rows = extent(s.rows).map_err(|_| Refused::Extent)?;
        let columns = extent(s.columns).map_err(|_| Refused::Extent)?;
        self.hoist_of_both(s)?;
        let outer_streams = std::mem::take(&mut self.streams);
        let source = self.turn_base(&s.turn, s.turn.from)?;
        let next = self.next_tile(s, source)?;
        let row = self.general();
        self.emit(Lir::Set { d: row, value: 0 });
        self.vars[s.rows.var] = Some(row);
        let (top, first) = (self.f.label(), self.f.code.len());
        self.emit(Lir::Bind(top));
        self.row_of_squares(s, (source, next), row, columns)?;
        self.next_square(row, rows, top, first);
        self.vars[s.rows.var] = None;
        self.streams = outer_streams;
        Ok(())
    }

    /// What is the same in all rows and columns.
    fn hoist_of_both(&mut self, s: &Squares) -> Result<(), Refused> {
        let mut inside: EntitySet<ValueId> = EntitySet::new();
        for stmt in &s.columns.body {
            let Stmt::Let { value, inst } = stmt else {
                continue;
            };
            let of = |l: &Loop| is_invariant(self.kernel, l.var, &inside, inst);
            if of(s.rows) && of(s.columns) {
                self.define(*value, inst)?;
                self.hoisted.insert(*value);
            } else {
                inside.insert(*value);
            }
        }
        Ok(())
    }

    /// What is fetched of the next tile for every square, if it can be divided.
    fn next_tile(&mut self, s: &Squares, source: Reg) -> Result<Option<Ahead>, Refused> {
        let (mem, index) = s.turn.from;
        let size = self.element_size(mem);
        let [tile, column] = [s.tile, Some(s.turn.columns.var)].map(|v| stride(index, v) * size);
        let lines = self.count * self.count * size / LINE;
        let height = self.kernel.vars[s.rows.var].extent as i64 * size;
        let of_column = height / LINE;
        if tile == 0 || height % LINE != 0 || lines % of_column != 0 {
            return Ok(None);
        }
        let at = self.general();
        self.emit(Lir::Move { d: at, a: source });
        let by = i32::try_from(tile).map_err(|_| Refused::Extent)?;
        self.emit(Lir::Advance { d: at, by });
        let columns = lines / of_column;
        Ok(Some(Ahead {
            at,
            columns,
            of_column,
            column,
        }))
    }

    /// Fetches what one square fetches of the next tile: whole columns, since memory is better at lines that are neighbours.
    fn fetch_lines(&mut self, next: Ahead) -> Result<(), Refused> {
        let m = Operand {
            base: Some(next.at),
            index: None,
            disp: 0,
        };
        for column in 0..next.columns {
            for line in 0..next.of_column {
                self.fetch(m, column * next.column + line * LINE)?;
            }
        }
        let by = i32::try_from(next.columns * next.column).map_err(|_| Refused::Extent)?;
        self.emit(Lir::Advance { d: next.at, by });
        Ok(())
    }

    fn row_of_squares(
        &mut self,
        s: &Squares,
        (source, next): (Reg, Option<Ahead>),
        row: Reg,
        columns: i32,
    ) -> Result<(), Refused> {
        self.streams.clear();
        let source = {
            let (d, by) = (self.general(), self.element_size(s.turn.from.0) as i32);
            let (base, index) = (source, row);
            self.emit(Lir::AddScaled { d, base, index, by });
            d
        };
        let at = self.general();
        self.emit(Lir::Set { d: at, value: 0 });
        self.prepare_streams(s.columns)?;
        self.vars[s.columns.var] = Some(at);
        let outer = self.current.replace(s.columns.var);
        self.lanes = Lanes {
            var: Some(s.columns.var),
            copies: 1,
            part: Part::Full,
        };
        if let Some(first) = self.stores_past_caches(s)? {
            let over = self.f.label();
            for (m, to) in first {
                self.emit(Lir::JumpIfUnaligned { m, to, over });
            }
            self.streaming = true;
            let all = self.columns_of_squares(s, (source, next), at, columns);
            self.streaming = false;
            all?;
            self.emit(Lir::Bind(over));
        }
        self.columns_of_squares(s, (source, next), at, columns)?;
        self.lanes = UNIFORM;
        self.vars[s.columns.var] = None;
        self.current = outer;
        Ok(())
    }

    /// The first stores of a row of squares that can go past the caches, if all of its rows are as aligned as they are.
    fn stores_past_caches(&mut self, s: &Squares) -> Result<Option<Vec<(Operand, i32)>>, Refused> {
        let aligned = s.columns.body.iter().all(|stmt| match stmt {
            Stmt::Store { mem, index, .. } => {
                let size = self.element_size(*mem);
                stride(index, Some(s.rows.var)) * size % (self.count * size) == 0
            }
            _ => true,
        });
        let first = self.streams_of(s.columns)?;
        Ok((aligned && !first.is_empty()).then_some(first))
    }

    /// What is left of a row of squares.
    fn columns_of_squares(
        &mut self,
        s: &Squares,
        (source, next): (Reg, Option<Ahead>),
        at: Reg,
        columns: i32,
    ) -> Result<(), Refused> {
        let (top, exit) = (self.f.label(), self.f.label());
        self.emit(Lir::JumpIf {
            cond: Cond::GreaterEqual,
            a: at,
            b: Bound::Imm(columns),
            to: exit,
        });
        let first = self.f.code.len();
        self.emit(Lir::Bind(top));
        let source = self.at_column(&s.turn, s.turn.from, source, at)?;
        if let Some(next) = next {
            self.fetch_lines(next)?;
        }
        let square = self.read_square(&s.turn, source, 0, 0)?;
        for (k, turned) in self.turned_square(square).into_iter().enumerate() {
            self.row_of_square(s, k as i64, turned)?;
        }
        self.next_square(at, columns, top, first);
        self.emit(Lir::Bind(exit));
        Ok(())
    }

    /// The reader's statements for a row of the current square.
    fn row_of_square(&mut self, s: &Squares, k: i64, turned: Reg) -> Result<(), Refused> {
        let in_row = |index: &Index| {
            let mut index = index.clone();
            index.offset += k * stride(&index, Some(s.rows.var));
            index
        };
        for stmt in &s.columns.body {
            match stmt {
                Stmt::Let { value, .. } if self.hoisted.contains(*value) => {}
                Stmt::Let {
                    value,
                    inst: Inst::Load { mem, index },
                } => {
                    let at = in_row(index);
                    self.defs[*value] = match *mem == s.turn.to.0 {
                        true => vec![turned],
                        false => vec![self.load(*mem, &at, 0)?],
                    };
                }
                Stmt::Let { value, inst } => self.define(*value, inst)?,
                Stmt::Store { mem, index, value } => self.store(*mem, &in_row(index), *value)?,
                Stmt::Loop(_) => return Err(Refused::Extent),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::lir::Src;
    use super::super::lower::lower;
    use super::super::target::Target;
    use super::*;
    use crate::kernel::parse;

    const TEXT: &str = "kernel (p0: in f32, p1: in f32, p2: out f32) {
    scratch s0: f32[4096]
    loop i0 < 4 {
        loop i1 < 4 {
            loop i2 < 64 {
                loop i3 < 64 vector {
                    v0: f32 = load p0[64*i0 + 16384*i1 + 256*i2 + i3]
                    store s0[i2 + 64*i3] = v0
                }
            }
            loop i4 < 64 {
                loop i5 < 64 vector {
                    v1: f32 = load s0[64*i4 + i5]
                    v2: f32 = load p1[16384*i0 + 64*i1 + 256*i4 + i5]
                    v3: f32 = sub v1, v2
                    store p2[16384*i0 + 64*i1 + 256*i4 + i5] = v3
                }
            }
        }
    }
}";

    /// Vectors that are loaded and stored, and lines that are fetched.
    fn counted(text: &str) -> [usize; 3] {
        let kernel = parse(text).unwrap();
        let f = lower(&kernel, Target::Avx512 { bf16: false }).unwrap();
        let count = |is: &dyn Fn(&Lir) -> bool| f.code.iter().filter(|i| is(i)).count();
        let memory = |i: &Lir, stores: bool| {
            let source = Src::Mem(Operand {
                base: None,
                index: None,
                disp: 0,
            });
            let kind = std::mem::discriminant(&source);
            matches!(i, Lir::Vector { b, store, .. } if *store == stores && std::mem::discriminant(b) == kind)
        };
        [
            count(&|i| memory(i, false)),
            count(&|i| memory(i, true)),
            count(&|i| matches!(i, Lir::Prefetch { .. })),
        ]
    }

    #[test]
    fn squares_stay_in_registers() {
        // Sixteen columns and as many rows of the other operand, and the result.
        assert_eq!(counted(TEXT), [32, 16, 16]);
        let streamed = TEXT.replace("out f32", "stream f32");
        assert_eq!(counted(&streamed), [64, 32, 32], "past the caches and not");
    }

    #[test]
    fn what_is_read_in_another_order_goes_through_scratch() {
        let through = |text: &str| counted(text)[1] > 16;
        let other = TEXT.replace("v1: f32 = load s0[64*i4 + i5]", "v1: f32 = load s0[i5]");
        assert!(through(&other), "one row");
        let other = TEXT.replace(
            "v2: f32 = load p1[",
            "v2: f32 = load s0[64*i4 + i5]\n v4: f32 = load p1[",
        );
        assert!(!through(&other), "twice");
        let other = TEXT.replace("sub v1, v2", "sub v1, v2\n v4: i32 = var i4");
        assert!(through(&other), "the number of a row");
    }
}
