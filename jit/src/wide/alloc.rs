//! Linear-scan register allocation (Poletto and Sarkar, 1999) with loop-weighted spilling.

use super::lir::{Class, Function, Lir, Reg};
use cranelift_entity::SecondaryMap;

/// Where a virtual register lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Never used.
    #[default]
    Nowhere,
    /// A machine register of its class.
    Reg(u8),
    /// The stack frame: byte offset.
    Slot(i32),
    /// The constant pool.
    Pool,
}

/// Masks: k5 and k6 are scratch, k7 is the tail's.
const MASKS: [u8; 4] = [1, 2, 3, 4];
/// General registers but for rsp, rbp and the scratch ones rax, rcx and r11.
const GENERAL: [u8; 11] = [2, 6, 7, 8, 9, 10, 3, 12, 13, 14, 15];

/// How much a use in code that is jumped over counts.
const RARE: f32 = 1e-4;

#[derive(Clone, Copy, Debug)]
struct Interval {
    reg: Reg,
    /// Instruction `n` reads at `2n` and writes at `2n + 1`.
    start: u32,
    end: u32,
    weight: f32,
}

/// Places for all registers, and the size of the stack frame.
pub struct Allocation {
    /// By register.
    pub places: SecondaryMap<Reg, Place>,
    /// Bytes.
    pub frame: i32,
}

fn intervals(function: &Function) -> Vec<Interval> {
    let n = function.regs.len();
    let mut found: Vec<Option<Interval>> = vec![None; n];
    let mut depth = vec![0u8; function.code.len()];
    for &(first, last) in &function.loops {
        depth[first..=last].iter_mut().for_each(|d| *d += 1);
    }
    let mut rare = vec![false; function.code.len()];
    for &(first, last) in &function.rare {
        rare[first..=last].fill(true);
    }
    for (at, inst) in function.code.iter().enumerate() {
        let weight = 8f32.powi(depth[at].into()) * if rare[at] { RARE } else { 1.0 };
        // A gather may not write over its index.
        let late = matches!(inst, Lir::Gather { .. });
        inst.visit(|reg, written| {
            let point = 2 * at as u32 + u32::from(written || late);
            let i = found[reg.as_u32() as usize].get_or_insert(Interval {
                reg,
                start: point,
                end: point,
                weight: 0.0,
            });
            // Constants are loaded at the entry.
            if function.regs[reg].constant.is_some() {
                i.start = 1;
            }
            i.end = i.end.max(point);
            i.weight += weight;
        });
    }
    // What lives at a loop's entry and is used in it must survive until its end. Inner loops come
    // first in the list.
    for &(first, last) in &function.loops {
        let (first, last) = (2 * first as u32, 2 * last as u32 + 1);
        for i in found.iter_mut().flatten() {
            if i.start < first && i.end >= first && i.end < last {
                i.end = last;
            }
        }
    }
    let mut list: Vec<Interval> = found.into_iter().flatten().collect();
    for i in &mut list {
        i.weight /= (i.end - i.start + 1) as f32;
    }
    list.sort_by_key(|i| (i.start, i.reg));
    list
}

/// Operands whose register a result had best take over.
fn hints(function: &Function, at: u32) -> Vec<Reg> {
    let mut reads = Vec::new();
    if let Some(inst) = function.code.get(at as usize / 2) {
        inst.visit(|r, written| {
            if !written {
                reads.push(r);
            }
        });
    }
    reads
}

/// Allocates.
pub fn allocate(function: &Function) -> Allocation {
    let mut places: SecondaryMap<Reg, Place> = SecondaryMap::new();
    let mut frame = function.frame;
    for class in [Class::Vector, Class::Mask, Class::General] {
        let mut free: Vec<u8> = match class {
            Class::Vector => (0..function.target.vectors()).rev().collect(),
            Class::Mask => MASKS.to_vec(),
            Class::General => GENERAL.iter().rev().copied().collect(),
        };
        let mut active: Vec<Interval> = Vec::new();
        let mut spill = |reg: Reg, places: &mut SecondaryMap<Reg, Place>| {
            places[reg] = if function.regs[reg].constant.is_some() {
                Place::Pool
            } else {
                let bytes = match class {
                    Class::Vector => function.target.bytes() as i32,
                    _ => 8,
                };
                frame = (frame + bytes - 1) / bytes * bytes;
                frame += bytes;
                Place::Slot(frame - bytes)
            };
        };
        for i in intervals(function) {
            if function.regs[i.reg].class != class {
                continue;
            }
            active.retain(|a| {
                let lives = a.end >= i.start;
                if !lives && let Place::Reg(r) = places[a.reg] {
                    free.push(r);
                }
                lives
            });
            let same = |h: &Reg| function.regs[*h].class == class;
            let operands = hints(function, i.start).into_iter().filter(same);
            let hint = { operands }.find_map(|h| {
                if let Place::Reg(r) = places[h] {
                    free.iter().position(|&f| f == r)
                } else {
                    None
                }
            });
            if let Some(k) = hint {
                places[i.reg] = Place::Reg(free.remove(k));
                active.push(i);
            } else if let Some(r) = free.pop() {
                places[i.reg] = Place::Reg(r);
                active.push(i);
            } else {
                let weakest = (0..active.len())
                    .min_by(|&a, &b| active[a].weight.total_cmp(&active[b].weight));
                match weakest {
                    Some(w) if active[w].weight < i.weight => {
                        let victim = active.swap_remove(w);
                        places[i.reg] = places[victim.reg];
                        spill(victim.reg, &mut places);
                        active.push(i);
                    }
                    _ => spill(i.reg, &mut places),
                }
            }
        }
    }
    Allocation {
        places,
        frame: (frame + 63) / 64 * 64,
    }
}
