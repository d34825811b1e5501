//! Kernels to machine IR. Every value is a vector: one that is the same in all lanes is held in
//! all of them, so that scalar and vector code are one.

use super::Refused;
use super::lir::{Bound, Class, Function, Lir, Mask, Reg, Src};
use super::opcode;
use super::target::Target;
use crate::kernel::{self, Const, Inst, Kernel, Loop, Mem, Stmt, Type, VarId};
use cranelift_entity::{EntitySet, SecondaryMap};
use ipex_runtime::DType;
use std::collections::HashMap;

/// How the statements around the current place run.
#[derive(Clone, Copy, Debug)]
pub struct Lanes {
    /// The variable that runs over lanes.
    pub var: Option<VarId>,
    /// Vectors side by side.
    pub copies: usize,
    /// Which lanes run.
    pub part: Part,
}

/// The lanes that run of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All.
    Full,
    /// Those of the loop's last iterations.
    Tail,
    /// The first: the loop's last iterations run one by one.
    One,
}

/// Outside of every vector loop.
pub const UNIFORM: Lanes = Lanes {
    var: None,
    copies: 1,
    part: Part::Full,
};

/// A base address: the memory, and the loop variables and gathered values with their strides in it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Stream {
    pub mem: Mem,
    pub vars: Vec<(VarId, i64)>,
    pub values: Vec<(kernel::ValueId, i64)>,
}

/// State of the lowering.
pub struct Lower<'k> {
    pub kernel: &'k Kernel,
    pub f: Function,
    pub target: Target,
    /// Elements in a vector: as many as it has words, or half of that if any of them has 64 bits.
    pub count: i64,
    /// Values that their stores round.
    pub unrounded: EntitySet<kernel::ValueId>,
    /// Values that a rounding to this type gave.
    pub rounded: HashMap<kernel::ValueId, DType>,
    /// What the current loop is the last of a row to read.
    pub ahead: Option<super::ahead::Ahead>,
    /// Whether stores to what is not read again go past the caches.
    pub streaming: bool,
    pub lanes: Lanes,
    /// The lanes of [`Part::Tail`] and [`Part::One`] where masks are vectors.
    pub tail: Option<Reg>,
    /// One register for each copy, or one for all.
    pub defs: SecondaryMap<kernel::ValueId, Vec<Reg>>,
    /// Values that differ between lanes.
    pub varying: EntitySet<kernel::ValueId>,
    /// Values that are loop variables and wanted in 32 bits alone.
    pub narrow: HashMap<kernel::ValueId, VarId>,
    /// Products that are multiplied where they are added up, and their factors.
    pub products: HashMap<kernel::ValueId, [kernel::ValueId; 2]>,
    /// Values that were defined in front of their loop.
    pub hoisted: EntitySet<kernel::ValueId>,
    /// Current value of each loop variable (the first lane's of the first copy).
    pub vars: SecondaryMap<VarId, Option<Reg>>,
    /// Where each loop ends that runs.
    pub ends: SecondaryMap<VarId, Option<Bound>>,
    /// The variable of the innermost loop.
    pub current: Option<VarId>,
    /// Addresses of parameters and scratch rows.
    pub pointers: HashMap<Mem, Reg>,
    /// Base addresses that are valid in the current loop.
    pub streams: HashMap<Stream, Reg>,
    /// The last address that was computed from one, an index and its factor.
    pub strided: Option<((Reg, Reg, i32), Reg)>,
    pub consts: SecondaryMap<kernel::ValueId, Option<Const>>,
    pool: HashMap<[u8; 64], Reg>,
}

