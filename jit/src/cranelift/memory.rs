//! Loads and stores, with conversion between memory and compute types.

use super::function::{Gen, Lanes, SCALAR};
use crate::kernel::{Index, Mem, Type};
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};
use ipex_runtime::DType;

impl Gen<'_, '_> {
    fn place(&self, mem: Mem) -> (Value, DType) {
        let base = match mem {
            Mem::Param(p) => self.params[p.as_u32() as usize],
            Mem::Scratch(s) => self.scratch[s.as_u32() as usize],
        };
        (base, self.kernel.dtype(mem))
    }

    /// Address of the first lane of the first copy, and a displacement in bytes.
    fn address(&mut self, base: Value, index: &Index, size: i64, copy: usize) -> (Value, i64) {
        let mut at = base;
        for &(var, stride) in &index.vars {
            let Some(v) = self.vars[var] else { continue };
            let scaled = self.scaled(v, stride * size);
            at = self.b.ins().iadd(at, scaled);
        }
        for &(value, stride) in &index.values {
            let v = self.get(value, copy);
            let scaled = self.scaled(v, stride * size);
            at = self.b.ins().iadd(at, scaled);
        }
        let mut offset = index.offset * size;
        if copy > 0 {
            offset += copy as i64 * i64::from(self.lanes.count) * self.lane_stride(index) * size;
        }
        (at, offset)
    }

    fn scaled(&mut self, v: Value, by: i64) -> Value {
        if by > 0 && by & (by - 1) == 0 {
            self.b.ins().ishl_imm_s(v, i64::from(by.trailing_zeros()))
        } else {
            self.b.ins().imul_imm_s(v, by)
        }
    }

    /// Elements between neighbouring lanes.
    fn lane_stride(&self, index: &Index) -> i64 {
        let var = self.lanes.var;
        index
            .vars
            .iter()
            .find(|(v, _)| Some(*v) == var)
            .map_or(0, |t| t.1)
    }

    fn displaced(&mut self, (at, offset): (Value, i64)) -> (Value, i32) {
        match i32::try_from(offset) {
            Ok(small) => (at, small),
            Err(_) => (self.b.ins().iadd_imm_s(at, offset), 0),
        }
    }

    /// The elements of one copy in the current lanes.
    pub fn load(&mut self, mem: Mem, index: &Index, copy: usize) -> Value {
        let (base, dtype) = self.place(mem);
        let size = dtype.size() as i64;
        let address = self.address(base, index, size, copy);
        let (at, offset) = self.displaced(address);
        let lanes = self.lanes;
        let stride = self.lane_stride(index);
        if lanes.count > 1 && stride == 1 {
            return self.load_vector(dtype, at, offset);
        }
        self.lanes = SCALAR;
        if lanes.count == 1 || stride == 0 {
            let v = self.load_scalar(dtype, at, offset);
            self.lanes = lanes;
            return self.splat(v, Type::of(dtype));
        }
        let mut vector = None;
        for lane in 0..lanes.count {
            let (at, offset) = self.lane_address(at, offset, lane, stride * size);
            self.lanes = SCALAR;
            let v = self.load_scalar(dtype, at, offset);
            vector = Some(self.insert(lanes, vector, v, lane, Type::of(dtype)));
        }
        self.lanes = lanes;
        vector.unwrap_or(at)
    }

    fn lane_address(&mut self, at: Value, offset: i32, lane: u32, stride: i64) -> (Value, i32) {
        self.displaced((at, i64::from(offset) + i64::from(lane) * stride))
    }

    fn insert(
        &mut self,
        lanes: Lanes,
        vector: Option<Value>,
        v: Value,
        lane: u32,
        ty: Type,
    ) -> Value {
        self.lanes = lanes;
        match vector {
            None => self.splat(v, ty),
            Some(vector) => {
                let v = if ty == Type::Bool {
                    let lane_ty = self.lane_type(ty).lane_type();
                    let wide = self.b.ins().uextend(lane_ty, v);
                    self.b.ins().ineg(wide)
                } else {
                    v
                };
                self.b.ins().insertlane(vector, v, lane as u8)
            }
        }
    }

    fn load_scalar(&mut self, dtype: DType, at: Value, offset: i32) -> Value {
        let flags = MemFlagsData::trusted();
        match dtype {
            DType::F32 => self.b.ins().load(types::F32, flags, at, offset),
            DType::F64 => self.b.ins().load(types::F64, flags, at, offset),
            DType::I32 => self.b.ins().load(types::I32, flags, at, offset),
            DType::I64 => self.b.ins().load(types::I64, flags, at, offset),
            DType::Bool => self.b.ins().load(types::I8, flags, at, offset),
            DType::U8 => self.b.ins().uload8(types::I32, flags, at, offset),
            DType::I8 => self.b.ins().sload8(types::I32, flags, at, offset),
            DType::I16 => self.b.ins().sload16(types::I32, flags, at, offset),
            DType::F16 | DType::BF16 => {
                let bits = self.b.ins().uload16(types::I32, flags, at, offset);
                self.widen(dtype, bits)
            }
        }
    }

    fn load_vector(&mut self, dtype: DType, at: Value, offset: i32) -> Value {
        let flags = MemFlagsData::new().with_notrap();
        let ty = self.lane_type(Type::of(dtype));
        match dtype.size() {
            4 | 8 => self.b.ins().load(ty, flags, at, offset),
            size => {
                let scalar = if size == 2 { types::I64 } else { types::I32 };
                let bits = self.b.ins().load(scalar, flags, at, offset);
                self.widen_vector(dtype, bits)
            }
        }
    }

    /// Writes the elements of one copy.
    pub fn store(&mut self, mem: Mem, index: &Index, copy: usize, v: Value) {
        let (base, dtype) = self.place(mem);
        let size = dtype.size() as i64;
        let address = self.address(base, index, size, copy);
        let (at, offset) = self.displaced(address);
        let lanes = self.lanes;
        let stride = self.lane_stride(index);
        if lanes.count == 1 {
            return self.store_scalar(dtype, at, offset, v);
        }
        if stride == 1 {
            let flags = MemFlagsData::new().with_notrap();
            let bits = if size < 4 {
                self.narrow_vector(dtype, v)
            } else {
                v
            };
            self.b.ins().store(flags, bits, at, offset);
            return;
        }
        for lane in 0..lanes.count {
            let mut one = self.b.ins().extractlane(v, lane as u8);
            if dtype == DType::Bool {
                one = self.b.ins().ireduce(types::I8, one);
                one = self.b.ins().band_imm_s(one, 1);
            }
            let (at, offset) = self.lane_address(at, offset, lane, stride * size);
            self.lanes = SCALAR;
            self.store_scalar(dtype, at, offset, one);
            self.lanes = lanes;
        }
    }

    fn store_scalar(&mut self, dtype: DType, at: Value, offset: i32, v: Value) {
        let flags = MemFlagsData::trusted();
        match dtype {
            DType::F32 | DType::F64 | DType::I32 | DType::I64 | DType::Bool => {
                self.b.ins().store(flags, v, at, offset);
            }
            DType::U8 | DType::I8 => {
                self.b.ins().istore8(flags, v, at, offset);
            }
            DType::I16 => {
                self.b.ins().istore16(flags, v, at, offset);
            }
            DType::F16 | DType::BF16 => {
                let bits = self.round(dtype, v);
                self.b.ins().istore16(flags, bits, at, offset);
            }
        }
    }
}
