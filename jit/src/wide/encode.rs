//! Bytes of x86-64 instructions: the function under construction, operands, and the few general instructions that loops
//! need (Intel SDM volume 2, "Instruction format"). Those on vectors are in `vex` and `evex`.

/// A general register's number.
pub type Gpr = u8;
/// rax, scratch.
pub const RAX: Gpr = 0;
/// rcx, scratch.
pub const RCX: Gpr = 1;
/// rsp
pub const RSP: Gpr = 4;
/// rbp, the frame pointer.
pub const RBP: Gpr = 5;
/// r11, scratch.
pub const R11: Gpr = 11;

/// An opcode in its map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opcode {
    /// 1: 0F, 2: 0F38, 3: 0F3A
    pub map: u8,
    /// 0: none, 1: 66, 2: F3, 3: F2
    pub pp: u8,
    /// 64-bit elements
    pub w: bool,
    /// Opcode byte
    pub byte: u8,
}

/// A memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// None: relative to the constant pool.
    pub base: Option<Gpr>,
    /// Register (a vector one for gathers) and factor 1, 2, 4 or 8.
    pub index: Option<(u8, u8)>,
    /// Bytes.
    pub disp: i32,
}

/// The operand in ModRM's r/m field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rm {
    /// A register of the operand's class.
    Reg(u8),
    /// Memory.
    Mem(Address),
}

/// A place that jumps go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(pub u32);

/// Condition codes of jumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cond {
    /// Equal, or zero.
    Equal = 0x4,
    /// Not equal, or not zero.
    NotEqual = 0x5,
    /// Signed less than.
    Less = 0xC,
    /// Signed greater or equal.
    GreaterEqual = 0xD,
    /// Signed less or equal.
    LessEqual = 0xE,
    /// Signed greater.
    Greater = 0xF,
}

/// The function under construction.
#[derive(Default)]
pub struct Assembler {
    code: Vec<u8>,
    /// Full-width constants behind the code.
    pool: Vec<[u8; 64]>,
    /// Where a displacement from the next instruction to the pool is to be added.
    pool_uses: Vec<(usize, usize)>,
    labels: Vec<Option<usize>>,
    jumps: Vec<(usize, Label)>,
}

/// Bit 3 of the index register, and of the base or of the register itself.
pub(super) fn high_bits(rm: Rm) -> (u8, u8) {
    match rm {
        Rm::Reg(r) => (0, r >> 3 & 1),
        Rm::Mem(a) => (
            a.index.map_or(0, |(i, _)| i >> 3 & 1),
            a.base.map_or(0, |r| r >> 3 & 1),
        ),
    }
}

impl Assembler {
    /// A displacement for an address without a base: the n-th constant.
    pub fn constant(&mut self, bytes: [u8; 64]) -> i32 {
        let found = self.pool.iter().position(|p| *p == bytes);
        let n = found.unwrap_or_else(|| {
            self.pool.push(bytes);
            self.pool.len() - 1
        });
        n as i32 * 64
    }

    pub(super) fn byte(&mut self, b: u8) {
        self.code.push(b);
    }

    pub(super) fn i32(&mut self, v: i32) {
        self.code.extend(v.to_le_bytes());
    }

    /// ModRM, SIB and displacement. `tail`: bytes of the instruction that follow.
    pub(super) fn modrm(&mut self, reg: u8, rm: Rm, tail: usize) {
        let reg = (reg & 7) << 3;
        match rm {
            Rm::Reg(r) => self.byte(0xC0 | reg | (r & 7)),
            Rm::Mem(Address {
                base: None, disp, ..
            }) => {
                self.byte(reg | 5);
                self.pool_uses.push((self.code.len(), tail));
                self.i32(disp);
            }
            Rm::Mem(Address {
                base: Some(base),
                index,
                disp,
            }) => {
                let plain = disp == 0 && base & 7 != RBP;
                let mode = if plain { 0 } else { 0x80 };
                if let Some((index, scale)) = index {
                    self.byte(mode | reg | 4);
                    self.byte((scale.trailing_zeros() as u8) << 6 | (index & 7) << 3 | (base & 7));
                } else if base & 7 == RSP {
                    self.byte(mode | reg | 4);
                    self.byte(0x24);
                } else {
                    self.byte(mode | reg | (base & 7));
                }
                if !plain {
                    self.i32(disp);
                }
            }
        }
    }

    /// A legacy instruction with 64-bit operands.
    pub fn general(&mut self, opcode: &[u8], reg: u8, rm: Rm, imm: Option<i32>) {
        let (x, b) = high_bits(rm);
        self.byte(0x48 | (reg >> 3) << 2 | x << 1 | b);
        self.code.extend(opcode);
        self.modrm(reg, rm, if imm.is_some() { 4 } else { 0 });
        if let Some(imm) = imm {
            self.i32(imm);
        }
    }

