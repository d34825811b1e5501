//! Machine IR with allocated registers to bytes.

use super::alloc::{Allocation, Place};
use super::encode::{Address, Assembler, Cond, Label, Opcode, R11, RAX, RBP, RCX, RSP, Rm};
use super::evex::Masking;
use super::lir::{Bound, Class, Function, Lir, Mask, Mem, Reg, Src};
use super::opcode::{self as o, Logic};
use super::target::Target;
use crate::kernel::Type;

const CALLEE_SAVED: [u8; 5] = [3, 12, 13, 14, 15];
/// Scratch masks, and the one of a loop's last lanes.
const K5: u8 = 5;
const K6: u8 = 6;
const TAIL: u8 = 7;

struct Emit<'a> {
    asm: Assembler,
    function: &'a Function,
    places: &'a Allocation,
}

/// The machine code of a function.
pub fn emit(function: &Function, places: &Allocation) -> Vec<u8> {
    let mut e = Emit {
        asm: Assembler::default(),
        function,
        places,
    };
    for _ in 0..function.labels {
        e.asm.label();
    }
    e.prologue();
    for inst in &function.code {
        e.inst(inst);
    }
    if function.streams {
        e.asm.store_fence();
    }
    e.asm.lea(
        RSP,
        Address {
            base: Some(RBP),
            index: None,
            disp: -40,
        },
    );
    for r in CALLEE_SAVED.into_iter().rev() {
        e.asm.pop(r);
    }
    e.asm.pop(RBP);
    e.asm.ret();
    e.asm.finish()
}

fn slot(at: i32) -> Address {
    Address {
        base: Some(RSP),
        index: None,
        disp: at,
    }
}

