//! Reads the text form of a kernel (the grammar is in `print.rs`). What parses need not be
//! well-formed: that is for [`verify`](super::verify()) to say.

use super::text::{Parsed, Scanner};
use super::{
    Access, BinaryOp, Carry, CmpOp, Const, Index, Inst, Kernel, Loop, Mem, Param, ParamId,
    ReduceOp, Scratch, ScratchId, Stmt, Type, UnaryOp, ValueId, Var, VarId,
};
use cranelift_entity::{EntityRef, PrimaryMap};
use ipex_runtime::DType;
use std::collections::BTreeMap;

pub use super::text::{ParseError, Place};

/// Deepest nesting of loops.
const MAX_DEPTH: usize = 32;

/// Parses one kernel; nothing but comments may follow.
pub fn parse(text: &str) -> Result<Kernel, ParseError> {
    let mut parser = Parser {
        scan: Scanner::new(text),
        params: PrimaryMap::new(),
        scratch: PrimaryMap::new(),
        vars: BTreeMap::new(),
        values: BTreeMap::new(),
        uses: Vec::new(),
    };
    parser.kernel()
}

struct Parser<'a> {
    scan: Scanner<'a>,
    params: PrimaryMap<ParamId, Param>,
    scratch: PrimaryMap<ScratchId, Scratch>,
    vars: BTreeMap<VarId, Var>,
    values: BTreeMap<ValueId, Type>,
    /// Where ids are used: their definition may come later, but must come.
    uses: Vec<(Used, usize)>,
}

enum Used {
    Var(VarId),
    Value(ValueId),
}

