//! Machine instructions over virtual registers, in a line with loops.

use super::encode::{Cond, Label, Opcode};
use super::opcode::Logic;
use super::target::Target;
use cranelift_entity::{PrimaryMap, entity_impl};

/// A virtual register.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reg(u32);
entity_impl!(Reg, "r");

/// Register file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// ymm or zmm
    Vector,
    /// k
    Mask,
    /// 64-bit integers: counters and addresses
    General,
}

/// A memory operand; `disp` in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mem {
    /// First byte; the stack frame if there is none.
    pub base: Option<Reg>,
    /// General register and factor (1, 2, 4, 8).
    pub index: Option<(Reg, u8)>,
    /// Displacement.
    pub disp: i32,
}

/// An operand in the r/m field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Src {
    /// A register.
    Reg(Reg),
    /// Memory.
    Mem(Mem),
}

/// Which lanes an instruction writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// All.
    All,
    /// Those of the loop's last iterations; the others are zeroed.
    Tail,
    /// The same, and the others are kept.
    TailMerge,
    /// Those of a mask register; the others are kept.
    Merge(Reg),
    /// Those of a mask register; the others are zeroed.
    Zero(Reg),
    /// Those of a mask register choose the second operand (vblendmps).
    Blend(Reg),
}

/// An instruction.
#[derive(Clone, Copy, Debug)]
pub enum Lir {
    /// The function's arguments.
    Entry {
        /// Pointers.
        args: Reg,
        /// First iteration.
        begin: Reg,
        /// Behind the last iteration.
        end: Reg,
    },
    /// `d = op(a, b, imm)` in vectors of `len`; for stores `d` is read and `b` is written.
    Vector {
        /// Operation.
        op: Opcode,
        /// 0, 1, 2: 128, 256, 512 bits.
        len: u8,
        /// ModRM.reg
        d: Reg,
        /// First source.
        a: Option<Reg>,
        /// Second source.
        b: Src,
        /// Immediate.
        imm: Option<u8>,
        /// Lanes.
        mask: Mask,
        /// `d` is read only.
        store: bool,
    },
    /// `d = op(s, imm)` of the instructions whose ModRM.reg is the source: conversions to narrower types.
    Down {
        /// Operation.
        op: Opcode,
        /// 1, 2: 256, 512 bits.
        len: u8,
        /// Result.
        d: Reg,
        /// Operand.
        s: Reg,
        /// Immediate.
        imm: Option<u8>,
    },
    /// `d = op(a, imm)`, with an opcode extension: shifts by a constant.
    Shift {
        /// Operation.
        op: Opcode,
        /// Opcode extension.
        ext: u8,
        /// 1, 2: 256, 512 bits.
        len: u8,
        /// Result.
        d: Reg,
        /// Operand.
        a: Reg,
        /// Count.
        imm: u8,
    },
    /// `d = a * b + c`
    Fma {
        /// 64-bit elements.
        w: bool,
        /// 1, 2: 256, 512 bits.
        len: u8,
        /// Result.
        d: Reg,
        /// Factor.
        a: Reg,
        /// Factor.
        b: Reg,
        /// Summand.
        c: Reg,
    },
    /// `d = k ? b : a` in lanes of 32 bits, where masks are vectors.
    Blend {
        /// 0, 1: 128, 256 bits.
        len: u8,
        /// Result.
        d: Reg,
        /// Where `k` is 0.
        a: Reg,
        /// Where `k` is set.
        b: Reg,
        /// The mask.
        k: Reg,
    },
    /// `d = from` in all lanes.
    Splat {
        /// 64-bit elements.
        w: bool,
        /// 0, 1, 2: 128, 256, 512 bits.
        len: u8,
        /// Result.
        d: Reg,
        /// General register.
        from: Reg,
    },
    /// The bits of `b` where those of `c` are set, and of `a` elsewhere.
    Choose {
        /// 1, 2: 256, 512 bits.
        len: u8,
        /// Result.
        d: Reg,
        /// Where `c` is 0.
        a: Reg,
        /// Where `c` is 1.
        b: Reg,
        /// The choice.
        c: Reg,
    },
    /// `d = [base + index * scale + disp]` for every lane's index.
    Gather {
        /// Operation.
        op: Opcode,
        /// 1, 2: 256, 512 bits.
        len: u8,
        /// Loaded, or stored, elements.
        d: Reg,
        /// Address.
        base: Reg,
        /// Vector of indices.
        index: Reg,
        /// 1, 2, 4, 8.
        scale: u8,
        /// Displacement.
        disp: i32,
        /// Which lanes, where masks are vectors; all if there is none.
        mask: Option<Reg>,
        /// Whether the lanes are the tail's only, where there are mask registers.
        tail: bool,
        /// Scatter.
        store: bool,
    },
    /// `d = op(a, b)` on masks; a unary one has no `a`. `d` alone: all ones.
    Mask {
        /// Operation.
        op: Logic,
        /// Result.
        d: Reg,
        /// First source.
        a: Option<Reg>,
        /// Second source.
        b: Option<Reg>,
    },
    /// `d = a`, general.
    Move {
        /// Result.
        d: Reg,
        /// Operand.
        a: Reg,
    },
    /// `d = value`
    Set {
        /// Result.
        d: Reg,
        /// Value.
        value: i32,
    },
    /// `d = [base + disp]`
    LoadPointer {
        /// Result.
        d: Reg,
        /// Address.
        base: Reg,
        /// Displacement.
        disp: i32,
    },
    /// `d = frame + disp`
    FrameAddress {
        /// Result.
        d: Reg,
        /// Displacement.
        disp: i32,
    },
    /// `d = base + index * by + disp`
    AddScaled {
        /// Result.
        d: Reg,
        /// Summand.
        base: Reg,
        /// Factor.
        index: Reg,
        /// Factor.
        by: i32,
    },
    /// `d = first lane of a`, 64 bits.
    FirstLane {
        /// Result, general.
        d: Reg,
        /// Vector.
        a: Reg,
    },
    /// `d += by`
    Advance {
        /// Counter.
        d: Reg,
        /// Step.
        by: i32,
    },
    /// `d -= by`, as a limit.
    Limit {
        /// Result.
        d: Reg,
        /// Operand.
        a: Reg,
        /// Step.
        by: i32,
    },
    /// `d = end - at`
    Left {
        /// Result.
        d: Reg,
        /// Counter.
        at: Reg,
        /// End.
        end: Bound,
    },
    /// A label; loops are entered here.
    Bind(Label),
    /// Jumps if `a cond b`.
    JumpIf {
        /// Condition.
        cond: Cond,
        /// Left side.
        a: Reg,
        /// Right side.
        b: Bound,
        /// Target.
        to: Label,
    },
    /// Jumps if a mask has no lane.
    JumpIfNone {
        /// Mask.
        mask: Reg,
        /// Target.
        to: Label,
    },
    /// Jumps unless an address is a multiple of `to`, a power of two.
    JumpIfUnaligned {
        /// Address.
        m: Mem,
        /// Factor.
        to: i32,
        /// Target.
        over: Label,
    },
    /// Fetches a line.
    Prefetch {
        /// Its address.
        m: Mem,
        /// Into the first-level cache; else into the second.
        near: bool,
    },
    /// Sets the tail mask to the first `end - at` lanes.
    TailMask {
        /// Counter.
        at: Reg,
        /// End.
        end: Bound,
    },
}

