//! Loads, stores, and the conversions that belong to them.

use super::function::Function;
use super::{Refused, Spread};
use crate::kernel::{Access, Index, Mem, ParamId, Type, ValueId};
use ipex_runtime::DType;
use rspirv::spirv::{StorageClass, Word};

impl Function<'_> {
    /// The place of an element, in elements.
    fn place(&mut self, index: &Index) -> Result<Word, Refused> {
        let vars = index.vars.iter().map(|&(v, s)| (self.vars[v], s));
        let values = index.values.iter().map(|&(v, s)| (self.values[v], s));
        let terms: Vec<(Word, i64)> = vars.chain(values).collect();
        let i64 = self.m.i64;
        let mut sum = None;
        for (value, stride) in terms {
            let term = match stride {
                1 => value,
                _ => {
                    let stride = self.m.int64(stride);
                    self.m.b.i_mul(i64, None, value, stride)?
                }
            };
            sum = Some(match sum {
                Some(sum) => self.m.b.i_add(i64, None, sum, term)?,
                None => term,
            });
        }
        let offset = self.m.int64(index.offset);
        match sum {
            None => Ok(offset),
            Some(sum) if index.offset == 0 => Ok(sum),
            Some(sum) => Ok(self.m.b.i_add(i64, None, sum, offset)?),
        }
    }

    fn pointer(&mut self, p: ParamId, index: &Index) -> Result<(Word, Word), Refused> {
        let element = self.m.element(self.kernel.params[p].dtype);
        let ty = self.m.pointer(StorageClass::CrossWorkgroup, element);
        let (base, at) = (self.params[p], self.place(index)?);
        let pointer = self
            .m
            .b
            .in_bounds_ptr_access_chain(ty, None, base, at, [])?;
        Ok((pointer, element))
    }

    pub fn load(&mut self, mem: Mem, index: &Index) -> Result<Word, Refused> {
        match mem {
            Mem::Scratch(s) => {
                let (at, array) = (self.place(index)?, self.scratch[s]);
                self.read_local(array, self.kernel.scratch[s].ty, at)
            }
            Mem::Param(p) => {
                let (pointer, element) = self.pointer(p, index)?;
                let stored = self.m.b.load(element, None, pointer, None, [])?;
                self.widen(self.kernel.params[p].dtype, stored)
            }
        }
    }

    pub fn store(&mut self, mem: Mem, index: &Index, value: ValueId) -> Result<(), Refused> {
        let value = self.values[value];
        let once = self.alike && matches!(self.spread, Spread::Groups(n) if n > 1);
        let read_too = match mem {
            Mem::Scratch(_) => true,
            Mem::Param(p) => self.kernel.params[p].access == Access::InOut,
        };
        if !once {
            return self.store_here(mem, index, value);
        }
        // All items have the same value: the others must have read what one of them overwrites.
        if read_too {
            self.barrier()?;
        }
        self.in_first_item(|f| f.store_here(mem, index, value))?;
        if read_too {
            self.barrier()?;
        }
        Ok(())
    }

    fn store_here(&mut self, mem: Mem, index: &Index, value: Word) -> Result<(), Refused> {
        match mem {
            Mem::Scratch(s) => {
                let (at, array) = (self.place(index)?, self.scratch[s]);
                self.write_local(array, self.kernel.scratch[s].ty, at, value)
            }
            Mem::Param(p) => {
                let stored = self.narrow(self.kernel.params[p].dtype, value)?;
                let (pointer, _) = self.pointer(p, index)?;
                self.m.b.store(pointer, stored, None, [])?;
                Ok(())
            }
        }
    }

    /// An element of memory as a value.
    pub fn widen(&mut self, dtype: DType, stored: Word) -> Result<Word, Refused> {
        let (i32, f32) = (self.m.i32, self.m.f32);
        Ok(match dtype {
            DType::U8 => self.m.b.u_convert(i32, None, stored)?,
            DType::I8 | DType::I16 => self.m.b.s_convert(i32, None, stored)?,
            DType::F16 => self.m.b.f_convert(f32, None, stored)?,
            DType::BF16 => {
                let wide = self.m.b.u_convert(i32, None, stored)?;
                let sixteen = self.m.int32(16);
                let bits = self.m.b.shift_left_logical(i32, None, wide, sixteen)?;
                self.m.b.bitcast(f32, None, bits)?
            }
            DType::Bool => {
                let zero = self.m.int8(0);
                self.m.b.i_not_equal(self.m.bool, None, stored, zero)?
            }
            DType::I32 | DType::F32 | DType::I64 | DType::F64 => stored,
        })
    }

    /// A value as an element of memory.
    pub fn narrow(&mut self, dtype: DType, value: Word) -> Result<Word, Refused> {
        Ok(match dtype {
            DType::U8 | DType::I8 => self.m.b.u_convert(self.m.i8, None, value)?,
            DType::I16 => self.m.b.u_convert(self.m.i16, None, value)?,
            DType::F16 => {
                let half = self.m.f16();
                self.m.b.f_convert(half, None, value)?
            }
            DType::BF16 => self.rounded_bf16(value)?,
            DType::Bool => self.truth_byte(value)?,
            DType::I32 | DType::F32 | DType::I64 | DType::F64 => value,
        })
    }

    /// Rounds to nearest even; a NaN stays one.
    fn rounded_bf16(&mut self, value: Word) -> Result<Word, Refused> {
        let (i32, i16) = (self.m.i32, self.m.i16);
        let [sixteen, one, half, quiet] = [16, 1, 0x7fff, 0x40].map(|n| self.m.int32(n));
        let bits = self.m.b.bitcast(i32, None, value)?;
        let high = self.m.b.shift_right_logical(i32, None, bits, sixteen)?;
        let odd = self.m.b.bitwise_and(i32, None, high, one)?;
        let bias = self.m.b.i_add(i32, None, half, odd)?;
        let sum = self.m.b.i_add(i32, None, bits, bias)?;
        let rounded = self.m.b.shift_right_logical(i32, None, sum, sixteen)?;
        let nan = self.m.b.bitwise_or(i32, None, high, quiet)?;
        let is_nan = self.is_nan(value)?;
        let word = self.m.b.select(i32, None, is_nan, nan, rounded)?;
        Ok(self.m.b.u_convert(i16, None, word)?)
    }

    /// Rounds a value to what an element of memory holds.
    pub fn round_to(&mut self, dtype: DType, value: Word) -> Result<Word, Refused> {
        let stored = self.narrow(dtype, value)?;
        self.widen(dtype, stored)
    }

    /// What is a truth value of this type: other than zero.
    pub fn truth(&mut self, ty: Type, value: Word) -> Result<Word, Refused> {
        let bool = self.m.bool;
        Ok(match ty {
            Type::Bool => value,
            Type::I32 | Type::I64 => {
                let zero = self.m.int(ty, 0);
                self.m.b.i_not_equal(bool, None, value, zero)?
            }
            Type::F32 | Type::F64 => {
                let zero = self.m.float(ty, 0.0);
                self.m.b.f_unord_not_equal(bool, None, value, zero)?
            }
        })
    }
}
