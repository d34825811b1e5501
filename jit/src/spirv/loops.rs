//! Statements and loops.

use super::function::Function;
use super::{Refused, Spread};
use crate::kernel::{Access, Carry, Inst, Kernel, Loop, Mem, Stmt, Type, identity};
use rspirv::spirv::Word;

/// What a loop carries, in a loop's header.
struct Carried {
    /// Value and position at the start of an iteration.
    now: (Word, Option<Word>),
    /// Ids that those of the next iteration get.
    next: (Word, Option<Word>),
}

impl Function<'_> {
    pub fn statements(&mut self, body: &[Stmt]) -> Result<(), Refused> {
        for stmt in body {
            match stmt {
                Stmt::Let {
                    value,
                    inst: Inst::Scan { op, arg },
                } => {
                    let (ty, before) = (self.kernel.values[*value], self.running[*value]);
                    let new = (self.values[*arg], None);
                    self.values[*value] = self.combine(*op, ty, (before, None), new)?.0;
                }
                Stmt::Let { value, inst } => {
                    self.values[*value] = self.inst(self.kernel.values[*value], inst)?;
                }
                Stmt::Store { mem, index, value } => self.store(*mem, index, *value)?,
                Stmt::Loop(l) => self.run(l)?,
            }
        }
        Ok(())
    }

    fn run(&mut self, l: &Loop) -> Result<(), Refused> {
        let shared = match self.spread {
            Spread::Groups(n) if l.vector => Some(n),
            _ => None,
        };
        let around = self.alike;
        let (first, step) = match shared {
            Some(n) => {
                self.alike = false;
                (self.item, i64::from(n))
            }
            None => (self.m.int64(0), 1),
        };
        let carried = self.iterate(l, first, step)?;
        self.alike = around;
        for (carry, carried) in l.carries.iter().zip(carried) {
            let (value, at) = match shared {
                Some(n) => self.meet(carry.op, self.kernel.values[carry.result], carried, n)?,
                None => carried,
            };
            self.values[carry.result] = value;
            if let (Some(arg), Some(at)) = (carry.arg, at) {
                self.values[arg] = at;
            }
        }
        if shared.is_some() && leaves_traces(self.kernel, &l.body) {
            self.barrier()?;
        }
        Ok(())
    }

    /// The loop itself; what it has carried in this item.
    fn iterate(
        &mut self,
        l: &Loop,
        first: Word,
        step: i64,
    ) -> Result<Vec<(Word, Option<Word>)>, Refused> {
        let (i64, bool) = (self.m.i64, self.m.bool);
        let extent = self.m.int64(self.kernel.vars[l.var].extent as i64);
        let step = self.m.int64(step);
        let starts = l.carries.iter().map(|c| self.start(c)).collect::<Vec<_>>();
        let before = self.block;
        let [header, body, latch, exit, next] = [(); 5].map(|()| self.m.b.id());
        self.m.b.branch(header)?;
        self.begin(header)?;
        let var = self.m.b.phi(i64, None, [(first, before), (next, latch)])?;
        let mut all = Vec::new();
        for (carry, start) in l.carries.iter().zip(starts) {
            let ty = self.kernel.values[carry.result];
            all.push(self.carried(ty, start, before, latch)?);
        }
        let mut scans = Vec::new();
        for (value, op, _) in l.scans() {
            let ty = self.kernel.values[value];
            let start = (self.m.constant(identity(op, ty)), None);
            let c = self.carried(ty, start, before, latch)?;
            self.running[value] = c.now.0;
            scans.push((value, c.next.0));
        }
        let inside = self.m.b.s_less_than(bool, None, var, extent)?;
        self.m.b.branch_conditional(inside, body, exit, [])?;
        self.begin(body)?;
        self.vars[l.var] = var;
        self.statements(&l.body)?;
        for (carry, c) in l.carries.iter().zip(&all) {
            let ty = self.kernel.values[carry.result];
            let new = (self.values[carry.value], c.now.1.map(|_| var));
            let (value, at) = self.combine(carry.op, ty, c.now, new)?;
            let word = self.m.ty(ty);
            self.m.b.copy_object(word, Some(c.next.0), value)?;
            if let (Some(id), Some(at)) = (c.next.1, at) {
                self.m.b.copy_object(i64, Some(id), at)?;
            }
        }
        for (value, next) in scans {
            let word = self.m.ty(self.kernel.values[value]);
            self.m.b.copy_object(word, Some(next), self.values[value])?;
        }
        self.m.b.branch(latch)?;
        self.begin(latch)?;
        self.m.b.i_add(i64, Some(next), var, step)?;
        self.m.b.branch(header)?;
        self.begin(exit)?;
        Ok(all.into_iter().map(|c| c.now).collect())
    }

    fn start(&mut self, carry: &Carry) -> (Word, Option<Word>) {
        let ty = self.kernel.values[carry.result];
        let value = self.m.constant(identity(carry.op, ty));
        (value, carry.arg.map(|_| self.m.int64(0)))
    }

    fn carried(
        &mut self,
        ty: Type,
        start: (Word, Option<Word>),
        before: Word,
        latch: Word,
    ) -> Result<Carried, Refused> {
        let ty = self.m.ty(ty);
        let next = (self.m.b.id(), start.1.map(|_| self.m.b.id()));
        let value = [(start.0, before), (next.0, latch)];
        let value = self.m.b.phi(ty, None, value)?;
        let at = match (start.1, next.1) {
            (Some(first), Some(next)) => {
                let at = [(first, before), (next, latch)];
                Some(self.m.b.phi(self.m.i64, None, at)?)
            }
            _ => None,
        };
        Ok(Carried {
            now: (value, at),
            next,
        })
    }

    /// Runs `then` in the first item of the group alone.
    pub fn in_first_item(
        &mut self,
        then: impl FnOnce(&mut Self) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let zero = self.m.int64(0);
        let first = self.m.b.i_equal(self.m.bool, None, self.item, zero)?;
        let (run, join) = (self.m.b.id(), self.m.b.id());
        self.m.b.branch_conditional(first, run, join, [])?;
        self.begin(run)?;
        then(self)?;
        self.m.b.branch(join)?;
        self.begin(join)
    }
}

/// Whether a vector loop writes what other items may read: scratch, or parameters that are also read.
fn leaves_traces(kernel: &Kernel, body: &[Stmt]) -> bool {
    body.iter().any(|s| match s {
        Stmt::Store { mem, .. } => match mem {
            Mem::Scratch(_) => true,
            Mem::Param(p) => kernel.params[*p].access == Access::InOut,
        },
        Stmt::Loop(l) => leaves_traces(kernel, &l.body),
        Stmt::Let { .. } => false,
    })
}