/// A loop's bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Known at run time.
    Reg(Reg),
    /// Known now.
    Imm(i32),
}

/// What is known of a virtual register.
#[derive(Clone, Debug)]
pub struct Info {
    /// Its file.
    pub class: Class,
    /// The constant that it holds: it is loaded again instead of spilled.
    pub constant: Option<[u8; 64]>,
}

/// A function.
pub struct Function {
    /// What it is for.
    pub target: Target,
    /// Instructions.
    pub code: Vec<Lir>,
    /// Registers.
    pub regs: PrimaryMap<Reg, Info>,
    /// Loops: first and last instruction.
    pub loops: Vec<(usize, usize)>,
    /// What is jumped over nearly always: first and last instruction.
    pub rare: Vec<(usize, usize)>,
    /// Bytes of the stack frame that scratch rows need.
    pub frame: i32,
    /// Number of labels.
    pub labels: u32,
    /// Whether there are stores past the caches, for which the function waits at its end.
    pub streams: bool,
}

impl Function {
    /// One without instructions.
    pub fn new(target: Target) -> Function {
        Function {
            target,
            code: Vec::new(),
            regs: PrimaryMap::new(),
            loops: Vec::new(),
            rare: Vec::new(),
            frame: 0,
            labels: 0,
            streams: false,
        }
    }

