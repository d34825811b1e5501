//! Checks that a kernel is well-formed. The interpreter and the generators rely on it:
//!
//! - every id is one of the kernel's tables;
//! - every value is defined once, and each use comes after it, within the loop that defines it (a reduction's results
//!   are defined behind its loop). Ids that nothing defines are allowed: expansions leave them behind;
//! - operands and result of every instruction have the types that it takes and gives; a load gives, and a store
//!   takes, the memory's compute type;
//! - every loop has a variable of its own, with less than 2^63 iterations, and variables are used within their loop;
//! - an index names each variable once, in the order of their ids, and has no stride 0; its gathered
//!   components are I64;
//! - scratch is addressed by loop variables alone, inside its length, and stored to, in the order of the text, before it
//!   is loaded from; lanes of a vector loop store to different elements;
//! - `in` parameters are never stored to, `out` parameters never loaded from;
//! - no vector loop lies in another; a scan is in a loop that is neither the outermost nor a vector loop;
//! - the outermost loop carries nothing; a carried value is computed in the loop itself, has the result's type, and
//!   the reduction takes that type; a position belongs to `min` or `max` and is I64.

use super::{
    Access, Carry, Index, Inst, Kernel, Loop, Mem, ReduceOp, Scratch, ScratchId, Stmt, Type,
    ValueId, VarId, signature,
};
use cranelift_entity::EntitySet;
use std::fmt;
use thiserror::Error;

/// A fault, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{at}: {fault}")]
pub struct Invalid {
    /// Where.
    pub at: At,
    /// What is wrong.
    pub fault: Fault,
}

/// A place in a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The definition of a value, by an instruction or as a reduction's result.
    Value(ValueId),
    /// A store to this memory, in this loop.
    Store(Mem, VarId),
    /// A loop itself.
    Loop(VarId),
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Value(v) => v.fmt(f),
            At::Store(mem, var) => write!(f, "store to {mem} in loop {var}"),
            At::Loop(var) => write!(f, "loop {var}"),
        }
    }
}

/// What is wrong with a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// An id beyond its table.
    #[error("{0} is in no table")]
    Unknown(String),
    /// A second definition.
    #[error("defined twice")]
    DefinedTwice,
    /// A use that its definition does not reach.
    #[error("{0} is not defined here")]
    Undefined(ValueId),
    /// A variable outside of its loop.
    #[error("{0} is used outside of its loop")]
    OutsideLoop(VarId),
    /// Types that an instruction does not take or give.
    #[error("`{inst}` cannot take ({}) and give {result}", list(.operands))]
    Types {
        /// The instruction.
        inst: String,
        /// Types of its operands.
        operands: Vec<Type>,
        /// Type of the value that it defines.
        result: Type,
    },
    /// A load or store of a value that is not of the memory's compute type.
    #[error("{found} where the memory is computed in as {expected}")]
    MemoryType {
        /// The memory's.
        expected: Type,
        /// The value's.
        found: Type,
    },
    /// Two loops with one variable.
    #[error("another loop has the same variable")]
    SharedVariable,
    /// Too many iterations.
    #[error("{0} iterations")]
    Extent(u64),
    /// Variables out of order, repeated, or with a stride of 0.
    #[error("an index whose terms are unsorted, repeated or have a stride of 0")]
    Terms,
    /// A gathered component that is no I64.
    #[error("{0} in an index is {1}, not i64")]
    Component(ValueId, Type),
    /// An index outside of a scratch row.
    #[error("{slot} has {len} elements; the index runs from {low} to {high}")]
    OutOfScratch {
        /// The row.
        slot: ScratchId,
        /// Its length.
        len: u64,
        /// Smallest index.
        low: i128,
        /// Largest index.
        high: i128,
    },
    /// A gather from scratch.
    #[error("{0} is addressed by a computed value")]
    GatheredScratch(ScratchId),
    /// Lanes that store to one element.
    #[error("every lane of vector loop {1} stores to the same element of {0}")]
    SharedScratch(ScratchId, VarId),
    /// A load from a row that nothing has written yet.
    #[error("{0} is loaded from before it is stored to")]
    UnwrittenScratch(ScratchId),
    /// A load or store that a parameter's direction forbids.
    #[error("{0} is an `{1}` parameter")]
    Direction(Mem, Access),
    /// A vector loop in a vector loop.
    #[error("a vector loop in a vector loop")]
    NestedVector,
    /// A scan over iterations that have no order.
    #[error("a scan in {0}, whose iterations have no order")]
    Unordered(VarId),
    /// A reduction over the outermost loop.
    #[error("the outermost loop carries a value")]
    RootCarry,
    /// A carried value from outside of the loop's own statements.
    #[error("carries {0}, which is not computed in the loop itself")]
    ForeignCarry(ValueId),
    /// A reduction of a type that it does not take.
    #[error("{op} of {value} gives {result}")]
    Reduction {
        /// The reduction.
        op: ReduceOp,
        /// Type of what is combined.
        value: Type,
        /// Type of the result.
        result: Type,
    },
    /// A position that is no I64, or of a reduction without one.
    #[error("{0} has no position of type {1}")]
    Position(ReduceOp, Type),
}

