//! Local memory for `pairs.cl`, which OpenCL C cannot declare outside of kernels.

use rspirv::binary::Assemble;
use rspirv::dr::{Builder, Operand};
use rspirv::spirv::{
    AddressingModel, Capability, Decoration, FunctionControl, LinkageType, MemoryModel,
    StorageClass,
};

/// Words: 4 rows of 8 lanes for each sub-group of the largest group.
const WORDS: u32 = 1024 / 8 * 32;

/// A module of one function, which gives the address of the words.
pub fn module() -> Result<Vec<u32>, rspirv::dr::Error> {
    let mut b = Builder::new();
    b.set_version(1, 2);
    for needed in [
        Capability::Addresses,
        Capability::Kernel,
        Capability::Linkage,
    ] {
        b.capability(needed);
    }
    b.memory_model(AddressingModel::Physical64, MemoryModel::OpenCL);
    let word = b.type_int(32, 0);
    let count = b.constant_bit32(word, WORDS);
    let words = b.type_array(word, count);
    let to_words = b.type_pointer(None, StorageClass::Workgroup, words);
    let to_word = b.type_pointer(None, StorageClass::Workgroup, word);
    let memory = b.variable(to_words, None, StorageClass::Workgroup, None);
    let zero = b.constant_bit32(word, 0);
    let takes_nothing = b.type_function(to_word, []);
    let function = b.begin_function(to_word, None, FunctionControl::NONE, takes_nothing)?;
    b.decorate(
        function,
        Decoration::LinkageAttributes,
        [
            Operand::LiteralString("ze_cpu_pairs".into()),
            Operand::LinkageType(LinkageType::Export),
        ],
    );
    b.begin_block(None)?;
    let first = b.in_bounds_access_chain(to_word, None, memory, [zero])?;
    b.ret_value(first)?;
    b.end_function()?;
    Ok(b.module().assemble())
}
