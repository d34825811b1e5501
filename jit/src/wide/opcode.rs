//! The vector operations that the generator uses, by Intel's names without their element suffix.

use super::encode::Opcode;
use crate::kernel::{BinaryOp, Type};

const fn op(map: u8, pp: u8, w: bool, byte: u8) -> Opcode {
    Opcode { map, pp, w, byte }
}

/// Packed floats: pp and w follow the element type.
pub fn float(ty: Type, byte: u8) -> Opcode {
    let wide = ty == Type::F64;
    op(1, u8::from(wide), wide, byte)
}

/// An operation of map 0F38 with prefix 66 on elements of the type's width.
pub fn of38(ty: Type, byte: u8) -> Opcode {
    op(2, 1, is_wide(ty), byte)
}

/// The same of map 0F3A.
pub fn of3a(ty: Type, byte: u8) -> Opcode {
    op(3, 1, is_wide(ty), byte)
}

/// Whether elements have 64 bits.
pub fn is_wide(ty: Type) -> bool {
    matches!(ty, Type::F64 | Type::I64)
}

/// vfmadd132, 213 and 231: add 0x10 and 0x20.
pub const FMADD132: u8 = 0x98;
/// vmovups (load; the store is one more)
pub const LOAD: u8 = 0x10;
/// vmovaps
pub const MOVE: u8 = 0x28;
/// vunpcklps, vunpcklpd; the high halves are one more
pub const UNPACK: u8 = 0x14;
/// vshuff32x4
pub const QUARTERS: u8 = 0x23;
/// vshufps
pub const SHUFFLE: u8 = 0xC6;
/// vpermilpd by a constant
pub const SHUFFLE_64: u8 = 0x05;
/// vpermilps by a constant
pub const SHUFFLE_32: u8 = 0x04;
/// vsqrtps
pub const SQRT: u8 = 0x51;
/// vdivps
pub const DIV: u8 = 0x5E;
/// vaddps
pub const ADD: u8 = 0x58;
/// vmulps
pub const MUL: u8 = 0x59;
/// vsubps
pub const SUB: u8 = 0x5C;
/// vmaxps
pub const MAX: u8 = 0x5F;
/// vminps
pub const MIN: u8 = 0x5D;
/// vcmpps
pub const CMP: u8 = 0xC2;