/// Lowers a kernel whose math functions are expanded.
pub fn lower(kernel: &Kernel, target: Target) -> Result<Function, Refused> {
    let mut varying = EntitySet::new();
    let mut wide = false;
    let narrow = super::lanes::narrow_positions(kernel);
    super::lanes::note_varying(kernel, &kernel.root, None, &narrow, &mut varying, &mut wide);
    let mut l = Lower {
        kernel,
        f: Function::new(target),
        target,
        count: target.bytes() as i64 / if wide { 8 } else { 4 },
        unrounded: super::lanes::rounded_by_stores(kernel),
        rounded: HashMap::new(),
        ahead: None,
        streaming: false,
        lanes: UNIFORM,
        tail: None,
        defs: SecondaryMap::new(),
        varying,
        narrow,
        products: super::sums::products(kernel),
        hoisted: EntitySet::new(),
        vars: SecondaryMap::new(),
        ends: SecondaryMap::new(),
        current: None,
        pointers: HashMap::new(),
        streams: HashMap::new(),
        strided: None,
        consts: SecondaryMap::new(),
        pool: HashMap::new(),
    };
    let (args, begin, end) = (l.general(), l.general(), l.general());
    l.emit(Lir::Entry { args, begin, end });
    for p in kernel.params.keys() {
        let d = l.general();
        let disp = 8 * p.as_u32() as i32;
        l.emit(Lir::LoadPointer {
            d,
            base: args,
            disp,
        });
        l.pointers.insert(Mem::Param(p), d);
    }
    for (s, scratch) in kernel.scratch.iter() {
        let d = l.general();
        l.emit(Lir::FrameAddress { d, disp: l.f.frame });
        l.pointers.insert(Mem::Scratch(s), d);
        // A full vector may be read at the end.
        l.f.frame += (scratch.len as i32 * 8 + 127) / 64 * 64;
    }
    l.root(&kernel.root, begin, end)?;
    Ok(l.f)
}

