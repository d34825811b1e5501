//! The kernel's function: its parameters, what an item is, and the outermost loop.

use super::types::Module;
use super::{ENTRY, Refused, Spread};
use crate::kernel::{Kernel, ParamId, ScratchId, ValueId, VarId};
use cranelift_entity::{EntityRef, SecondaryMap};
use rspirv::dr;
use rspirv::spirv::{BuiltIn, Decoration, ExecutionMode, FunctionControl, StorageClass, Word};
use std::collections::HashMap;

/// Local memory that a group may have, in bytes; the smallest of Intel's GPUs has 64 KiB.
const LOCAL_BYTES: u64 = 48 << 10;

/// What the function is made of so far.
pub struct Function<'a> {
    pub kernel: &'a Kernel,
    pub spread: Spread,
    pub m: Module,
    /// Pointers, by parameter.
    pub params: SecondaryMap<ParamId, Word>,
    /// Arrays in local memory.
    pub scratch: SecondaryMap<ScratchId, Word>,
    /// An array of a value for each item, by its element type.
    pub meeting: HashMap<Word, Word>,
    pub values: SecondaryMap<ValueId, Word>,
    /// What scans have combined in the iterations before.
    pub running: SecondaryMap<ValueId, Word>,
    pub vars: SecondaryMap<VarId, Word>,
    /// The item's number in its group, I64.
    pub item: Word,
    /// The block that is written.
    pub block: Word,
    /// Whether only one item runs this, or all of them the same: false inside of vector loops.
    pub alike: bool,
}

/// Writes the module; whether it uses f64.
pub fn write(kernel: &Kernel, spread: Spread, group: u32) -> Result<(dr::Module, bool), Refused> {
    let bytes: u64 = kernel.scratch.values().map(|s| 8 * s.len).sum();
    if bytes > LOCAL_BYTES {
        return Err(Refused::Scratch(bytes));
    }
    let mut m = Module::new();
    let global = input(&mut m, BuiltIn::GlobalInvocationId);
    let of_group = input(&mut m, BuiltIn::WorkgroupId);
    let local = input(&mut m, BuiltIn::LocalInvocationId);
    let pointers: Vec<Word> = kernel
        .params
        .values()
        .map(|p| {
            let element = m.element(p.dtype);
            m.pointer(StorageClass::CrossWorkgroup, element)
        })
        .collect();
    let mut scratch = SecondaryMap::new();
    for (id, s) in &kernel.scratch {
        let slot = m.slot(s.ty);
        scratch[id] = local_array(&mut m, slot, s.len);
    }
    let void = m.b.type_void();
    let signature = m.b.type_function(void, pointers.iter().copied());
    let function =
        m.b.begin_function(void, None, FunctionControl::NONE, signature)?;
    let mut params = SecondaryMap::new();
    for (k, &ty) in pointers.iter().enumerate() {
        params[ParamId::new(k)] = m.b.function_parameter(ty)?;
    }
    let block = m.b.begin_block(None)?;
    let mut f = Function {
        kernel,
        spread,
        params,
        scratch,
        meeting: HashMap::new(),
        values: SecondaryMap::new(),
        running: SecondaryMap::new(),
        vars: SecondaryMap::new(),
        item: 0,
        block,
        alike: true,
        m,
    };
    f.body(global, of_group, local)?;
    f.m.b.end_function()?;
    f.m.entry(function, ENTRY, &[global, of_group, local]);
    f.m.b
        .execution_mode(function, ExecutionMode::LocalSize, [group, 1, 1]);
    f.m.b
        .execution_mode(function, ExecutionMode::ContractionOff, []);
    Ok((f.m.b.module(), f.m.f64_used))
}

/// A vector of three numbers that each item knows of itself.
fn input(m: &mut Module, which: BuiltIn) -> Word {
    let vector = m.b.type_vector(m.i64, 3);
    let pointer = m.pointer(StorageClass::Input, vector);
    let variable = m.b.variable(pointer, None, StorageClass::Input, None);
    m.b.decorate(variable, Decoration::BuiltIn, [dr::Operand::BuiltIn(which)]);
    m.b.decorate(variable, Decoration::Constant, []);
    variable
}

/// An array that the items of a group share.
pub fn local_array(m: &mut Module, element: Word, len: u64) -> Word {
    let len = m.int64(len as i64);
    let array = m.b.type_array(element, len);
    let pointer = m.pointer(StorageClass::Workgroup, array);
    m.b.variable(pointer, None, StorageClass::Workgroup, None)
}

impl Function<'_> {
    /// The first of an input's three numbers.
    fn number(&mut self, input: Word) -> Result<Word, Refused> {
        let vector = self.m.b.type_vector(self.m.i64, 3);
        let all = self.m.b.load(vector, None, input, None, [])?;
        Ok(self.m.b.composite_extract(self.m.i64, None, all, [0])?)
    }

    fn body(&mut self, global: Word, of_group: Word, local: Word) -> Result<(), Refused> {
        let kernel = self.kernel;
        let root = &kernel.root;
        let mut exit = None;
        self.vars[root.var] = match self.spread {
            Spread::Groups(_) => {
                self.item = self.number(local)?;
                self.number(of_group)?
            }
            Spread::Items => {
                self.item = self.m.int64(0);
                let own = self.number(global)?;
                let extent = self.m.int64(kernel.vars[root.var].extent as i64);
                let inside = self.m.b.s_less_than(self.m.bool, None, own, extent)?;
                let (run, end) = (self.m.b.id(), self.m.b.id());
                self.m.b.branch_conditional(inside, run, end, [])?;
                self.begin(run)?;
                exit = Some(end);
                own
            }
        };
        self.statements(&root.body)?;
        if let Some(end) = exit {
            self.m.b.branch(end)?;
            self.begin(end)?;
        }
        self.m.b.ret()?;
        Ok(())
    }

    /// Starts a block.
    pub fn begin(&mut self, block: Word) -> Result<(), Refused> {
        self.block = self.m.b.begin_block(Some(block))?;
        Ok(())
    }
}