fn list(types: &[Type]) -> String {
    let names: Vec<&str> = types.iter().map(|t| t.name()).collect();
    names.join(", ")
}

/// Checks everything that the module's documentation lists; the first fault in the order of the text.
pub fn verify(kernel: &Kernel) -> Result<(), Invalid> {
    let mut verifier = Verifier {
        kernel,
        defined: EntitySet::new(),
        visible: EntitySet::new(),
        seen: EntitySet::new(),
        around: Vec::new(),
        vector: None,
        written: EntitySet::new(),
    };
    if !kernel.root.carries.is_empty() {
        return fault(At::Loop(kernel.root.var), Fault::RootCarry);
    }
    verifier.loop_(&kernel.root)
}

struct Verifier<'a> {
    kernel: &'a Kernel,
    /// Values defined so far, anywhere.
    defined: EntitySet<ValueId>,
    /// Values that can be used here.
    visible: EntitySet<ValueId>,
    /// Variables of the loops so far.
    seen: EntitySet<VarId>,
    /// Variables of the loops around this place.
    around: Vec<VarId>,
    /// The vector loop around this place.
    vector: Option<VarId>,
    /// Scratch rows stored to so far.
    written: EntitySet<ScratchId>,
}

type Checked = Result<(), Invalid>;

fn fault(at: At, fault: Fault) -> Checked {
    Err(Invalid { at, fault })
}

/// `Err(fault)` unless `holds`.
fn ensure(at: At, holds: bool, otherwise: impl FnOnce() -> Fault) -> Checked {
    if holds {
        Ok(())
    } else {
        fault(at, otherwise())
    }
}