    /// `d = s`
    pub fn mov(&mut self, d: Gpr, s: Rm) {
        if s != Rm::Reg(d) {
            self.general(&[0x8B], d, s, None);
        }
    }

    /// `[m] = s`
    pub fn mov_to(&mut self, m: Address, s: Gpr) {
        self.general(&[0x89], s, Rm::Mem(m), None);
    }

    /// `d = value`, sign-extended.
    pub fn mov_imm(&mut self, d: Gpr, value: i32) {
        self.general(&[0xC7], 0, Rm::Reg(d), Some(value));
    }

    /// `d += value`
    pub fn add_imm(&mut self, d: Gpr, value: i32) {
        self.general(&[0x81], 0, Rm::Reg(d), Some(value));
    }

    /// `a - value`, for the flags.
    pub fn cmp_imm(&mut self, a: Gpr, value: i32) {
        self.general(&[0x81], 7, Rm::Reg(a), Some(value));
    }

    /// `a & value`, for the flags.
    pub fn test_imm(&mut self, a: Gpr, value: i32) {
        self.general(&[0xF7], 0, Rm::Reg(a), Some(value));
    }

    /// Fetches a line into the first-level cache if it is to be near, else into the second.
    pub fn prefetch(&mut self, m: Address, near: bool) {
        let hint = if near { 1 } else { 2 };
        self.general(&[0x0F, 0x18], hint, Rm::Mem(m), None);
    }

    /// Waits for stores past the caches.
    pub fn store_fence(&mut self) {
        self.code.extend([0x0F, 0xAE, 0xF8]);
    }

    /// `a - b`, for the flags.
    pub fn cmp(&mut self, a: Gpr, b: Rm) {
        self.general(&[0x3B], a, b, None);
    }

    /// `d += s`
    pub fn add(&mut self, d: Gpr, s: Rm) {
        self.general(&[0x03], d, s, None);
    }

    /// `d -= s`
    pub fn sub(&mut self, d: Gpr, s: Rm) {
        self.general(&[0x2B], d, s, None);
    }

    /// `d = s * by`
    pub fn imul(&mut self, d: Gpr, s: Rm, by: i32) {
        self.general(&[0x69], d, s, Some(by));
    }

    /// `d = address`
    pub fn lea(&mut self, d: Gpr, m: Address) {
        self.general(&[0x8D], d, Rm::Mem(m), None);
    }

    /// `d = s` with the bits from `n` on cleared (32 bits).
    pub fn bzhi(&mut self, d: Gpr, s: Gpr, n: Gpr) {
        let not = |bit: u8| (bit & 1) ^ 1;
        self.byte(0xC4);
        self.byte(not(d >> 3) << 7 | 1 << 6 | not(s >> 3) << 5 | 2);
        self.byte((!n & 15) << 3);
        self.byte(0xF5);
        self.modrm(d, Rm::Reg(s), 0);
    }

    /// Pushes a register.
    pub fn push(&mut self, r: Gpr) {
        if r >= 8 {
            self.byte(0x41);
        }
        self.byte(0x50 | (r & 7));
    }

    /// Pops a register.
    pub fn pop(&mut self, r: Gpr) {
        if r >= 8 {
            self.byte(0x41);
        }
        self.byte(0x58 | (r & 7));
    }

    /// `rsp &= -64`
    pub fn align_stack(&mut self) {
        self.general(&[0x81], 4, Rm::Reg(RSP), Some(-64));
    }

    /// Returns, with the upper halves of vectors clean.
    pub fn ret(&mut self) {
        self.code.extend([0xC5, 0xF8, 0x77, 0xC3]);
    }

    /// A new label.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() as u32 - 1)
    }

    /// Puts a label here.
    pub fn bind(&mut self, l: Label) {
        self.labels[l.0 as usize] = Some(self.code.len());
    }

    /// A conditional jump.
    pub fn jump_if(&mut self, cond: Cond, to: Label) {
        self.code.extend([0x0F, 0x80 | cond as u8]);
        self.jumps.push((self.code.len(), to));
        self.i32(0);
    }

    /// The code with its constants, position-independent; to be placed at a multiple of 64 bytes.
    pub fn finish(mut self) -> Vec<u8> {
        for &(at, label) in &self.jumps {
            let target = self.labels[label.0 as usize].unwrap_or(0);
            let distance = target as i32 - (at as i32 + 4);
            self.code[at..at + 4].copy_from_slice(&distance.to_le_bytes());
        }
        let pool = self.code.len().next_multiple_of(64);
        for &(at, tail) in &self.pool_uses {
            let mut disp = [0; 4];
            disp.copy_from_slice(&self.code[at..at + 4]);
            let target = pool as i32 + i32::from_le_bytes(disp);
            let distance = target - (at + 4 + tail) as i32;
            self.code[at..at + 4].copy_from_slice(&distance.to_le_bytes());
        }
        self.code.resize(pool, 0xCC);
        for constant in &self.pool {
            self.code.extend(constant);
        }
        self.code
    }
}
