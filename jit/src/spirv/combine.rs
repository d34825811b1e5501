//! Reductions: of two values, and of the values of a group's items.

use super::Refused;
use super::function::{Function, local_array};
use crate::kernel::{CmpOp, ReduceOp, Type};
use rspirv::spirv::{MemorySemantics, Scope, StorageClass, Word};

/// A value, and the position it comes from if that is asked for.
type Found = (Word, Option<Word>);

impl Function<'_> {
    /// Combines what was found so far with what comes later.
    pub fn combine(
        &mut self,
        op: ReduceOp,
        ty: Type,
        old: Found,
        new: Found,
    ) -> Result<Found, Refused> {
        let value = self.binary(op.step(), ty, old.0, new.0)?;
        let (Some(before), Some(at)) = (old.1, new.1) else {
            return Ok((value, None));
        };
        // The old one stays if it is as good: equal, or NaN already.
        let better = if op == ReduceOp::Max {
            CmpOp::Gt
        } else {
            CmpOp::Lt
        };
        let mut wins = self.compare(better, ty, new.0, old.0)?;
        if ty.is_float() {
            let bool = self.m.bool;
            let (old_nan, new_nan) = (self.is_nan(old.0)?, self.is_nan(new.0)?);
            let fresh = self.m.b.logical_not(bool, None, old_nan)?;
            let first_nan = self.m.b.logical_and(bool, None, fresh, new_nan)?;
            wins = self.m.b.logical_or(bool, None, wins, first_nan)?;
        }
        let at = self.m.b.select(self.m.i64, None, wins, at, before)?;
        Ok((value, Some(at)))
    }

    /// As `combine`, of items whose positions are in no order: of equals the first counts.
    fn combine_unordered(
        &mut self,
        op: ReduceOp,
        ty: Type,
        a: Found,
        b: Found,
    ) -> Result<Found, Refused> {
        let (Some(i), Some(j)) = (a.1, b.1) else {
            return self.combine(op, ty, a, b);
        };
        let bool = self.m.bool;
        let a_first = self.m.b.s_less_than(bool, None, i, j)?;
        let word = self.m.ty(ty);
        let (x, y) = (
            self.m.b.select(word, None, a_first, a.0, b.0)?,
            self.m.b.select(word, None, a_first, b.0, a.0)?,
        );
        let (i, j) = (
            self.m.b.select(self.m.i64, None, a_first, i, j)?,
            self.m.b.select(self.m.i64, None, a_first, j, i)?,
        );
        self.combine(op, ty, (x, Some(i)), (y, Some(j)))
    }

    /// What all items of the group have found together; every item gets it.
    pub fn meet(
        &mut self,
        op: ReduceOp,
        ty: Type,
        own: Found,
        items: u32,
    ) -> Result<Found, Refused> {
        let slot = self.m.slot(ty);
        let values = self.meeting_array(slot, items);
        let places = own.1.map(|_| self.place_array(items));
        self.leave(values, ty, own.0)?;
        if let (Some(places), Some(at)) = (places, own.1) {
            self.leave(places, Type::I64, at)?;
        }
        self.barrier()?;
        let mut half = items / 2;
        while half > 0 {
            let limit = self.m.int64(half.into());
            let lower = self.m.b.s_less_than(self.m.bool, None, self.item, limit)?;
            let (run, join) = (self.m.b.id(), self.m.b.id());
            self.m.b.branch_conditional(lower, run, join, [])?;
            self.begin(run)?;
            let other = self.m.b.i_add(self.m.i64, None, self.item, limit)?;
            let find = |f: &mut Self, item| -> Result<Found, Refused> {
                let at = places.map(|p| f.fetch(p, Type::I64, item)).transpose()?;
                Ok((f.fetch(values, ty, item)?, at))
            };
            let item = self.item;
            let (a, b) = (find(self, item)?, find(self, other)?);
            let (value, at) = self.combine_unordered(op, ty, a, b)?;
            self.leave(values, ty, value)?;
            if let (Some(places), Some(at)) = (places, at) {
                self.leave(places, Type::I64, at)?;
            }
            self.m.b.branch(join)?;
            self.begin(join)?;
            self.barrier()?;
            half /= 2;
        }
        let zero = self.m.int64(0);
        let value = self.fetch(values, ty, zero)?;
        let at = places.map(|p| self.fetch(p, Type::I64, zero)).transpose()?;
        // The arrays are used again.
        self.barrier()?;
        Ok((value, at))
    }

    fn meeting_array(&mut self, slot: Word, items: u32) -> Word {
        if let Some(&known) = self.meeting.get(&slot) {
            return known;
        }
        let made = local_array(&mut self.m, slot, items.into());
        self.meeting.insert(slot, made);
        made
    }

    /// Positions meet apart from values, which may be I64 too: the key is no type's id.
    fn place_array(&mut self, items: u32) -> Word {
        const PLACES: Word = 0;
        if let Some(&known) = self.meeting.get(&PLACES) {
            return known;
        }
        let i64 = self.m.i64;
        let made = local_array(&mut self.m, i64, items.into());
        self.meeting.insert(PLACES, made);
        made
    }

    fn leave(&mut self, array: Word, ty: Type, value: Word) -> Result<(), Refused> {
        let item = self.item;
        self.write_local(array, ty, item, value)
    }

    fn fetch(&mut self, array: Word, ty: Type, item: Word) -> Result<Word, Refused> {
        self.read_local(array, ty, item)
    }

    /// Reads a slot of an array in local memory.
    pub fn read_local(&mut self, array: Word, ty: Type, at: Word) -> Result<Word, Refused> {
        let slot = self.m.slot(ty);
        let pointer = self.m.pointer(StorageClass::Workgroup, slot);
        let zero = self.m.int64(0);
        let place = self
            .m
            .b
            .in_bounds_ptr_access_chain(pointer, None, array, zero, [at])?;
        let value = self.m.b.load(slot, None, place, None, [])?;
        if ty != Type::Bool {
            return Ok(value);
        }
        let zero = self.m.int8(0);
        Ok(self.m.b.i_not_equal(self.m.bool, None, value, zero)?)
    }

    /// Writes a slot of an array in local memory.
    pub fn write_local(
        &mut self,
        array: Word,
        ty: Type,
        at: Word,
        value: Word,
    ) -> Result<(), Refused> {
        let slot = self.m.slot(ty);
        let pointer = self.m.pointer(StorageClass::Workgroup, slot);
        let zero = self.m.int64(0);
        let place = self
            .m
            .b
            .in_bounds_ptr_access_chain(pointer, None, array, zero, [at])?;
        let stored = match ty {
            Type::Bool => self.truth_byte(value)?,
            _ => value,
        };
        self.m.b.store(place, stored, None, [])?;
        Ok(())
    }

    /// A truth value as a byte.
    pub fn truth_byte(&mut self, value: Word) -> Result<Word, Refused> {
        let (one, zero) = (self.m.int8(1), self.m.int8(0));
        Ok(self.m.b.select(self.m.i8, None, value, one, zero)?)
    }

    /// Waits for all items of the group, and sees what they wrote.
    pub fn barrier(&mut self) -> Result<(), Refused> {
        let semantics = MemorySemantics::ACQUIRE_RELEASE
            | MemorySemantics::WORKGROUP_MEMORY
            | MemorySemantics::CROSS_WORKGROUP_MEMORY;
        let scope = self.m.int32(Scope::Workgroup as i32);
        let semantics = self.m.int32(semantics.bits() as i32);
        self.m.b.control_barrier(scope, scope, semantics)?;
        Ok(())
    }
}
