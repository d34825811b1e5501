//! What a driver must know of a SPIR-V module: its kernels and their parameters, what it imports, its constants.

use rspirv::dr::{Instruction, Module, Operand};
use rspirv::spirv::{Capability, Decoration, ExecutionMode, LinkageType, Op, StorageClass};
use std::collections::HashMap;

/// A kernel's parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// A pointer to memory.
    Pointer,
    /// A pointer to local memory.
    Local,
    /// So many bytes.
    Value(usize),
}

/// A kernel.
#[derive(Clone, Debug)]
pub struct KernelSignature {
    pub parameters: Vec<Parameter>,
    /// Required sizes of a group.
    pub group: Option<[u32; 3]>,
    /// Required size of a sub-group, or 0.
    pub sub_group: u32,
}

/// A module.
#[derive(Clone, Debug, Default)]
pub struct Signature {
    pub version: (u8, u8),
    pub kernels: HashMap<String, KernelSignature>,
    pub imports: Vec<String>,
    /// Whether it computes in f64.
    pub f64: bool,
    /// Bytes of each specialization constant, by its id.
    pub constants: HashMap<u32, usize>,
}

fn literal(o: &Operand) -> u32 {
    match o {
        Operand::LiteralBit32(n) => *n,
        _ => 0,
    }
}

fn id(o: &Operand) -> u32 {
    o.id_ref_any().unwrap_or(0)
}

fn text(o: &Operand) -> &str {
    match o {
        Operand::LiteralString(s) => s,
        _ => "",
    }
}

/// Sizes of types in bytes, by id.
fn sizes(module: &Module) -> HashMap<u32, usize> {
    let mut sizes: HashMap<u32, usize> = HashMap::new();
    for i in &module.types_global_values {
        let of = |sizes: &HashMap<u32, usize>, o: &Operand| sizes.get(&id(o)).copied().unwrap_or(0);
        let bytes = match i.class.opcode {
            Op::TypeBool => 1,
            Op::TypeInt | Op::TypeFloat => literal(&i.operands[0]) as usize / 8,
            Op::TypePointer => 8,
            Op::TypeVector => {
                let n = literal(&i.operands[1]).next_power_of_two();
                of(&sizes, &i.operands[0]) * n as usize
            }
            Op::TypeStruct => i.operands.iter().map(|o| of(&sizes, o)).sum(),
            _ => continue,
        };
        sizes.extend(i.result_id.map(|r| (r, bytes)));
    }
    sizes
}

fn parameter(ty: Option<&&Instruction>, size: usize) -> Parameter {
    match ty.map(|t| (t.class.opcode, &t.operands[..])) {
        Some((Op::TypePointer, [Operand::StorageClass(StorageClass::Workgroup), ..])) => {
            Parameter::Local
        }
        Some((Op::TypePointer, _)) => Parameter::Pointer,
        _ => Parameter::Value(size),
    }
}

/// Reads a module.
pub fn read(bytes: &[u8]) -> Result<Signature, String> {
    let module = rspirv::dr::load_bytes(bytes).map_err(|e| format!("not SPIR-V: {e}"))?;
    let header = module.header.as_ref().ok_or("not SPIR-V: no header")?;
    let (sizes, mut signature) = (
        sizes(&module),
        Signature {
            version: header.version(),
            ..Signature::default()
        },
    );
    let capability = |i: &Instruction| i.operands == [Operand::Capability(Capability::Float64)];
    signature.f64 = module.capabilities.iter().any(capability);
    let types: HashMap<u32, &Instruction> = module
        .types_global_values
        .iter()
        .filter_map(|i| Some((i.result_id?, i)))
        .collect();
    for i in module
        .annotations
        .iter()
        .filter(|i| i.class.opcode == Op::Decorate)
    {
        match (&i.operands[1], &i.operands[2..]) {
            (
                Operand::Decoration(Decoration::LinkageAttributes),
                [name, Operand::LinkageType(LinkageType::Import)],
            ) if !text(name).starts_with("__spirv_BuiltIn") => {
                signature.imports.push(text(name).into());
            }
            (Operand::Decoration(Decoration::SpecId), [n]) => {
                let constant = types.get(&id(&i.operands[0]));
                let size = constant.and_then(|c| sizes.get(&c.result_type?)).copied();
                signature.constants.insert(literal(n), size.unwrap_or(4));
            }
            _ => {}
        }
    }
    for entry in &module.entry_points {
        let function = id(&entry.operands[1]);
        let body = module
            .functions
            .iter()
            .find(|f| f.def_id() == Some(function));
        let body = body.ok_or("an entry point without a function")?;
        let parameters = body.parameters.iter().map(|p| {
            let ty = p.result_type.unwrap_or(0);
            parameter(types.get(&ty), sizes.get(&ty).copied().unwrap_or(8))
        });
        let mut kernel = KernelSignature {
            parameters: parameters.collect(),
            group: None,
            sub_group: 0,
        };
        for mode in module
            .execution_modes
            .iter()
            .filter(|m| id(&m.operands[0]) == function)
        {
            match (&mode.operands[1], &mode.operands[2..]) {
                (Operand::ExecutionMode(ExecutionMode::LocalSize), [x, y, z]) => {
                    kernel.group = Some([x, y, z].map(literal));
                }
                (Operand::ExecutionMode(ExecutionMode::SubgroupSize), [n]) => {
                    kernel.sub_group = literal(n)
                }
                _ => {}
            }
        }
        signature
            .kernels
            .insert(text(&entry.operands[2]).into(), kernel);
    }
    Ok(signature)
}