impl Lower<'_> {
    /// Appends an instruction.
    pub fn emit(&mut self, inst: Lir) {
        self.f.code.push(inst);
    }

    /// A new general register.
    pub fn general(&mut self) -> Reg {
        self.f.reg(Class::General)
    }

    /// A new register for values of this type.
    pub fn reg(&mut self, ty: Type) -> Reg {
        self.f.reg(if ty == Type::Bool && self.target.has_masks() {
            Class::Mask
        } else {
            Class::Vector
        })
    }

    /// The vector length for this type.
    pub fn len(&self, ty: Type) -> u8 {
        let full = self.target.full();
        if self.halves() && !opcode::is_wide(ty) {
            full - 1
        } else {
            full
        }
    }

    /// Whether 32-bit elements take half a register.
    pub fn halves(&self) -> bool {
        self.count * 8 == self.target.bytes() as i64
    }

    /// A constant in all lanes.
    pub fn constant(&mut self, c: Const) -> Reg {
        let mut bytes = [0; 64];
        match c {
            Const::F32(v) => fill(&mut bytes, &v.to_le_bytes()),
            Const::I32(v) => fill(&mut bytes, &v.to_le_bytes()),
            Const::F64(v) => fill(&mut bytes, &v.to_le_bytes()),
            Const::I64(v) => fill(&mut bytes, &v.to_le_bytes()),
            Const::Bool(v) => return self.truth(v),
        }
        self.pooled(bytes)
    }

    /// A full-width constant. It is loaded once, in front of everything, if a register is free.
    pub fn pooled(&mut self, bytes: [u8; 64]) -> Reg {
        if let Some(&r) = self.pool.get(&bytes) {
            return r;
        }
        let r = self.f.reg(Class::Vector);
        self.f.regs[r].constant = Some(bytes);
        self.pool.insert(bytes, r);
        r
    }

    /// The register of `v` in a copy.
    pub fn get(&self, v: kernel::ValueId, copy: usize) -> Reg {
        let regs = &self.defs[v];
        if regs.len() == 1 { regs[0] } else { regs[copy] }
    }

    /// `d = op(a, b, imm)` in a new register of type `ty`.
    pub fn vector_op(
        &mut self,
        op: super::encode::Opcode,
        len: u8,
        ty: Type,
        a: Option<Reg>,
        b: impl Into<Src>,
        imm: Option<u8>,
    ) -> Reg {
        let d = self.reg(ty);
        self.emit(Lir::Vector {
            op,
            len,
            d,
            a,
            b: b.into(),
            imm,
            mask: Mask::All,
            store: false,
        });
        d
    }

    /// Writes a vector.
    pub fn store_op(
        &mut self,
        op: super::encode::Opcode,
        len: u8,
        d: Reg,
        m: super::lir::Mem,
        imm: Option<u8>,
        mask: Mask,
    ) {
        self.emit(Lir::Vector {
            op,
            len,
            d,
            a: None,
            b: Src::Mem(m),
            imm,
            mask,
            store: true,
        });
    }

    /// A general register in all lanes.
    pub fn splat(&mut self, ty: Type, from: Reg) -> Reg {
        let (d, len, w) = (self.reg(ty), self.len(ty), opcode::is_wide(ty));
        self.emit(Lir::Splat { w, len, d, from });
        d
    }

    /// Statements of a loop's body.
    pub fn statements(&mut self, body: &[Stmt]) -> Result<(), Refused> {
        let mut last = super::ahead::last_reads(self.kernel, body, self.current).into_iter();
        let mut stmts = body.iter().peekable();
        while let Some(stmt) = stmts.next() {
            if let Some(squares) = self.squares(stmt, stmts.peek().copied()) {
                self.in_squares(&squares)?;
                stmts.next();
                last.nth(1);
                continue;
            }
            match stmt {
                Stmt::Let { value, .. } if self.hoisted.contains(*value) => {}
                Stmt::Let { value, .. } if self.products.contains_key(value) => {}
                Stmt::Let { value, inst } => self.define(*value, inst)?,
                Stmt::Store { mem, index, value } => self.store(*mem, index, *value)?,
                Stmt::Loop(l) => {
                    self.ahead = last.next().flatten();
                    self.find_next_row(body)?;
                    self.inner(l)?;
                    self.ahead = None;
                }
            }
        }
        Ok(())
    }

    /// Defines a value in every copy, or once if its lanes and copies are all the same.
    pub fn define(&mut self, value: kernel::ValueId, inst: &Inst) -> Result<(), Refused> {
        let copies = if self.varying.contains(value) {
            self.lanes.copies
        } else {
            1
        };
        match inst {
            Inst::Const(c) => self.consts[value] = Some(*c),
            Inst::Narrow { arg, .. } if self.unrounded.contains(value) => {
                self.defs[value] = self.defs[*arg].clone();
                return Ok(());
            }
            Inst::Narrow { to, .. } => _ = self.rounded.insert(value, *to),
            _ => {}
        }
        if self.is_position(value) {
            return Ok(());
        }
        let mut regs = Vec::with_capacity(copies);
        for copy in 0..copies {
            regs.push(self.compute(value, inst, copy)?);
        }
        self.defs[value] = regs;
        Ok(())
    }

    /// The loop in front of which everything that is the same in all its iterations is computed.
    pub fn hoist(&mut self, l: &Loop) -> Result<(), Refused> {
        let mut inside: EntitySet<kernel::ValueId> = EntitySet::new();
        for stmt in &l.body {
            match stmt {
                Stmt::Let { value, inst } => {
                    if super::lanes::is_invariant(self.kernel, l.var, &inside, inst) {
                        self.define(*value, inst)?;
                        self.hoisted.insert(*value);
                    } else {
                        inside.insert(*value);
                    }
                }
                Stmt::Loop(inner) => {
                    for carry in &inner.carries {
                        inside.extend([carry.result]);
                        inside.extend(carry.arg);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl From<super::lir::Mem> for Src {
    fn from(m: super::lir::Mem) -> Src {
        Src::Mem(m)
    }
}

impl From<Reg> for Src {
    fn from(r: Reg) -> Src {
        Src::Reg(r)
    }
}

fn fill(bytes: &mut [u8; 64], element: &[u8]) {
    for chunk in bytes.chunks_exact_mut(element.len()) {
        chunk.copy_from_slice(element);
    }
}
