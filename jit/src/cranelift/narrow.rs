//! Conversions between 16- and 8-bit storage and 32-bit lanes, in integer arithmetic. The same code serves
//! scalars and vectors.

use super::function::Gen;
use crate::kernel::{Const, Type};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{self, Endianness, InstBuilder, MemFlagsData, Value, types};
use ipex_runtime::DType;

impl Gen<'_, '_> {
    fn k(&mut self, c: i32) -> Value {
        self.constant(Const::I32(c))
    }

    /// Reinterprets bits.
    pub fn cast(&mut self, to: ir::Type, v: Value) -> Value {
        if self.b.func.dfg.value_type(v) == to {
            return v;
        }
        self.b.ins().bitcast(
            to,
            MemFlagsData::new().with_endianness(Endianness::Little),
            v,
        )
    }

    /// `cond ? a : b`; `cond` is a comparison's result in the current lanes.
    pub fn choose(&mut self, cond: Value, a: Value, b: Value) -> Value {
        if self.lanes.count == 1 {
            return self.b.ins().select(cond, a, b);
        }
        let ty = self.b.func.dfg.value_type(a);
        let mask = self.cast(ty, cond);
        self.b.ins().bitselect(mask, a, b)
    }

    fn float(&mut self, bits: Value) -> Value {
        let ty = self.lane_type(Type::F32);
        self.cast(ty, bits)
    }

    fn bits(&mut self, v: Value) -> Value {
        let ty = self.lane_type(Type::I32);
        self.cast(ty, v)
    }

    fn shl(&mut self, v: Value, n: i64) -> Value {
        self.b.ins().ishl_imm_s(v, n)
    }

    /// f32 of the 16 low bits of i32 lanes.
    pub fn widen(&mut self, dtype: DType, bits: Value) -> Value {
        if dtype == DType::BF16 {
            let wide = self.shl(bits, 16);
            return self.float(wide);
        }
        let low = self.k(0x7fff);
        let magnitude = self.b.ins().band(bits, low);
        let sign = self.b.ins().bxor(bits, magnitude);
        let sign = self.shl(sign, 16);
        let shifted = self.shl(magnitude, 13);
        let small = self.float(shifted);
        let scale = self.constant(Const::F32(0x7780_0000)); // 2^112
        let scaled = self.b.ins().fmul(small, scale);
        let scaled = self.bits(scaled);
        let limit = self.k(0x7c00);
        let special = self
            .b
            .ins()
            .icmp(IntCC::SignedGreaterThanOrEqual, magnitude, limit);
        let exponent = self.k(0x7f80_0000);
        let infinite = self.b.ins().bor(shifted, exponent);
        let value = self.choose(special, infinite, scaled);
        let value = self.b.ins().bor(value, sign);
        self.float(value)
    }