/// vpandd
pub const AND: Opcode = op(1, 1, false, 0xDB);
/// vpandnd: the second without the first
pub const AND_NOT: Opcode = op(1, 1, false, 0xDF);
/// vpord
pub const OR: Opcode = op(1, 1, false, 0xEB);
/// vpxord
pub const XOR: Opcode = op(1, 1, false, 0xEF);
/// vmovntps
pub const STREAM: Opcode = op(1, 0, false, 0x2B);
/// vcvtneps2bf16
pub const TO_BF16: Opcode = op(2, 2, false, 0x72);
/// vfpclassps
pub const CLASS: Opcode = op(3, 1, false, 0x66);
/// The class of numbers below the least normal one.
pub const DENORMAL: u8 = 0x20;
/// vmovdqu16 (load; the store is 0x10 more)
pub const LOAD_16: Opcode = op(1, 3, true, 0x6F);
/// vscalefps
pub const SCALE: Opcode = op(2, 1, false, 0x2C);
/// vgetexpps
pub const EXPONENT: Opcode = op(2, 1, false, 0x42);
/// vgetmantps
pub const MANTISSA: Opcode = op(3, 1, false, 0x26);
/// Mantissas of 0.75 to 1.5, NaN for what is below 0.
pub const AROUND_1: u8 = 0x0B;
/// vpternlogd
pub const TERNARY: Opcode = op(3, 1, false, 0x25);
/// vpermps
pub const PERMUTE: Opcode = op(2, 1, false, 0x16);
/// vptestmd, vptestmq
pub const TEST: u8 = 0x27;
/// vmaskmovps (load; the store is 2 more): the lanes whose mask has its sign set
pub const LOAD_LANES: Opcode = op(2, 1, false, 0x2C);
/// vmaskmovps to memory
pub const STORE_LANES: Opcode = op(2, 1, false, 0x2E);
/// vtestps: the zero flag says that no lane of both has its sign set
pub const TEST_SIGNS: Opcode = op(2, 1, false, 0x0E);
/// vblendvps
pub const BLEND: Opcode = op(3, 1, false, 0x4A);
/// vmovups to memory
pub const STORE: Opcode = op(1, 0, false, 0x11);
/// vmovdqu16 to memory
pub const STORE_WORDS: Opcode = op(1, 3, true, 0x7F);
/// vpextrb to memory
pub const STORE_8: Opcode = op(3, 1, false, 0x14);
/// vpextrw to memory
pub const STORE_16: Opcode = op(3, 1, false, 0x15);
/// vpextrd, vpextrq to memory
pub const EXTRACT: u8 = 0x16;
/// vmovd to memory
pub const STORE_32: Opcode = op(1, 1, false, 0x7E);
/// vmovq to memory
pub const STORE_64: Opcode = op(1, 1, true, 0xD6);
/// vpshufb
pub const BYTES: Opcode = op(2, 1, false, 0x00);
/// vpermq by a constant
pub const PERMUTE_64: Opcode = op(3, 1, true, 0x00);
/// vperm2f128
pub const PERMUTE_HALVES: Opcode = op(3, 1, false, 0x06);
/// vextractf128
pub const HIGH_HALF: Opcode = op(3, 1, false, 0x19);
/// vpaddd
pub const ADD_32: Opcode = op(1, 1, false, 0xFE);
/// vpaddq
pub const ADD_64: Opcode = op(1, 1, true, 0xD4);
/// vpmuludq: products of the low halves of 64-bit lanes
pub const MUL_LOW: Opcode = op(1, 1, true, 0xF4);
/// vpmovzxbd
pub const WIDEN_U8: Opcode = op(2, 1, false, 0x31);
/// vpmovsxbd
pub const WIDEN_I8: Opcode = op(2, 1, false, 0x21);
/// vpmovzxwd
pub const WIDEN_U16: Opcode = op(2, 1, false, 0x33);
/// vpmovsxwd
pub const WIDEN_I16: Opcode = op(2, 1, false, 0x23);
/// vpmovsxdq
pub const WIDEN_I32: Opcode = op(2, 1, false, 0x25);
/// vpmovdb
pub const NARROW_8: Opcode = op(2, 2, false, 0x31);
/// vpmovdw
pub const NARROW_16: Opcode = op(2, 2, false, 0x33);
/// vpmovqd
pub const NARROW_64: Opcode = op(2, 2, false, 0x35);
/// vcvtph2ps
pub const FROM_F16: Opcode = op(2, 1, false, 0x13);
/// vcvtps2ph
pub const TO_F16: Opcode = op(3, 1, false, 0x1D);
/// vcvtps2pd
pub const F32_TO_F64: Opcode = op(1, 0, false, 0x5A);
/// vcvtpd2ps
pub const F64_TO_F32: Opcode = op(1, 1, true, 0x5A);
/// vcvtdq2ps
pub const I32_TO_F32: Opcode = op(1, 0, false, 0x5B);
/// vcvttps2dq
pub const F32_TO_I32: Opcode = op(1, 2, false, 0x5B);
/// vcvtqq2ps
pub const I64_TO_F32: Opcode = op(1, 0, true, 0x5B);
/// vcvtdq2pd
pub const I32_TO_F64: Opcode = op(1, 2, false, 0xE6);
/// vcvtqq2pd
pub const I64_TO_F64: Opcode = op(1, 2, true, 0xE6);
/// vbroadcastss
pub const BROADCAST_32: Opcode = op(2, 1, false, 0x18);
/// vbroadcastsd
pub const BROADCAST_64: Opcode = op(2, 1, true, 0x19);
/// vpbroadcastb
pub const BROADCAST_8: Opcode = op(2, 1, false, 0x78);
/// vpbroadcastw
pub const BROADCAST_16: Opcode = op(2, 1, false, 0x79);
/// vmovq to a general register
pub const TO_GENERAL: Opcode = op(1, 1, true, 0x7E);
/// vmovd, vmovq from a general register, to the first lane
pub fn first_from_general(wide: bool) -> Opcode {
    op(1, 1, wide, 0x6E)
}
/// vpbroadcastd, vpbroadcastq of the first lane
pub fn spread_first(wide: bool) -> Opcode {
    op(2, 1, false, if wide { 0x59 } else { 0x58 })
}
/// vpbroadcastd, vpbroadcastq from a general register
pub fn from_general(wide: bool) -> Opcode {
    op(2, 1, wide, 0x7C)
}

