//! Copies that turn what they copy: a loop over columns around one over rows, which are neighbours where it reads,
//! while columns are where it writes. Squares of a vector's side are turned in registers.

use super::encode::{Cond, Label};
use super::lanes::stride;
use super::lir::{Bound, Lir, Mem as Operand, Reg};
use super::loops::stream_of;
use super::lower::{Lanes, Lower, Part, UNIFORM};
use super::{Refused, opcode as o};
use crate::kernel::{Index, Inst, Loop, Mem, Stmt, Type};
use ipex_runtime::DType;

/// A copy that turns.
pub struct Turn<'a> {
    /// The loop over what are neighbours where it writes.
    pub columns: &'a Loop,
    /// The loop over what are neighbours where it reads.
    pub rows: &'a Loop,
    /// What is read.
    pub from: (Mem, &'a Index),
    /// What is written.
    pub to: (Mem, &'a Index),
}

impl Lower<'_> {
    /// A loop as a copy that turns, if it is one whose elements are 32-bit words and fill squares.
    pub fn turn<'a>(&self, columns: &'a Loop) -> Option<Turn<'a>> {
        let [Stmt::Loop(rows)] = columns.body.as_slice() else {
            return None;
        };
        let [
            Stmt::Let {
                value,
                inst:
                    Inst::Load {
                        mem: source,
                        index: from,
                    },
            },
            Stmt::Store {
                mem: target,
                index: to,
                value: stored,
            },
        ] = rows.body.as_slice()
        else {
            return None;
        };
        let of = |index: &Index| [columns, rows].map(|l| stride(index, Some(l.var)));
        let ([across, next], [order, _]) = (of(from), of(to));
        let squares = [columns, rows].map(|l| {
            self.kernel.vars[l.var]
                .extent
                .is_multiple_of(self.count as u64)
        });
        let words = matches!(self.kernel.values[*value], Type::F32 | Type::I32)
            && matches!(self.dtype(*target), DType::F32 | DType::I32);
        let plain = from.values.is_empty() && to.values.is_empty() && value == stored;
        let fits = rows.vector && !columns.vector && self.lanes.var.is_none() && !self.halves();
        let turns = across.abs() > 1 && next == 1 && order == 1;
        (turns && fits && plain && words && squares == [true; 2]).then_some(Turn {
            columns,
            rows,
            from: (*source, from),
            to: (*target, to),
        })
    }

    /// Runs a copy: a loop over columns, in which the rows are unrolled.
    pub fn turned(&mut self, t: &Turn) -> Result<(), Refused> {
        let extent = |l: &Loop| i32::try_from(self.kernel.vars[l.var].extent);
        let columns = extent(t.columns).map_err(|_| Refused::Extent)?;
        let rows = extent(t.rows).map_err(|_| Refused::Extent)?;
        let (source, target) = (self.turn_base(t, t.from)?, self.turn_base(t, t.to)?);
        let at = self.general();
        self.emit(Lir::Set { d: at, value: 0 });
        self.lanes = Lanes {
            var: Some(t.rows.var),
            copies: 1,
            part: Part::Full,
        };
        let top = self.f.label();
        let first = self.f.code.len();
        self.emit(Lir::Bind(top));
        let source = self.at_column(t, t.from, source, at)?;
        let next_tile = self.element_size(t.from.0) * stride(t.from.1, self.current);
        let target = self.at_column(t, t.to, target, at)?;
        let side = self.count;
        for row in (0..i64::from(rows)).step_by(side as usize) {
            let square = self.read_square(t, source, row, next_tile)?;
            for (k, turned) in self.turned_square(square).into_iter().enumerate() {
                let m = self.element(t, t.to, target, row + k as i64, 0)?;
                self.store_vector(self.dtype(t.to.0), m, turned, false);
            }
        }
        self.next_square(at, columns, top, first);
        self.lanes = UNIFORM;
        Ok(())
    }

    /// `at += side`, and again from `top` while there is more.
    pub fn next_square(&mut self, at: Reg, end: i32, top: Label, first: usize) {
        self.emit(Lir::Advance {
            d: at,
            by: self.count as i32,
        });
        self.emit(Lir::JumpIf {
            cond: Cond::Less,
            a: at,
            b: Bound::Imm(end),
            to: top,
        });
        let last = self.f.code.len() - 1;
        self.f.loops.push((first, last));
    }

    /// A square's columns from an address and a row on; what lies `next_tile` bytes further is fetched, if that isn't 0.
    pub fn read_square(
        &mut self,
        t: &Turn,
        source: Reg,
        row: i64,
        next_tile: i64,
    ) -> Result<Vec<Reg>, Refused> {
        let side = self.count;
        let column = |k| {
            let m = self.element(t, t.from, source, row, k)?;
            if next_tile != 0 {
                self.fetch(m, next_tile)?;
            }
            Ok(self.widened(self.dtype(t.from.0), m.into()))
        };
        (0..side).map(column).collect()
    }

    /// The address of the first row and column.
    pub fn turn_base(&mut self, t: &Turn, (mem, index): (Mem, &Index)) -> Result<Reg, Refused> {
        let mut stream = stream_of(mem, index, t.columns);
        stream.vars.retain(|v| v.0 != t.rows.var);
        self.stream_base(&stream)
    }

    /// The address of a column's first row.
    pub fn at_column(
        &mut self,
        t: &Turn,
        (mem, index): (Mem, &Index),
        base: Reg,
        at: Reg,
    ) -> Result<Reg, Refused> {
        let step = stride(index, Some(t.columns.var)) * self.element_size(mem);
        let by = i32::try_from(step).map_err(|_| Refused::Extent)?;
        let (d, index) = (self.general(), at);
        self.emit(Lir::AddScaled { d, base, index, by });
        Ok(d)
    }

    /// The element of a row, some columns on.
    fn element(
        &self,
        t: &Turn,
        (mem, index): (Mem, &Index),
        base: Reg,
        row: i64,
        column: i64,
    ) -> Result<Operand, Refused> {
        let place = index.offset
            + row * stride(index, Some(t.rows.var))
            + column * stride(index, Some(t.columns.var));
        let disp = i32::try_from(place * self.element_size(mem));
        Ok(Operand {
            base: Some(base),
            index: None,
            disp: disp.map_err(|_| Refused::Extent)?,
        })
    }

    /// Rows of as many words as columns: pairs of words, pairs of pairs, then parts of 128 bits.
    pub fn turned_square(&mut self, rows: Vec<Reg>) -> Vec<Reg> {
        let full = self.target.full();
        let pair = |s: &mut Self, ty: Type, high: bool, a: Reg, b: Reg| {
            let op = o::float(ty, o::UNPACK + u8::from(high));
            s.vector_op(op, full, Type::F32, Some(a), b, None)
        };
        let mut quads: Vec<Reg> = Vec::with_capacity(rows.len());
        for four in rows.chunks_exact(4) {
            let low = pair(self, Type::F32, false, four[0], four[1]);
            let high = pair(self, Type::F32, true, four[0], four[1]);
            let low2 = pair(self, Type::F32, false, four[2], four[3]);
            let high2 = pair(self, Type::F32, true, four[2], four[3]);
            for (a, b) in [(low, low2), (high, high2)] {
                for upper in [false, true] {
                    quads.push(pair(self, Type::F64, upper, a, b));
                }
            }
        }
        // quads[4 q + c] has, in part l, rows 4 q.. of column 4 l + c.
        if quads.len() == 8 {
            self.columns_of_halves(&quads)
        } else {
            self.columns_of_quarters(&quads)
        }
    }

    fn columns_of_halves(&mut self, quads: &[Reg]) -> Vec<Reg> {
        let column = |s: &mut Self, c: usize, which: u8| {
            let (op, a, b) = (o::PERMUTE_HALVES, quads[c], quads[4 + c]);
            s.vector_op(op, 1, Type::F32, Some(a), b, Some(which))
        };
        let mut columns: Vec<Reg> = (0..4).map(|c| column(self, c, 0x20)).collect();
        columns.extend((0..4).map(|c| column(self, c, 0x31)));
        columns
    }

    fn columns_of_quarters(&mut self, quads: &[Reg]) -> Vec<Reg> {
        let quarters = |s: &mut Self, odd: bool, a: Reg, b: Reg| {
            let which = if odd { 0xDD } else { 0x88 };
            let op = o::of3a(Type::F32, o::QUARTERS);
            s.vector_op(op, 2, Type::F32, Some(a), b, Some(which))
        };
        let mut columns = quads.to_vec();
        for c in 0..4 {
            for odd in [false, true] {
                let a = quarters(self, odd, quads[c], quads[4 + c]);
                let b = quarters(self, odd, quads[8 + c], quads[12 + c]);
                let first = 4 * usize::from(odd) + c;
                columns[first] = quarters(self, false, a, b);
                columns[first + 8] = quarters(self, true, a, b);
            }
        }
        columns
    }
}
