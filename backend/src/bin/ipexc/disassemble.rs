//! x86-64 machine code as text.

use iced_x86::{Code, Decoder, DecoderOptions, Formatter, Instruction, IntelFormatter};
use std::collections::BTreeSet;
use std::fmt::Write;

/// The instructions of a function of the wide generator (one `ret`, then its constants). `>` marks where
/// jumps go; addresses in brackets without a register are those of constants.
pub fn disassemble(code: &[u8]) -> String {
    let mut body: Vec<Instruction> = Vec::new();
    for instruction in &mut Decoder::new(64, code, DecoderOptions::NONE) {
        body.push(instruction);
        if instruction.code() == Code::Retnq {
            break;
        }
    }
    let jumps = body
        .iter()
        .filter(|i| i.is_jcc_short_or_near() || i.is_jmp_short_or_near());
    let targets: BTreeSet<u64> = jumps.map(|i| i.near_branch_target()).collect();
    let mut formatter = IntelFormatter::new();
    let options = formatter.options_mut();
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_space_after_operand_separator(true);
    options.set_branch_leading_zeros(false);
    let (mut out, mut line) = (String::new(), String::new());
    for instruction in &body {
        let at = instruction.ip();
        let mark = if targets.contains(&at) { '>' } else { ' ' };
        line.clear();
        formatter.format(instruction, &mut line);
        let _ = writeln!(out, "{mark}{at:6x}  {line}");
    }
    let end = body.last().map_or(0, |i| i.next_ip() as usize);
    write_constants(&mut out, code, end.next_multiple_of(64));
    out
}

/// The pool behind the code: vectors of one repeated number, or their bytes.
fn write_constants(out: &mut String, code: &[u8], start: usize) {
    let pool = code.get(start..).unwrap_or_default();
    for (n, vector) in pool.chunks(64).enumerate() {
        let at = start + n * 64;
        let repeats = |width: usize| vector.chunks(width).all(|c| c == &vector[..width]);
        let width = [4, 8]
            .into_iter()
            .find(|&w| vector.len() == 64 && repeats(w));
        let bytes = &vector[..width.unwrap_or(vector.len())];
        let digits: String = match width {
            Some(_) => bytes.iter().rev().map(|b| format!("{b:02x}")).collect(),
            None => bytes.iter().map(|b| format!("{b:02x} ")).collect(),
        };
        let _ = match width {
            Some(w) => writeln!(out, " {at:6x}  .fill {}, {w}, 0x{digits}", 64 / w),
            None => writeln!(out, " {at:6x}  .byte {}", digits.trim_end()),
        };
    }
}