    /// The 16 bits of f32 lanes rounded to nearest even, in the low half of i32 lanes.
    pub fn round(&mut self, dtype: DType, v: Value) -> Value {
        if dtype == DType::BF16 {
            let bits = self.bits(v);
            let odd = self.b.ins().ushr_imm_s(bits, 16);
            let one = self.k(1);
            let odd = self.b.ins().band(odd, one);
            let half = self.k(0x7fff);
            let sum = self.b.ins().iadd(bits, half);
            let sum = self.b.ins().iadd(sum, odd);
            let rounded = self.b.ins().ushr_imm_s(sum, 16);
            let nan = self.b.ins().fcmp(FloatCC::Unordered, v, v);
            let quiet = self.k(0x7fc0);
            return self.choose(nan, quiet, rounded);
        }
        let bits = self.bits(v);
        let low = self.k(0x7fff_ffff);
        let magnitude = self.b.ins().band(bits, low);
        let sign = self.b.ins().bxor(bits, magnitude);
        let sign = self.b.ins().ushr_imm_s(sign, 16);
        // Normal numbers: move the exponent and round the 13 bits that go.
        let odd = self.b.ins().ushr_imm_s(magnitude, 13);
        let one = self.k(1);
        let odd = self.b.ins().band(odd, one);
        let shift = self.k(0xfff - (112 << 23));
        let sum = self.b.ins().iadd(magnitude, shift);
        let sum = self.b.ins().iadd(sum, odd);
        let normal = self.b.ins().ushr_imm_s(sum, 13);
        // Subnormal ones: the addition of 0.5 leaves the rounded bits at the end.
        let magic = self.constant(Const::F32(0.5f32.to_bits()));
        let positive = self.float(magnitude);
        let sum = self.b.ins().fadd(positive, magic);
        let sum = self.bits(sum);
        let magic = self.k(0.5f32.to_bits() as i32);
        let tiny = self.b.ins().isub(sum, magic);
        let limit = self.k(0x3880_0000); // 2^-14
        let is_tiny = self.b.ins().icmp(IntCC::SignedLessThan, magnitude, limit);
        let finite = self.choose(is_tiny, tiny, normal);
        let limit = self.k(0x477f_f000); // 65520
        let is_huge = self
            .b
            .ins()
            .icmp(IntCC::SignedGreaterThanOrEqual, magnitude, limit);
        let infinity = self.k(0x7c00);
        let result = self.choose(is_huge, infinity, finite);
        let nan = self.b.ins().fcmp(FloatCC::Unordered, v, v);
        let quiet = self.k(0x7e00);
        let result = self.choose(nan, quiet, result);
        self.b.ins().bor(result, sign)
    }

    /// Four packed elements of 8 or 16 bits as 32-bit lanes.
    pub fn widen_vector(&mut self, dtype: DType, packed: Value) -> Value {
        let wide = if dtype.size() == 2 {
            let v = self.b.ins().scalar_to_vector(types::I64X2, packed);
            let v = self.cast(types::I16X8, v);
            if dtype == DType::I16 {
                self.b.ins().swiden_low(v)
            } else {
                self.b.ins().uwiden_low(v)
            }
        } else {
            let v = self.b.ins().scalar_to_vector(types::I32X4, packed);
            let v = self.cast(types::I8X16, v);
            if dtype == DType::I8 {
                let v = self.b.ins().swiden_low(v);
                self.b.ins().swiden_low(v)
            } else {
                let v = self.b.ins().uwiden_low(v);
                self.b.ins().uwiden_low(v)
            }
        };
        match dtype {
            DType::F16 | DType::BF16 => self.widen(dtype, wide),
            DType::Bool => self.b.ins().ineg(wide),
            _ => wide,
        }
    }

    /// 32-bit lanes as four packed elements of 8 or 16 bits.
    pub fn narrow_vector(&mut self, dtype: DType, v: Value) -> Value {
        let v = match dtype {
            DType::F16 | DType::BF16 => {
                let bits = self.round(dtype, v);
                self.wrap(DType::I16, bits)
            }
            DType::Bool => {
                let one = self.k(1);
                self.b.ins().band(v, one)
            }
            _ => self.wrap(dtype, v),
        };
        let half = self.b.ins().snarrow(v, v);
        if dtype.size() == 2 {
            let v = self.cast(types::I64X2, half);
            return self.b.ins().extractlane(v, 0);
        }
        let quarter = if dtype == DType::I8 {
            self.b.ins().snarrow(half, half)
        } else {
            self.b.ins().unarrow(half, half)
        };
        let v = self.cast(types::I32X4, quarter);
        self.b.ins().extractlane(v, 0)
    }

    /// i32 lanes wrapped to the range of a narrow integer.
    pub fn wrap(&mut self, dtype: DType, v: Value) -> Value {
        if dtype == DType::U8 {
            let low = self.k(0xff);
            return self.b.ins().band(v, low);
        }
        let n = if dtype == DType::I8 { 24 } else { 16 };
        let high = self.shl(v, n);
        self.b.ins().sshr_imm_s(high, n)
    }
}
