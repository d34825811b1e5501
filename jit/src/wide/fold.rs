//! Loads that one arithmetic instruction alone uses become its operand: fewer instructions, and no register.

use super::lir::{Class, Function, Lir, Mask, Mem, Reg, Src};
use super::opcode as o;
use crate::kernel::Type;
use cranelift_entity::SecondaryMap;
use std::collections::HashMap;

/// A vector that was loaded in the current stretch of code, which nothing has written to memory since.
struct Load {
    at: usize,
    from: Mem,
    len: u8,
}

/// Folds all such loads of a function.
pub fn fold(f: &mut Function) {
    let named = counted(f);
    let mut loads: HashMap<Reg, Load> = HashMap::new();
    let mut gone = vec![false; f.code.len()];
    for (at, inst) in f.code.iter_mut().enumerate() {
        if let Some(taken) = operand(inst, &loads) {
            gone[taken] = true;
        }
        if ends_stretch(inst) {
            loads.clear();
        }
        inst.visit(|r, written| {
            if written && f.regs[r].class == Class::General {
                loads
                    .retain(|_, l| l.from.base != Some(r) && l.from.index.is_none_or(|i| i.0 != r));
            }
        });
        if let Some((d, from, len)) = loaded(inst)
            && named[d] == (1, 1)
        {
            loads.insert(d, Load { at, from, len });
        }
    }
    remove(f, &gone);
}

/// How often each register is written and read.
fn counted(f: &Function) -> SecondaryMap<Reg, (u32, u32)> {
    let mut named = SecondaryMap::new();
    for inst in &f.code {
        inst.visit(|r, written| {
            let n: &mut (u32, u32) = &mut named[r];
            *if written { &mut n.0 } else { &mut n.1 } += 1;
        });
    }
    named
}

/// The register, place and length of a load of all lanes as they are.
fn loaded(inst: &Lir) -> Option<(Reg, Mem, u8)> {
    let plain = [Type::F32, Type::F64].map(|ty| o::float(ty, o::LOAD));
    match *inst {
        Lir::Vector {
            op,
            len,
            d,
            a: None,
            b: Src::Mem(m),
            imm: None,
            mask: Mask::All,
            store: false,
        } if plain.contains(&op) => Some((d, m, len)),
        _ => None,
    }
}

/// Makes a load an instruction's operand, if it has one among its sources; where it was.
fn operand(inst: &mut Lir, loads: &HashMap<Reg, Load>) -> Option<usize> {
    let Lir::Vector {
        op,
        len,
        a: Some(a),
        b: b @ Src::Reg(_),
        store: false,
        ..
    } = inst
    else {
        return None;
    };
    let of = |byte: u8| {
        [Type::F32, Type::F64]
            .map(|ty| o::float(ty, byte))
            .contains(op)
    };
    let commutes = of(o::ADD) || of(o::MUL);
    if !commutes && !of(o::SUB) {
        return None;
    }
    let of_load = |r: &Reg| loads.get(r).filter(|l| l.len == *len);
    let Src::Reg(second) = *b else { return None };
    if let Some(l) = of_load(&second) {
        *b = Src::Mem(l.from);
        return Some(l.at);
    }
    let l = of_load(a).filter(|_| commutes)?;
    (*a, *b) = (second, Src::Mem(l.from));
    Some(l.at)
}

/// Whether loads cannot move behind an instruction: it writes memory, or is jumped from or to.
fn ends_stretch(inst: &Lir) -> bool {
    match inst {
        Lir::Vector { store, .. } | Lir::Gather { store, .. } => *store,
        Lir::Bind(_) | Lir::JumpIf { .. } | Lir::JumpIfNone { .. } => true,
        Lir::JumpIfUnaligned { .. } => true,
        _ => false,
    }
}

/// Removes instructions, and moves what is noted of their places.
fn remove(f: &mut Function, gone: &[bool]) {
    let mut kept = 0;
    let mut moved = Vec::with_capacity(gone.len());
    for gone in gone {
        moved.push(kept);
        kept += usize::from(!gone);
    }
    let mut gone = gone.iter();
    f.code.retain(|_| !gone.next().is_some_and(|g| *g));
    for (first, last) in f.loops.iter_mut().chain(&mut f.rare) {
        (*first, *last) = (moved[*first], moved[*last]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::lower::lower;
    use super::super::target::Target;
    use super::*;
    use crate::kernel::parse;

    /// Loads that are left by themselves of a kernel whose statements are these.
    fn left(access: &str, statements: &str) -> usize {
        let text = format!(
            "kernel (p0: {access} f32, p1: in f32, p2: out f32) {{
    loop i0 < 16 vector {{
        {statements}
    }}
}}"
        );
        let kernel = parse(&text).unwrap();
        let mut f = lower(&kernel, Target::Avx512 { bf16: false }).unwrap();
        let all = |f: &Function| f.code.iter().filter(|i| loaded(i).is_some()).count();
        let before = all(&f);
        fold(&mut f);
        // Loops are compiled for full vectors, and for last ones under a mask.
        assert!(f.loops.iter().all(|l| matches!(f.code[l.0], Lir::Bind(_))));
        assert!(
            f.loops
                .iter()
                .all(|l| matches!(f.code[l.1], Lir::JumpIf { .. }))
        );
        // Of each of four copies.
        assert!(before > 0 && all(&f).is_multiple_of(4));
        all(&f) / 4
    }

    #[test]
    fn loads_become_operands() {
        let both = "v0: f32 = load p0[i0]
        v1: f32 = load p1[i0]";
        let then = |rest: &str, last: &str| {
            left("in", &format!("{both}\n {rest}\n store p2[i0] = {last}"))
        };
        assert_eq!(then("v2: f32 = add v0, v1", "v2"), 1);
        assert_eq!(then("v2: f32 = sub v0, v1", "v2"), 1);
        let abs = "v2: f32 = abs v1";
        let first = then(&format!("{abs}\n v3: f32 = mul v0, v2"), "v3");
        assert_eq!(first, 1, "the first");
        let ordered = then(&format!("{abs}\n v3: f32 = sub v0, v2"), "v3");
        assert_eq!(ordered, 2, "the first of what does not commute");
        let twice = then("v2: f32 = add v0, v1\n v3: f32 = mul v1, v2", "v3");
        assert_eq!(twice, 1, "twice");
    }

    #[test]
    fn loads_stay_in_front_of_stores() {
        let text = "v0: f32 = load p0[i0]
        v1: f32 = load p1[i0]
        v2: f32 = abs v1
        store p0[i0] = v2
        v3: f32 = add v2, v0
        store p2[i0] = v3";
        assert_eq!(left("inout", text), 2);
        let text = text.replace("store p0[i0] = v2", "");
        assert_eq!(left("inout", &text), 1);
    }
}