impl Emit<'_> {
    fn prologue(&mut self) {
        self.asm.push(RBP);
        self.asm.mov(RBP, Rm::Reg(RSP));
        for r in CALLEE_SAVED {
            self.asm.push(r);
        }
        self.asm.add_imm(RSP, -self.places.frame);
        self.asm.align_stack();
    }

    fn place(&self, r: Reg) -> Place {
        self.places.places[r]
    }

    /// A general operand, wherever it is.
    fn general_rm(&self, r: Reg) -> Rm {
        match self.place(r) {
            Place::Reg(n) => Rm::Reg(n),
            Place::Slot(at) => Rm::Mem(slot(at)),
            _ => Rm::Reg(RAX),
        }
    }

    /// A general operand in a register; a spilled one in `temp`.
    fn general(&mut self, r: Reg, temp: u8) -> u8 {
        match self.general_rm(r) {
            Rm::Reg(n) => n,
            m => {
                self.asm.mov(temp, m);
                temp
            }
        }
    }

    fn set_general(&mut self, d: Reg, from: u8) {
        match self.general_rm(d) {
            Rm::Reg(n) => self.asm.mov(n, Rm::Reg(from)),
            Rm::Mem(m) => self.asm.mov_to(m, from),
        }
    }

    fn vector_rm(&mut self, r: Reg) -> Rm {
        match self.place(r) {
            Place::Reg(n) => Rm::Reg(n),
            Place::Slot(at) => Rm::Mem(slot(at)),
            _ => {
                let bytes = self.function.regs[r].constant.unwrap_or([0; 64]);
                let disp = self.asm.constant(bytes);
                Rm::Mem(Address {
                    base: None,
                    index: None,
                    disp,
                })
            }
        }
    }

    /// The register that holds the n-th spilled operand for one instruction.
    fn temp(&self, n: u8) -> u8 {
        self.function.target.vectors() + n
    }

    /// A vector instruction on all lanes.
    fn put(&mut self, op: Opcode, len: u8, reg: u8, a: u8, rm: Rm, imm: Option<u8>) {
        match self.function.target {
            Target::Avx2 => self.asm.vex(op, len, reg, a, rm, imm),
            Target::Avx512 { .. } => {
                let all = Masking::default();
                self.asm.evex(op, len, reg, a, rm, imm, all, false);
            }
        }
    }

    fn move_vector(&mut self, store: bool, reg: u8, rm: Rm) {
        let mut op = o::float(Type::F32, o::LOAD);
        op.byte += u8::from(store);
        self.put(op, self.function.target.full(), reg, 0, rm, None);
    }

    fn vector(&mut self, r: Reg, temp: u8) -> u8 {
        match self.vector_rm(r) {
            Rm::Reg(n) => n,
            m => {
                self.move_vector(false, temp, m);
                temp
            }
        }
    }

    fn mask_reg(&mut self, r: Reg, temp: u8) -> u8 {
        match self.place(r) {
            Place::Reg(n) => n,
            Place::Slot(at) => {
                self.asm.mask(0x90, false, temp, 0, Rm::Mem(slot(at)));
                temp
            }
            _ => temp,
        }
    }

    /// The register that a result is computed in.
    fn target(&self, d: Reg) -> u8 {
        match (self.place(d), self.function.regs[d].class) {
            (Place::Reg(n), _) => n,
            (_, Class::Vector) => self.temp(0),
            (_, Class::Mask) => K6,
            _ => RAX,
        }
    }

    /// Puts a computed result where it lives.
    fn settle(&mut self, d: Reg) {
        if let Place::Slot(at) = self.place(d) {
            match self.function.regs[d].class {
                Class::Vector => self.move_vector(true, self.temp(0), Rm::Mem(slot(at))),
                Class::Mask => self.asm.mask(0x91, false, K6, 0, Rm::Mem(slot(at))),
                Class::General => self.asm.mov_to(slot(at), RAX),
            }
        }
    }

    fn address(&mut self, m: &Mem) -> Address {
        let base = m.base.map_or(RSP, |r| self.general(r, RAX));
        let index = m.index.map(|(r, scale)| (self.general(r, RCX), scale));
        Address {
            base: Some(base),
            index,
            disp: m.disp,
        }
    }

    fn masking(&mut self, mask: Mask) -> Masking {
        match mask {
            Mask::All => Masking::default(),
            Mask::Tail => Masking {
                k: TAIL,
                zero: true,
            },
            Mask::TailMerge => Masking {
                k: TAIL,
                zero: false,
            },
            Mask::Merge(r) | Mask::Blend(r) => Masking {
                k: self.mask_reg(r, K5),
                zero: false,
            },
            Mask::Zero(r) => Masking {
                k: self.mask_reg(r, K5),
                zero: true,
            },
        }
    }

    fn bound(&mut self, a: u8, b: Bound) {
        match b {
            Bound::Imm(v) => self.asm.cmp_imm(a, v),
            Bound::Reg(r) => {
                let b = self.general_rm(r);
                self.asm.cmp(a, b);
            }
        }
    }

    fn inst(&mut self, inst: &Lir) {
        match *inst {
            Lir::Entry { args, begin, end } => self.entry(args, begin, end),
            Lir::Vector {
                op,
                len,
                d,
                a,
                b,
                imm,
                mask,
                store,
            } => {
                let merges = matches!(mask, Mask::Merge(_) | Mask::TailMerge);
                let reg = if store {
                    self.vector(d, self.temp(0))
                } else {
                    self.target(d)
                };
                if merges
                    && !store
                    && let Place::Slot(at) = self.place(d)
                {
                    self.move_vector(false, reg, Rm::Mem(slot(at)));
                }
                let a = a.map_or(0, |a| self.vector(a, self.temp(1)));
                let rm = match b {
                    Src::Mem(m) => Rm::Mem(self.address(&m)),
                    Src::Reg(r) => self.vector_rm(r),
                };
                if mask == Mask::All {
                    self.put(op, len, reg, a, rm, imm);
                } else {
                    let mut masking = self.masking(mask);
                    // Memory operands of stores are merged, never zeroed.
                    masking.zero &= !store;
                    self.asm.evex(op, len, reg, a, rm, imm, masking, false);
                }
                if !store {
                    self.settle(d);
                }
            }
            Lir::Down { op, len, d, s, imm } => {
                let (s, rm) = (self.vector(s, self.temp(1)), Rm::Reg(self.target(d)));
                self.put(op, len, s, 0, rm, imm);
                self.settle(d);
            }
            Lir::Shift {
                op,
                ext,
                len,
                d,
                a,
                imm,
            } => {
                let a = match self.function.target {
                    Target::Avx512 { .. } => self.vector_rm(a),
                    // No form reads memory.
                    Target::Avx2 => Rm::Reg(self.vector(a, self.temp(1))),
                };
                let t = self.target(d);
                self.put(op, len, ext, t, a, Some(imm));
                self.settle(d);
            }
            Lir::Fma { w, len, d, a, b, c } => self.fma(w, len, d, [a, b, c]),
            Lir::Choose { len, d, a, b, c } => self.choose(len, d, [a, b, c]),
            Lir::Blend { len, d, a, b, k } => {
                let (a, k) = (self.vector(a, self.temp(1)), self.vector(k, self.temp(2)));
                let (b, t) = (self.vector_rm(b), self.target(d));
                self.put(o::BLEND, len, t, a, b, Some(k << 4));
                self.settle(d);
            }
            Lir::Splat { w, len, d, from } => {
                let (from, t) = (Rm::Reg(self.general(from, RAX)), self.target(d));
                if self.function.target.has_masks() {
                    self.put(o::from_general(w), len, t, 0, from, None);
                } else {
                    self.put(o::first_from_general(w), 0, t, 0, from, None);
                    self.put(o::spread_first(w), len, t, 0, Rm::Reg(t), None);
                }
                self.settle(d);
            }
            Lir::Gather { .. } => self.gather(inst),
            Lir::Mask { op, d, a, b } => {
                let b = b.map(|b| self.mask_reg(b, K5));
                let a = a.map(|a| self.mask_reg(a, K6));
                let t = self.target(d);
                match b {
                    Some(b) => {
                        let (two, a) = (op != Logic::Not, a.unwrap_or(0));
                        self.asm.mask(op.of_masks(), two, t, a, Rm::Reg(b));
                    }
                    None => self.asm.mask(op.of_masks(), true, t, t, Rm::Reg(t)),
                }
                self.settle(d);
            }
            _ => self.general_inst(inst),
        }
    }

    fn general_inst(&mut self, inst: &Lir) {
        match *inst {
            Lir::Move { d, a } => {
                let a = self.general(a, RAX);
                self.set_general(d, a);
            }
            Lir::Set { d, value } => {
                self.asm.mov_imm(RAX, value);
                self.set_general(d, RAX);
            }
            Lir::LoadPointer { d, base, disp } => {
                let base = self.general(base, RAX);
                self.asm.mov(
                    RAX,
                    Rm::Mem(Address {
                        base: Some(base),
                        index: None,
                        disp,
                    }),
                );
                self.set_general(d, RAX);
            }
            Lir::FrameAddress { d, disp } => {
                self.asm.lea(RAX, slot(disp));
                self.set_general(d, RAX);
            }
            Lir::AddScaled { d, base, index, by } => {
                let (base, index) = (self.general_rm(base), self.general_rm(index));
                self.asm.imul(RCX, index, by);
                self.asm.add(RCX, base);
                self.set_general(d, RCX);
            }
            Lir::FirstLane { d, a } => {
                let a = self.vector(a, self.temp(1));
                self.put(o::TO_GENERAL, 0, a, 0, Rm::Reg(RAX), None);
                self.set_general(d, RAX);
            }
            Lir::Advance { d, by } => match self.general_rm(d) {
                Rm::Reg(r) => self.asm.add_imm(r, by),
                m => {
                    self.asm.mov(RAX, m);
                    self.asm.add_imm(RAX, by);
                    self.set_general(d, RAX);
                }
            },
            Lir::Limit { d, a, by } => {
                let a = self.general_rm(a);
                self.asm.mov(RAX, a);
                self.asm.add_imm(RAX, -by);
                self.set_general(d, RAX);
            }
            Lir::Bind(l) => self.asm.bind(Label(l.0)),
            Lir::JumpIf { cond, a, b, to } => {
                let a = self.general(a, RAX);
                self.bound(a, b);
                self.asm.jump_if(cond, to);
            }
            Lir::JumpIfNone { mask, to } => {
                if self.function.target.has_masks() {
                    let k = self.mask_reg(mask, K5);
                    self.asm.mask(o::KORTEST, false, k, 0, Rm::Reg(k));
                } else {
                    let k = self.vector(mask, self.temp(1));
                    self.put(o::TEST_SIGNS, 1, k, 0, Rm::Reg(k), None);
                }
                self.asm.jump_if(Cond::Equal, to);
            }
            Lir::JumpIfUnaligned { m, to, over } => {
                let address = self.address(&m);
                self.asm.lea(RAX, address);
                self.asm.test_imm(RAX, to - 1);
                self.asm.jump_if(Cond::NotEqual, over);
            }
            Lir::Prefetch { m, near } => {
                let address = self.address(&m);
                self.asm.prefetch(address, near);
            }
            Lir::Left { d, at, end } => {
                self.left(at, end);
                self.set_general(d, RAX);
            }
            Lir::TailMask { at, end } => {
                self.left(at, end);
                self.asm.mov_imm(RCX, -1);
                self.asm.bzhi(RAX, RCX, RAX);
                self.asm.mask(0x92, false, TAIL, 0, Rm::Reg(RAX));
            }
            _ => {}
        }
    }

    /// rax = end - at
    fn left(&mut self, at: Reg, end: Bound) {
        match end {
            Bound::Imm(v) => self.asm.mov_imm(RAX, v),
            Bound::Reg(r) => {
                let r = self.general_rm(r);
                self.asm.mov(RAX, r);
            }
        }
        let at = self.general_rm(at);
        self.asm.sub(RAX, at);
    }

    /// The arguments arrive in rdi, rsi and rdx; constants with a register are loaded.
    fn entry(&mut self, args: Reg, begin: Reg, end: Reg) {
        for (temp, from) in [(RAX, 7), (RCX, 6), (R11, 2)] {
            self.asm.mov(temp, Rm::Reg(from));
        }
        for (d, temp) in [(args, RAX), (begin, RCX), (end, R11)] {
            if self.place(d) != Place::Nowhere {
                self.set_general(d, temp);
            }
        }
        for (r, info) in self.function.regs.iter() {
            if let (Some(bytes), Place::Reg(n)) = (info.constant, self.place(r)) {
                let disp = self.asm.constant(bytes);
                self.move_vector(
                    false,
                    n,
                    Rm::Mem(Address {
                        base: None,
                        index: None,
                        disp,
                    }),
                );
            }
        }
    }

    /// The instruction clears its mask as it loads.
    fn gather(&mut self, inst: &Lir) {
        let Lir::Gather {
            op,
            len,
            d,
            base,
            index,
            scale,
            disp,
            mask,
            tail,
            store,
        } = *inst
        else {
            return;
        };
        let base = Some(self.general(base, RAX));
        let index = Some((self.vector(index, self.temp(1)), scale));
        let reg = match store {
            true => self.vector(d, self.temp(0)),
            false => self.target(d),
        };
        if !store {
            let full = self.function.target.full();
            self.put(o::XOR, full, reg, reg, Rm::Reg(reg), None);
        }
        let m = Rm::Mem(Address { base, index, disp });
        if !self.function.target.has_masks() {
            let lanes = self.temp(2);
            match mask.map(|k| self.vector_rm(k)) {
                Some(k) => self.move_vector(false, lanes, k),
                None => self.put(o::equal(Type::I32), 1, lanes, lanes, Rm::Reg(lanes), None),
            }
            self.put(op, len, reg, lanes, m, None);
        } else {
            if tail {
                self.asm.mask(0x90, false, K6, 0, Rm::Reg(TAIL));
            } else {
                let all = Logic::Same.of_masks();
                self.asm.mask(all, true, K6, K6, Rm::Reg(K6));
            }
            let k = Masking { k: K6, zero: false };
            self.asm.evex(op, len, reg, 0, m, None, k, true);
        }
        if !store {
            self.settle(d);
        }
    }

    /// The form whose destroyed operand is the one that the result replaces.
    fn fma(&mut self, w: bool, len: u8, d: Reg, [a, b, c]: [Reg; 3]) {
        let (t, [ra, rb, rc]) = (self.target(d), [a, b, c].map(|r| self.vector_rm(r)));
        let mut op = o::float(if w { Type::F64 } else { Type::F32 }, 0);
        (op.map, op.pp) = (2, 1);
        let mut put = |e: &mut Self, kind: u8, first: u8, second: Rm| {
            op.byte = o::FMADD132 + kind * 0x10;
            e.put(op, len, t, first, second, None);
        };
        if rc == Rm::Reg(t) {
            // t = first * second + t
            let (first, second) = if let Rm::Reg(_) = ra {
                (a, rb)
            } else {
                (b, ra)
            };
            let first = self.vector(first, self.temp(1));
            put(self, 2, first, second);
        } else if ra == Rm::Reg(t) || rb == Rm::Reg(t) {
            let (other, ro) = if ra == Rm::Reg(t) { (b, rb) } else { (a, ra) };
            match (ro, rc) {
                // t = t * second + first
                (Rm::Mem(_), Rm::Reg(c)) => put(self, 0, c, ro),
                // t = first * t + second
                _ => {
                    let first = self.vector(other, self.temp(1));
                    put(self, 1, first, rc);
                }
            }
        } else {
            self.move_vector(false, t, rc);
            let (first, second) = if let Rm::Reg(_) = ra {
                (a, rb)
            } else {
                (b, ra)
            };
            let first = self.vector(first, self.temp(1));
            put(self, 2, first, second);
        }
        self.settle(d);
    }

    /// One instruction that replaces one of its operands; the table of results follows the order that they are in.
    fn choose(&mut self, len: u8, d: Reg, [a, b, c]: [Reg; 3]) {
        let (t, [ra, rb, rc]) = (self.target(d), [a, b, c].map(|r| self.vector_rm(r)));
        // Bit `4 first + 2 second + third` of the table is the result.
        let (table, second, third) = if ra == Rm::Reg(t) {
            (0xD8, b, rc)
        } else if rb == Rm::Reg(t) {
            (0xE4, a, rc)
        } else if rc == Rm::Reg(t) {
            (0xAC, a, rb)
        } else {
            self.move_vector(false, t, ra);
            (0xD8, b, rc)
        };
        let second = self.vector(second, self.temp(1));
        self.put(o::TERNARY, len, t, second, third, Some(table));
        self.settle(d);
    }
}
