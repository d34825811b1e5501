//! Types and constants of a module.

use crate::kernel::{Const, Type};
use ipex_runtime::DType;
use rspirv::dr::Builder;
use rspirv::spirv::{AddressingModel, Capability, ExecutionModel, MemoryModel, StorageClass, Word};
use std::collections::HashMap;

/// The module that is written, with the ids of its types and constants.
pub struct Module {
    pub b: Builder,
    /// The instructions of OpenCL.
    pub opencl: Word,
    pub bool: Word,
    pub i8: Word,
    pub i16: Word,
    pub i32: Word,
    pub i64: Word,
    pub f32: Word,
    pub f64_used: bool,
    f16_used: bool,
    constants: HashMap<(Word, u64), Word>,
}

impl Module {
    pub fn new() -> Module {
        let mut b = Builder::new();
        b.set_version(1, 1);
        for capability in [
            Capability::Addresses,
            Capability::Kernel,
            Capability::Int64,
            Capability::Int16,
            Capability::Int8,
        ] {
            b.capability(capability);
        }
        let opencl = b.ext_inst_import("OpenCL.std");
        b.memory_model(AddressingModel::Physical64, MemoryModel::OpenCL);
        Module {
            opencl,
            bool: b.type_bool(),
            i8: b.type_int(8, 0),
            i16: b.type_int(16, 0),
            i32: b.type_int(32, 0),
            i64: b.type_int(64, 0),
            f32: b.type_float(32, None),
            f64_used: false,
            f16_used: false,
            constants: HashMap::new(),
            b,
        }
    }

    pub fn f64(&mut self) -> Word {
        if !std::mem::replace(&mut self.f64_used, true) {
            self.b.capability(Capability::Float64);
        }
        self.b.type_float(64, None)
    }

    pub fn f16(&mut self) -> Word {
        if !std::mem::replace(&mut self.f16_used, true) {
            self.b.capability(Capability::Float16);
        }
        self.b.type_float(16, None)
    }

    /// The type of values.
    pub fn ty(&mut self, ty: Type) -> Word {
        match ty {
            Type::F32 => self.f32,
            Type::F64 => self.f64(),
            Type::I32 => self.i32,
            Type::I64 => self.i64,
            Type::Bool => self.bool,
        }
    }

    /// The type of elements in memory. bf16 has none.
    pub fn element(&mut self, dtype: DType) -> Word {
        match dtype {
            DType::U8 | DType::I8 | DType::Bool => self.i8,
            DType::I16 | DType::BF16 => self.i16,
            DType::F16 => self.f16(),
            DType::I32 => self.i32,
            DType::F32 => self.f32,
            DType::I64 => self.i64,
            DType::F64 => self.f64(),
        }
    }

    /// The type of values of this type in local memory: truth values have none.
    pub fn slot(&mut self, ty: Type) -> Word {
        match ty {
            Type::Bool => self.i8,
            other => self.ty(other),
        }
    }

    pub fn pointer(&mut self, class: StorageClass, to: Word) -> Word {
        self.b.type_pointer(None, class, to)
    }

    fn bits(&mut self, ty: Word, bits: u64, wide: bool) -> Word {
        if let Some(&known) = self.constants.get(&(ty, bits)) {
            return known;
        }
        let id = if wide {
            self.b.constant_bit64(ty, bits)
        } else {
            self.b.constant_bit32(ty, bits as u32)
        };
        self.constants.insert((ty, bits), id);
        id
    }

    pub fn int32(&mut self, n: i32) -> Word {
        self.bits(self.i32, n as u32 as u64, false)
    }

    pub fn int64(&mut self, n: i64) -> Word {
        self.bits(self.i64, n as u64, true)
    }

    /// An integer of the type of `like`'s width.
    pub fn int(&mut self, ty: Type, n: i64) -> Word {
        match ty {
            Type::I64 => self.int64(n),
            _ => self.int32(n as i32),
        }
    }

    pub fn int8(&mut self, n: u8) -> Word {
        self.bits(self.i8, n.into(), false)
    }

    pub fn float(&mut self, ty: Type, x: f64) -> Word {
        match ty {
            Type::F64 => self.constant(Const::F64(x.to_bits())),
            _ => self.constant(Const::F32((x as f32).to_bits())),
        }
    }

    pub fn constant(&mut self, c: Const) -> Word {
        match c {
            Const::F32(bits) => self.bits(self.f32, bits.into(), false),
            Const::F64(bits) => {
                let ty = self.f64();
                self.bits(ty, bits, true)
            }
            Const::I32(n) => self.int32(n),
            Const::I64(n) => self.int64(n),
            Const::Bool(true) => self.b.constant_true(self.bool),
            Const::Bool(false) => self.b.constant_false(self.bool),
        }
    }

    /// Names the entry point.
    pub fn entry(&mut self, function: Word, name: &str, interface: &[Word]) {
        self.b
            .entry_point(ExecutionModel::Kernel, function, name, interface);
    }
}
