//! The text form of a kernel; [`parse`](super::parse) reads it back. Grammar:
//!
//! ```text
//! kernel  = "kernel" "(" [ param { "," param } ] ")" "{" { "scratch" s ":" type "[" len "]" }
//!           { "unused" ( i ":" extent | v ":" type ) } loop "}"
//! param   = p ":" ( "in" | "out" | "inout" ) dtype
//! loop    = "loop" i "<" extent [ "vector" ] "{" { stmt } "}" [ "carry" carry { "," carry } ]
//! carry   = v ":" type [ "at" v ] "=" reduction v
//! stmt    = loop | "store" place "=" v | v ":" type "=" inst
//! inst    = "const" number | "var" i | "load" place | "narrow" dtype v | operation v { "," v }
//! place   = ( p | s ) "[" sum "]"        sum of terms 12*i0, v3 and numbers
//! ```
//!
//! `p0 s0 i0 v0` are parameters, scratch rows, loop variables and values. A comment runs from `;` to the end of the line.
//! Floats are the shortest decimals that read back; a NaN that is not the usual one carries its bits, `nan(0x7f800001)`.
//! What has an id but no place in the loops (what an expansion left behind) is declared `unused`, so that ids survive.

use super::{Carry, Const, Index, Inst, Kernel, Loop, Mem, Stmt, ValueId, VarId};
use cranelift_entity::EntitySet;
use std::fmt::{Display, Formatter, Result};

impl Display for Kernel {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("kernel (")?;
        for (id, p) in &self.params {
            let comma = if id.as_u32() > 0 { ", " } else { "" };
            write!(f, "{comma}{id}: {} {}", p.access, p.dtype)?;
        }
        f.write_str(") {\n")?;
        for (id, s) in &self.scratch {
            writeln!(f, "    scratch {id}: {}[{}]", s.ty, s.len)?;
        }
        let (vars, values) = used(self);
        for (id, var) in self.vars.iter().filter(|(id, _)| !vars.contains(*id)) {
            writeln!(f, "    unused {id}: {}", var.extent)?;
        }
        for (id, ty) in self.values.iter().filter(|(id, _)| !values.contains(*id)) {
            writeln!(f, "    unused {id}: {ty}")?;
        }
        self.print_loop(f, &self.root, 1)?;
        f.write_str("}\n")
    }
}

/// The variables that loops run and the values that statements define.
fn used(kernel: &Kernel) -> (EntitySet<VarId>, EntitySet<ValueId>) {
    let (mut vars, mut values) = (EntitySet::new(), EntitySet::new());
    let mut loops = vec![&kernel.root];
    while let Some(l) = loops.pop() {
        vars.insert(l.var);
        for carry in &l.carries {
            values.insert(carry.result);
            values.extend(carry.arg);
        }
        for stmt in &l.body {
            match stmt {
                Stmt::Let { value, .. } => {
                    values.insert(*value);
                }
                Stmt::Loop(inner) => loops.push(inner),
                Stmt::Store { .. } => {}
            }
        }
    }
    (vars, values)
}

impl Kernel {
    fn print_loop(&self, f: &mut Formatter<'_>, l: &Loop, depth: usize) -> Result {
        let indent = "    ".repeat(depth);
        let vector = if l.vector { " vector" } else { "" };
        let extent = self.vars[l.var].extent;
        writeln!(f, "{indent}loop {} < {extent}{vector} {{", l.var)?;
        for stmt in &l.body {
            match stmt {
                Stmt::Let { value, inst } => {
                    let ty = self.values[*value];
                    writeln!(f, "{indent}    {value}: {ty} = {inst}")?;
                }
                Stmt::Store { mem, index, value } => {
                    writeln!(f, "{indent}    store {mem}[{index}] = {value}")?;
                }
                Stmt::Loop(inner) => self.print_loop(f, inner, depth + 1)?,
            }
        }
        write!(f, "{indent}}}")?;
        for (n, carry) in l.carries.iter().enumerate() {
            f.write_str(if n == 0 { " carry " } else { ", " })?;
            self.print_carry(f, carry)?;
        }
        f.write_str("\n")
    }

    fn print_carry(&self, f: &mut Formatter<'_>, carry: &Carry) -> Result {
        let Carry {
            op,
            value,
            result,
            arg,
        } = carry;
        write!(f, "{result}: {}", self.values[*result])?;
        if let Some(arg) = arg {
            write!(f, " at {arg}")?;
        }
        write!(f, " = {op} {value}")
    }
}

impl Display for Inst {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Inst::Const(c) => write!(f, "const {c}"),
            Inst::Var(v) => write!(f, "var {v}"),
            Inst::Load { mem, index } => write!(f, "load {mem}[{index}]"),
            Inst::Unary { op, arg } => write!(f, "{op} {arg}"),
            Inst::Binary { op, args: [a, b] } => write!(f, "{op} {a}, {b}"),
            Inst::Fma { args: [a, b, c] } => write!(f, "fma {a}, {b}, {c}"),
            Inst::Compare { op, args: [a, b] } => write!(f, "{op} {a}, {b}"),
            Inst::Select {
                cond,
                on_true,
                on_false,
            } => write!(f, "select {cond}, {on_true}, {on_false}"),
            Inst::Convert { arg, .. } => write!(f, "convert {arg}"),
            Inst::Narrow { to, arg } => write!(f, "narrow {to} {arg}"),
            Inst::Scan { op, arg } => write!(f, "scan {op} {arg}"),
        }
    }
}

impl Display for Const {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match *self {
            Const::F32(bits) => match f32::from_bits(bits) {
                x if x.is_nan() && bits != f32::NAN.to_bits() => write!(f, "nan({bits:#x})"),
                x if x.is_nan() => f.write_str("nan"),
                x => write!(f, "{x:?}"),
            },
            Const::F64(bits) => match f64::from_bits(bits) {
                x if x.is_nan() && bits != f64::NAN.to_bits() => write!(f, "nan({bits:#x})"),
                x if x.is_nan() => f.write_str("nan"),
                x => write!(f, "{x:?}"),
            },
            Const::I32(i) => write!(f, "{i}"),
            Const::I64(i) => write!(f, "{i}"),
            Const::Bool(b) => write!(f, "{b}"),
        }
    }
}

impl Display for Mem {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Mem::Param(p) => p.fmt(f),
            Mem::Scratch(s) => s.fmt(f),
        }
    }
}

impl Display for Index {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let vars = self.vars.iter().map(|(v, stride)| (v.to_string(), *stride));
        let values = self.values.iter().map(|(v, s)| (v.to_string(), *s));
        let mut first = true;
        let mut sign = |f: &mut Formatter<'_>, negative: bool| {
            f.write_str(match (std::mem::take(&mut first), negative) {
                (true, false) => "",
                (true, true) => "-",
                (false, false) => " + ",
                (false, true) => " - ",
            })
        };
        let no_terms = self.vars.is_empty() && self.values.is_empty();
        for (name, stride) in vars.chain(values) {
            sign(f, stride < 0)?;
            match stride.unsigned_abs() {
                1 => f.write_str(&name)?,
                n => write!(f, "{n}*{name}")?,
            }
        }
        if self.offset != 0 || no_terms {
            sign(f, self.offset < 0)?;
            write!(f, "{}", self.offset.unsigned_abs())?;
        }
        Ok(())
    }
}