    /// A new register.
    pub fn reg(&mut self, class: Class) -> Reg {
        self.regs.push(Info {
            class,
            constant: None,
        })
    }

    /// A new label.
    pub fn label(&mut self) -> Label {
        self.labels += 1;
        Label(self.labels - 1)
    }
}

impl Lir {
    /// Calls `f(register, is_written)` for every register named; one that is read and written is
    /// named twice, reads first.
    pub fn visit(&self, mut f: impl FnMut(Reg, bool)) {
        let mem = |m: &Mem, f: &mut dyn FnMut(Reg, bool)| {
            if let Some(r) = m.base {
                f(r, false);
            }
            if let Some((r, _)) = m.index {
                f(r, false);
            }
        };
        let bound = |b: &Bound, f: &mut dyn FnMut(Reg, bool)| {
            if let Bound::Reg(r) = b {
                f(*r, false);
            }
        };
        match self {
            Lir::Entry { args, begin, end } => {
                for r in [args, begin, end] {
                    f(*r, true);
                }
            }
            Lir::Vector {
                d,
                a,
                b,
                mask,
                store,
                ..
            } => {
                if let Some(a) = a {
                    f(*a, false);
                }
                match b {
                    Src::Reg(r) => f(*r, false),
                    Src::Mem(m) => mem(m, &mut f),
                }
                let merges = matches!(mask, Mask::Merge(_) | Mask::TailMerge);
                if let Mask::Merge(k) | Mask::Zero(k) | Mask::Blend(k) = mask {
                    f(*k, false);
                }
                if *store || merges {
                    f(*d, false);
                }
                if !store {
                    f(*d, true);
                }
            }
            Lir::Shift { d, a, .. } | Lir::Move { d, a } | Lir::FirstLane { d, a } => {
                f(*a, false);
                f(*d, true);
            }
            Lir::Down { d, s, .. } => {
                f(*s, false);
                f(*d, true);
            }
            Lir::Limit { d, a, .. } => {
                f(*a, false);
                f(*d, true);
            }
            Lir::Fma { d, a, b, c, .. } | Lir::Choose { d, a, b, c, .. } => {
                for r in [c, a, b] {
                    f(*r, false);
                }
                f(*d, true);
            }
            Lir::Blend { d, a, b, k, .. } => {
                for r in [a, b, k] {
                    f(*r, false);
                }
                f(*d, true);
            }
            Lir::Splat { d, from, .. } => {
                f(*from, false);
                f(*d, true);
            }
            Lir::Left { d, at, end } => {
                f(*at, false);
                bound(end, &mut f);
                f(*d, true);
            }
            Lir::Gather {
                d,
                base,
                index,
                mask,
                store,
                ..
            } => {
                f(*base, false);
                f(*index, false);
                if let Some(mask) = mask {
                    f(*mask, false);
                }
                f(*d, !store);
            }
            Lir::Mask { d, a, b, .. } => {
                for r in [a, b].into_iter().flatten() {
                    f(*r, false);
                }
                f(*d, true);
            }
            Lir::Set { d, .. } | Lir::FrameAddress { d, .. } => f(*d, true),
            Lir::LoadPointer { d, base, .. } => {
                f(*base, false);
                f(*d, true);
            }
            Lir::AddScaled { d, base, index, .. } => {
                f(*base, false);
                f(*index, false);
                f(*d, true);
            }
            Lir::Advance { d, .. } => {
                f(*d, false);
                f(*d, true);
            }
            Lir::Bind(_) => {}
            Lir::JumpIfNone { mask, .. } => f(*mask, false),
            Lir::JumpIfUnaligned { m, .. } | Lir::Prefetch { m, .. } => mem(m, &mut f),
            Lir::JumpIf { a, b, .. } => {
                f(*a, false);
                bound(b, &mut f);
            }
            Lir::TailMask { at, end } => {
                f(*at, false);
                bound(end, &mut f);
            }
        }
    }
}
