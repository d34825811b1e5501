//! VEX: instructions on vectors of up to 256 bits.

use super::encode::{Assembler, Opcode, Rm, high_bits};
use super::opcode as o;

/// The W bit: it chooses between operations on words and double words, or between general registers; where EVEX has it for the
/// size of elements alone, it is ignored, or must be 0.
fn w(op: Opcode) -> bool {
    match op.map {
        // vmovq from and to general registers
        1 => op.w && matches!(op.byte, 0x6E | 0x7E),
        _ => {
            op.w && op != o::BROADCAST_64 && op != o::of3a(crate::kernel::Type::F64, o::SHUFFLE_64)
        }
    }
}

impl Assembler {
    /// A VEX instruction. `len`: 0, 1 for 128, 256 bits. `vvvv`: the first source, or 0. A fourth register is the high half
    /// of `imm`. The index register of an address is a vector if the operation says so.
    pub fn vex(&mut self, op: Opcode, len: u8, reg: u8, vvvv: u8, rm: Rm, imm: Option<u8>) {
        let (x, b) = high_bits(rm);
        let not = |bit: u8| (bit & 1) ^ 1;
        let (r, w) = (not(reg >> 3) << 7, w(op));
        let last = (!vvvv & 15) << 3 | len << 2 | op.pp;
        if op.map == 1 && !w && x == 0 && b == 0 {
            self.byte(0xC5);
            self.byte(r | last);
        } else {
            self.byte(0xC4);
            self.byte(r | not(x) << 6 | not(b) << 5 | op.map);
            self.byte(u8::from(w) << 7 | last);
        }
        self.byte(op.byte);
        self.modrm(reg, rm, usize::from(imm.is_some()));
        if let Some(imm) = imm {
            self.byte(imm);
        }
    }
}
