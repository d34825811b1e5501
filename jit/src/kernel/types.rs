//! Types of SSA values.

use ipex_runtime::DType;

/// The type arithmetic runs in. Narrow storage types widen on load and narrow on store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the types")]
pub enum Type {
    F32,
    F64,
    I32,
    I64,
    Bool,
}

impl Type {
    /// The compute type of a storage dtype: f16 and bf16 compute in f32; i8, u8 and i16 in i32.
    pub fn of(dtype: DType) -> Type {
        match dtype {
            DType::F16 | DType::BF16 | DType::F32 => Type::F32,
            DType::F64 => Type::F64,
            DType::U8 | DType::I8 | DType::I16 | DType::I32 => Type::I32,
            DType::I64 => Type::I64,
            DType::Bool => Type::Bool,
        }
    }

    /// Whether this is F32 or F64.
    pub fn is_float(self) -> bool {
        matches!(self, Type::F32 | Type::F64)
    }
}
