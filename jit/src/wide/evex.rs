//! EVEX: instructions on vectors of up to 512 bits with masks, and those on mask registers.

use super::encode::{Assembler, Opcode, Rm, high_bits};

/// Mask operand and what happens to other lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Masking {
    /// 0: none
    pub k: u8,
    /// Zero the other lanes instead of keeping them.
    pub zero: bool,
}

impl Assembler {
    /// An EVEX instruction. `len`: 0, 1, 2 for 128, 256, 512 bits. `vvvv`: the first source, or 0.
    /// `vsib`: whether the index register of the address is a vector.
    #[expect(clippy::too_many_arguments, reason = "the fields of the encoding")]
    pub fn evex(
        &mut self,
        op: Opcode,
        len: u8,
        reg: u8,
        vvvv: u8,
        rm: Rm,
        imm: Option<u8>,
        mask: Masking,
        vsib: bool,
    ) {
        let (mut x, b) = high_bits(rm);
        let mut v2 = vvvv >> 4;
        match rm {
            Rm::Reg(r) => x = r >> 4,
            Rm::Mem(a) if vsib => v2 = a.index.map_or(0, |(i, _)| i >> 4),
            Rm::Mem(_) => {}
        }
        let not = |bit: u8| (bit & 1) ^ 1;
        self.byte(0x62);
        self.byte(not(reg >> 3) << 7 | not(x) << 6 | not(b) << 5 | not(reg >> 4) << 4 | op.map);
        self.byte(u8::from(op.w) << 7 | (!vvvv & 15) << 3 | 4 | op.pp);
        self.byte(u8::from(mask.zero) << 7 | len << 5 | not(v2) << 3 | mask.k);
        self.byte(op.byte);
        self.modrm(reg, rm, usize::from(imm.is_some()));
        if let Some(imm) = imm {
            self.byte(imm);
        }
    }

    /// An instruction on mask registers: VEX.0F, 16 bits.
    pub fn mask(&mut self, byte: u8, l: bool, reg: u8, vvvv: u8, rm: Rm) {
        let (x, b) = high_bits(rm);
        let not = |bit: u8| (bit & 1) ^ 1;
        self.byte(0xC4);
        self.byte(not(reg >> 3) << 7 | not(x) << 6 | not(b) << 5 | 1);
        self.byte((!vvvv & 15) << 3 | u8::from(l) << 2);
        self.byte(byte);
        self.modrm(reg, rm, 0);
    }
}