impl Parser<'_> {
    fn kernel(&mut self) -> Parsed<Kernel> {
        self.scan.keyword("kernel")?;
        self.scan.mark('(')?;
        while !self.scan.accept(')') {
            if self.params.next_key().as_u32() > 0 {
                self.scan.mark(',')?;
            }
            self.param()?;
        }
        self.scan.mark('{')?;
        while self.scan.accept_word("scratch") {
            self.scratch()?;
        }
        while self.scan.accept_word("unused") {
            self.unused()?;
        }
        self.scan.keyword("loop")?;
        let root = self.loop_(1)?;
        self.scan.mark('}')?;
        self.scan.end()?;
        self.check_uses()?;
        Ok(Kernel {
            params: std::mem::take(&mut self.params),
            scratch: std::mem::take(&mut self.scratch),
            vars: self.dense(&self.vars, 'i')?,
            values: self.dense(&self.values, 'v')?,
            root,
        })
    }

    /// Every id that is used must have been declared somewhere.
    fn check_uses(&self) -> Parsed<()> {
        for (used, offset) in &self.uses {
            let (known, name) = match used {
                Used::Var(v) => (self.vars.contains_key(v), v.to_string()),
                Used::Value(v) => (self.values.contains_key(v), v.to_string()),
            };
            if !known {
                let expected = format!("an id with a definition ({name} has none)");
                return Err(self.scan.error_at(*offset, &expected));
            }
        }
        Ok(())
    }

    /// A table without gaps.
    fn dense<K: EntityRef, V: Copy>(
        &self,
        found: &BTreeMap<K, V>,
        prefix: char,
    ) -> Parsed<PrimaryMap<K, V>> {
        let gap = found.keys().enumerate().find(|(n, k)| k.index() != *n);
        if let Some((n, _)) = gap {
            return self
                .scan
                .error(&format!("{prefix}{n} to be defined or declared unused"));
        }
        Ok(found.values().copied().collect())
    }

    fn param(&mut self) -> Parsed<()> {
        let id = self.params.next_key().to_string();
        self.scan.keyword(&id)?;
        self.scan.mark(':')?;
        let access = self.scan.word("`in`, `out`, `inout` or `stream`", |w| {
            let all = [Access::In, Access::Out, Access::InOut, Access::Stream];
            all.into_iter().find(|a| a.to_string() == w)
        })?;
        let dtype = self.dtype()?;
        self.params.push(Param { dtype, access });
        Ok(())
    }

    fn scratch(&mut self) -> Parsed<()> {
        let id = self.scratch.next_key().to_string();
        self.scan.keyword(&id)?;
        self.scan.mark(':')?;
        let ty = self.ty()?;
        self.scan.mark('[')?;
        let len = self.scan.number("a length")?;
        self.scan.mark(']')?;
        self.scratch.push(Scratch { ty, len });
        Ok(())
    }

    fn unused(&mut self) -> Parsed<()> {
        if self.scan.at_id('i') {
            let var = VarId::from_u32(self.scan.id('i')?);
            self.scan.mark(':')?;
            return self.extent(var);
        }
        let value = ValueId::from_u32(self.scan.id('v')?);
        self.scan.mark(':')?;
        self.define(value).map(|_| ())
    }

    fn extent(&mut self, var: VarId) -> Parsed<()> {
        let start = self.scan.offset();
        let extent = self.scan.number("an extent")?;
        match self.vars.insert(var, Var { extent }) {
            Some(other) if other.extent != extent => {
                let expected = format!("the extent {} that {var} has", other.extent);
                Err(self.scan.error_at(start, &expected))
            }
            _ => Ok(()),
        }
    }

    /// Takes the type of a value.
    fn define(&mut self, value: ValueId) -> Parsed<Type> {
        let start = self.scan.offset();
        let ty = self.ty()?;
        self.declare(value, ty, start)
    }

    fn declare(&mut self, value: ValueId, ty: Type, start: usize) -> Parsed<Type> {
        match self.values.insert(value, ty) {
            Some(other) if other != ty => {
                let expected = format!("the type {other} that {value} has");
                Err(self.scan.error_at(start, &expected))
            }
            _ => Ok(ty),
        }
    }

    fn loop_(&mut self, depth: usize) -> Parsed<Loop> {
        if depth > MAX_DEPTH {
            return self.scan.error("loops that are nested less deeply");
        }
        let var = VarId::from_u32(self.scan.id('i')?);
        self.scan.mark('<')?;
        self.extent(var)?;
        let vector = self.scan.accept_word("vector");
        self.scan.mark('{')?;
        let mut body = Vec::new();
        while !self.scan.accept('}') {
            body.push(self.stmt(depth)?);
        }
        let mut carries = Vec::new();
        if self.scan.accept_word("carry") {
            carries.push(self.carry()?);
            while self.scan.accept(',') {
                carries.push(self.carry()?);
            }
        }
        Ok(Loop {
            var,
            vector,
            body,
            carries,
        })
    }

    fn carry(&mut self) -> Parsed<Carry> {
        let result = ValueId::from_u32(self.scan.id('v')?);
        self.scan.mark(':')?;
        self.define(result)?;
        let mut arg = None;
        if self.scan.accept_word("at") {
            let start = self.scan.offset();
            let position = ValueId::from_u32(self.scan.id('v')?);
            self.declare(position, Type::I64, start)?;
            arg = Some(position);
        }
        self.scan.mark('=')?;
        let op = self.scan.word("a reduction", ReduceOp::from_name)?;
        let value = self.value()?;
        Ok(Carry {
            op,
            value,
            result,
            arg,
        })
    }

    fn stmt(&mut self, depth: usize) -> Parsed<Stmt> {
        if self.scan.accept_word("loop") {
            return self.loop_(depth + 1).map(Stmt::Loop);
        }
        if self.scan.accept_word("store") {
            let (mem, index) = self.place()?;
            self.scan.mark('=')?;
            let value = self.value()?;
            return Ok(Stmt::Store { mem, index, value });
        }
        if !self.scan.at_id('v') {
            return self.scan.error("a statement or `}`");
        }
        let value = ValueId::from_u32(self.scan.id('v')?);
        self.scan.mark(':')?;
        let ty = self.define(value)?;
        self.scan.mark('=')?;
        let inst = self.inst(ty)?;
        Ok(Stmt::Let { value, inst })
    }

    fn inst(&mut self, ty: Type) -> Parsed<Inst> {
        enum Kind {
            Const,
            Var,
            Load,
            Fma,
            Select,
            Convert,
            Narrow,
            Scan,
            Unary(UnaryOp),
            Binary(BinaryOp),
            Compare(CmpOp),
        }
        let kind = self.scan.word("an instruction", |w| {
            Some(match w {
                "const" => Kind::Const,
                "var" => Kind::Var,
                "load" => Kind::Load,
                "fma" => Kind::Fma,
                "select" => Kind::Select,
                "convert" => Kind::Convert,
                "narrow" => Kind::Narrow,
                "scan" => Kind::Scan,
                _ => UnaryOp::from_name(w)
                    .map(Kind::Unary)
                    .or_else(|| BinaryOp::from_name(w).map(Kind::Binary))
                    .or_else(|| CmpOp::from_name(w).map(Kind::Compare))?,
            })
        })?;
        Ok(match kind {
            Kind::Const => Inst::Const(self.constant(ty)?),
            Kind::Var => Inst::Var(self.var()?),
            Kind::Load => {
                let (mem, index) = self.place()?;
                Inst::Load { mem, index }
            }
            Kind::Fma => Inst::Fma {
                args: self.operands()?,
            },
            Kind::Select => {
                let [cond, on_true, on_false] = self.operands()?;
                Inst::Select {
                    cond,
                    on_true,
                    on_false,
                }
            }
            Kind::Convert => Inst::Convert {
                to: ty,
                arg: self.value()?,
            },
            Kind::Narrow => Inst::Narrow {
                to: self.dtype()?,
                arg: self.value()?,
            },
            Kind::Scan => Inst::Scan {
                op: self.scan.word("a reduction", ReduceOp::from_name)?,
                arg: self.value()?,
            },
            Kind::Unary(op) => Inst::Unary {
                op,
                arg: self.value()?,
            },
            Kind::Binary(op) => Inst::Binary {
                op,
                args: self.operands()?,
            },
            Kind::Compare(op) => Inst::Compare {
                op,
                args: self.operands()?,
            },
        })
    }

    fn constant(&mut self, ty: Type) -> Parsed<Const> {
        let expected = format!("a constant of type {ty}");
        match ty {
            Type::Bool => {
                let truth = self.scan.word("`true` or `false`", |w| w.parse().ok())?;
                Ok(Const::Bool(truth))
            }
            Type::I32 => self.scan.number(&expected).map(Const::I32),
            Type::I64 => self.scan.number(&expected).map(Const::I64),
            Type::F32 => match self.nan_bits()? {
                Some(bits) => Ok(Const::F32(bits)),
                None => {
                    let x: f32 = self.scan.number(&expected)?;
                    Ok(Const::F32(x.to_bits()))
                }
            },
            Type::F64 => match self.nan_bits()? {
                Some(bits) => Ok(Const::F64(bits)),
                None => {
                    let x: f64 = self.scan.number(&expected)?;
                    Ok(Const::F64(x.to_bits()))
                }
            },
        }
    }

    /// The bits of a NaN that is written with them: `nan(0x7f800001)`.
    fn nan_bits<T: TryFrom<u64>>(&mut self) -> Parsed<Option<T>> {
        let mut ahead = self.scan.clone();
        if !(ahead.accept_word("nan") && ahead.accept('(')) {
            return Ok(None);
        }
        let bits = ahead.word("the bits of a NaN, 0x...", |w| {
            let bits = u64::from_str_radix(w.strip_prefix("0x")?, 16).ok()?;
            T::try_from(bits).ok()
        })?;
        ahead.mark(')')?;
        self.scan = ahead;
        Ok(Some(bits))
    }

    fn place(&mut self) -> Parsed<(Mem, Index)> {
        let start = self.scan.offset();
        let (mem, known) = if self.scan.at_id('s') {
            let id = ScratchId::from_u32(self.scan.id('s')?);
            (Mem::Scratch(id), self.scratch.is_valid(id))
        } else if self.scan.at_id('p') {
            let id = ParamId::from_u32(self.scan.id('p')?);
            (Mem::Param(id), self.params.is_valid(id))
        } else {
            return self
                .scan
                .error("a parameter p0, ... or a scratch row s0, ...");
        };
        if !known {
            return Err(self.scan.error_at(start, "memory that is declared above"));
        }
        self.scan.mark('[')?;
        let mut index = Index::default();
        let mut negative = self.scan.accept('-');
        loop {
            self.term(&mut index, negative)?;
            negative = self.scan.accept('-');
            if !negative && !self.scan.accept('+') {
                break;
            }
        }
        self.scan.mark(']')?;
        Ok((mem, index))
    }

    /// One term of a sum: `4*i0`, `v3` or a number, which ends the sum.
    fn term(&mut self, index: &mut Index, negative: bool) -> Parsed<()> {
        let start = self.scan.offset();
        let mut size: u64 = 1;
        if self.scan.at_digit() {
            size = self.scan.number("a number")?;
        }
        let signed = i128::from(size) * if negative { -1 } else { 1 };
        let Ok(factor) = i64::try_from(signed) else {
            return Err(self.scan.error_at(start, "a number of 64 bits"));
        };
        let is_offset = self.scan.offset() > start && !self.scan.accept('*');
        if is_offset {
            index.offset = index.offset.wrapping_add(factor);
        } else if self.scan.at_id('i') {
            index.vars.push((self.var()?, factor));
        } else if self.scan.at_id('v') {
            index.values.push((self.value()?, factor));
        } else {
            return self
                .scan
                .error("a number, a loop variable i0, ... or a value v0, ...");
        }
        Ok(())
    }

    fn operands<const N: usize>(&mut self) -> Parsed<[ValueId; N]> {
        let mut operands = [ValueId::from_u32(0); N];
        for (n, operand) in operands.iter_mut().enumerate() {
            if n > 0 {
                self.scan.mark(',')?;
            }
            *operand = self.value()?;
        }
        Ok(operands)
    }

    fn value(&mut self) -> Parsed<ValueId> {
        let start = self.scan.offset();
        let value = ValueId::from_u32(self.scan.id('v')?);
        self.uses.push((Used::Value(value), start));
        Ok(value)
    }

    fn var(&mut self) -> Parsed<VarId> {
        let start = self.scan.offset();
        let var = VarId::from_u32(self.scan.id('i')?);
        self.uses.push((Used::Var(var), start));
        Ok(var)
    }

    fn ty(&mut self) -> Parsed<Type> {
        self.scan.word("a type", Type::from_name)
    }

    fn dtype(&mut self) -> Parsed<DType> {
        self.scan.word("an element type", DType::from_name)
    }
}