impl Verifier<'_> {
    fn loop_(&mut self, l: &Loop) -> Checked {
        let at = At::Loop(l.var);
        let Some(var) = self.kernel.vars.get(l.var) else {
            return fault(at, Fault::Unknown(l.var.to_string()));
        };
        ensure(at, self.seen.insert(l.var), || Fault::SharedVariable)?;
        ensure(at, var.extent < 1 << 63, || Fault::Extent(var.extent))?;
        let vector_around = self.vector;
        ensure(at, !l.vector || vector_around.is_none(), || {
            Fault::NestedVector
        })?;
        self.vector = vector_around.or(l.vector.then_some(l.var));
        self.around.push(l.var);
        let mut own = Vec::new();
        for stmt in &l.body {
            self.stmt(stmt, l.var, &mut own)?;
        }
        for carry in &l.carries {
            ensure(at, own.contains(&carry.value), || {
                Fault::ForeignCarry(carry.value)
            })?;
        }
        for v in own {
            self.visible.remove(v);
        }
        self.around.pop();
        self.vector = vector_around;
        Ok(())
    }

    /// `own` collects the values that are defined in the loop itself.
    fn stmt(&mut self, stmt: &Stmt, around: VarId, own: &mut Vec<ValueId>) -> Checked {
        match stmt {
            Stmt::Let { value, inst } => {
                self.inst(*value, inst)?;
                self.define(*value, own)
            }
            Stmt::Store { mem, index, value } => {
                let at = At::Store(*mem, around);
                self.use_value(at, *value)?;
                self.access(at, *mem, index, self.kernel.values[*value], Access::writes)?;
                match mem {
                    Mem::Scratch(s) => self.write_scratch(at, *s, index),
                    Mem::Param(_) => Ok(()),
                }
            }
            Stmt::Loop(inner) => {
                self.loop_(inner)?;
                for carry in &inner.carries {
                    self.carry(carry, own)?;
                }
                Ok(())
            }
        }
    }

    fn define(&mut self, value: ValueId, own: &mut Vec<ValueId>) -> Checked {
        let at = At::Value(value);
        ensure(at, self.defined.insert(value), || Fault::DefinedTwice)?;
        self.visible.insert(value);
        own.push(value);
        Ok(())
    }

    /// The results of a reduction; that the loop computes its value was checked there.
    fn carry(&mut self, carry: &Carry, own: &mut Vec<ValueId>) -> Checked {
        let at = At::Value(carry.result);
        let (value, result) = (self.ty(at, carry.value)?, self.ty(at, carry.result)?);
        let fits = value == result && signature::reduces(carry.op, value);
        let op = carry.op;
        ensure(at, fits, || Fault::Reduction { op, value, result })?;
        self.define(carry.result, own)?;
        if let Some(position) = carry.arg {
            let at = At::Value(position);
            let ty = self.ty(at, position)?;
            let fits = ty == Type::I64 && matches!(op, ReduceOp::Min | ReduceOp::Max);
            ensure(at, fits, || Fault::Position(op, ty))?;
            self.define(position, own)?;
        }
        Ok(())
    }

    fn ty(&self, at: At, value: ValueId) -> Result<Type, Invalid> {
        let found = self.kernel.values.get(value).copied();
        found.ok_or_else(|| Invalid {
            at,
            fault: Fault::Unknown(value.to_string()),
        })
    }

    fn use_value(&self, at: At, value: ValueId) -> Checked {
        self.ty(at, value)?;
        ensure(at, self.visible.contains(value), || Fault::Undefined(value))
    }

    fn use_var(&self, at: At, var: VarId) -> Checked {
        ensure(at, self.around.contains(&var), || Fault::OutsideLoop(var))
    }

    fn inst(&mut self, value: ValueId, inst: &Inst) -> Checked {
        let at = At::Value(value);
        let result = self.ty(at, value)?;
        let operands = inst.operands();
        for &v in &operands {
            self.use_value(at, v)?;
        }
        let ty = |v| self.kernel.values[v];
        ensure(at, signature::fits(inst, result, ty), || Fault::Types {
            inst: inst.to_string(),
            operands: operands.iter().map(|&v| ty(v)).collect(),
            result,
        })?;
        match inst {
            Inst::Var(var) => self.use_var(at, *var),
            Inst::Scan { .. } => match self.around.as_slice() {
                [_, .., var] if self.vector != Some(*var) => Ok(()),
                [.., var] => fault(at, Fault::Unordered(*var)),
                [] => Ok(()),
            },
            Inst::Load { mem, index } => {
                self.access(at, *mem, index, result, Access::reads)?;
                match mem {
                    Mem::Scratch(s) if !self.written.contains(*s) => {
                        fault(at, Fault::UnwrittenScratch(*s))
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// A load or store of a value of type `found`; `allowed` says whether a parameter has the direction.
    fn access(
        &self,
        at: At,
        mem: Mem,
        index: &Index,
        found: Type,
        allowed: fn(Access) -> bool,
    ) -> Checked {
        let unknown = || Fault::Unknown(mem.to_string());
        let expected = match mem {
            Mem::Param(p) => self.kernel.params.get(p).map(|p| Type::of(p.dtype)),
            Mem::Scratch(s) => self.kernel.scratch.get(s).map(|s| s.ty),
        };
        let Some(expected) = expected else {
            return fault(at, unknown());
        };
        ensure(at, expected == found, || Fault::MemoryType {
            expected,
            found,
        })?;
        self.index(at, index)?;
        match mem {
            Mem::Param(p) => {
                let access = self.kernel.params[p].access;
                ensure(at, allowed(access), || Fault::Direction(mem, access))
            }
            Mem::Scratch(s) => self.inside(at, s, self.kernel.scratch[s], index),
        }
    }

    fn write_scratch(&mut self, at: At, slot: ScratchId, index: &Index) -> Checked {
        self.written.insert(slot);
        match self.vector {
            Some(lanes) if index.vars.iter().all(|t| t.0 != lanes) => {
                fault(at, Fault::SharedScratch(slot, lanes))
            }
            _ => Ok(()),
        }
    }

    fn index(&self, at: At, index: &Index) -> Checked {
        for &(var, _) in &index.vars {
            self.use_var(at, var)?;
        }
        for &(v, _) in &index.values {
            self.use_value(at, v)?;
            let ty = self.kernel.values[v];
            ensure(at, ty == Type::I64, || Fault::Component(v, ty))?;
        }
        let sorted = index.vars.is_sorted_by(|a, b| a.0 < b.0);
        let moves = index.vars.iter().all(|t| t.1 != 0) && index.values.iter().all(|t| t.1 != 0);
        ensure(at, sorted && moves, || Fault::Terms)
    }

    /// Whether every index lies in a scratch row; loops without iterations have none.
    fn inside(&self, at: At, slot: ScratchId, row: Scratch, index: &Index) -> Checked {
        ensure(at, index.values.is_empty(), || Fault::GatheredScratch(slot))?;
        let extent = |v: VarId| i128::from(self.kernel.vars[v].extent);
        if self.around.iter().any(|&v| extent(v) == 0) {
            return Ok(());
        }
        let (mut low, mut high) = (i128::from(index.offset), i128::from(index.offset));
        for &(v, stride) in &index.vars {
            let end = (extent(v) - 1) * i128::from(stride);
            low += end.min(0);
            high += end.max(0);
        }
        let len = row.len;
        ensure(at, low >= 0 && high < i128::from(len), || {
            Fault::OutOfScratch {
                slot,
                len,
                low,
                high,
            }
        })
    }
}