/// Logic on truth values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logic {
    /// Both.
    And,
    /// The second without the first.
    AndNot,
    /// Not the second; there is no first.
    Not,
    /// One of them.
    Or,
    /// Both or neither.
    Same,
    /// One of them, and not the other.
    Xor,
}

impl Logic {
    /// Of mask registers: kandw, kandnw, knotw, korw, kxnorw, kxorw
    pub fn of_masks(self) -> u8 {
        match self {
            Logic::And => 0x41,
            Logic::AndNot => 0x42,
            Logic::Not => 0x44,
            Logic::Or => 0x45,
            Logic::Same => 0x46,
            Logic::Xor => 0x47,
        }
    }
}

/// kortestw
pub const KORTEST: u8 = 0x98;

/// Arithmetic that is one instruction.
pub fn binary(op_: BinaryOp, ty: Type) -> Option<Opcode> {
    use BinaryOp as B;
    let wide = is_wide(ty);
    Some(match op_ {
        B::Add if ty.is_float() => float(ty, ADD),
        B::Sub if ty.is_float() => float(ty, SUB),
        B::Mul if ty.is_float() => float(ty, MUL),
        B::Div if ty.is_float() => float(ty, DIV),
        B::And => AND,
        B::Or => OR,
        B::Xor => XOR,
        _ if ty.is_float() => return None,
        B::Add => {
            if wide {
                ADD_64
            } else {
                ADD_32
            }
        }
        B::Sub => op(1, 1, wide, if wide { 0xFB } else { 0xFA }),
        B::Mul => of38(ty, 0x40),
        B::Min => of38(ty, 0x39),
        B::Max => of38(ty, 0x3D),
        // Counts that are out of range, unsigned, give 0 and the sign, as the IR says.
        B::Shl => of38(ty, 0x47),
        B::Shr => of38(ty, 0x46),
        _ => return None,
    })
}

/// Shifts by a constant: the opcode and its extension.
pub fn shift(left: bool, ty: Type) -> (Opcode, u8) {
    let wide = is_wide(ty);
    match left {
        true => (op(1, 1, wide, if wide { 0x73 } else { 0x72 }), 6),
        false => (op(1, 1, wide, 0x72), 4),
    }
}

/// vpcmpeqd, vpcmpeqq
pub fn equal(ty: Type) -> Opcode {
    match is_wide(ty) {
        true => op(2, 1, true, 0x29),
        false => op(1, 1, false, 0x76),
    }
}

/// vpcmpgtd, vpcmpgtq
pub fn greater(ty: Type) -> Opcode {
    match is_wide(ty) {
        true => op(2, 1, true, 0x37),
        false => op(1, 1, false, 0x66),
    }
}

/// vmovups, vmovupd to memory
pub fn float_store(ty: Type) -> Opcode {
    float(ty, LOAD + 1)
}

/// A logical shift right of 64-bit elements.
pub const SHIFT_RIGHT_64: (Opcode, u8) = (op(1, 1, true, 0x73), 2);
/// A logical shift right of 32-bit elements.
pub const SHIFT_RIGHT: (Opcode, u8) = (op(1, 1, false, 0x72), 2);
