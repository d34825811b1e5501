//! The state of one function's generation, and its statements.

use super::CompileError;
use crate::kernel::{self, Const, Inst, Kernel, Stmt, Type, VarId};
use cranelift_codegen::ir::{
    self, AbiParam, InstBuilder, MemFlagsData, StackSlotData, StackSlotKind, Value, types,
};
use cranelift_codegen::isa::TargetIsa;
use cranelift_entity::{EntitySet, SecondaryMap};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

/// How the statements around the current place run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lanes {
    /// Elements in one vector; 1: scalar code.
    pub count: u32,
    /// Vectors side by side.
    pub copies: usize,
    /// The variable that runs over lanes.
    pub var: Option<VarId>,
}

/// Scalar code.
pub const SCALAR: Lanes = Lanes {
    count: 1,
    copies: 1,
    var: None,
};

/// An SSA value of the kernel in CLIF.
#[derive(Clone, Debug, Default)]
pub struct Def {
    /// One value for each copy, or a single one for all.
    pub values: Vec<Value>,
    /// Whether they are vectors.
    pub vector: bool,
}

/// State of the generation.
pub struct Gen<'a, 'b> {
    pub b: FunctionBuilder<'b>,
    pub kernel: &'a Kernel,
    pub lanes: Lanes,
    pub defs: SecondaryMap<kernel::ValueId, Def>,
    /// Current value of each loop variable (the first lane's of the first copy).
    pub vars: SecondaryMap<VarId, Option<Value>>,
    pub params: Vec<Value>,
    pub scratch: Vec<Value>,
    /// Constants of the kernel.
    pub consts: SecondaryMap<kernel::ValueId, Option<Const>>,
    /// Values that were defined in front of their loop.
    pub hoisted: EntitySet<kernel::ValueId>,
    /// What scans have combined in the iterations before, one value for each copy.
    pub running: SecondaryMap<kernel::ValueId, Vec<Value>>,
}

/// Generates `fn(args, begin, end)`.
pub fn build(
    func: &mut ir::Function,
    kernel: &Kernel,
    isa: &dyn TargetIsa,
) -> Result<(), CompileError> {
    let pointer = isa.pointer_type();
    func.signature.call_conv = isa.default_call_conv();
    for ty in [pointer, types::I64, types::I64] {
        func.signature.params.push(AbiParam::new(ty));
    }
    let mut context = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(func, &mut context);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    let args = b.block_params(entry).to_vec();
    let params = (0..kernel.params.len())
        .map(|k| {
            b.ins()
                .load(pointer, MemFlagsData::trusted(), args[0], 8 * k as i32)
        })
        .collect();
    let slot = |b: &mut FunctionBuilder, bytes: u64| {
        let data = StackSlotData::new(StackSlotKind::ExplicitSlot, bytes as u32, 6);
        let slot = b.create_sized_stack_slot(data);
        b.ins().stack_addr(pointer, slot, 0)
    };
    let scratch = kernel
        .scratch
        .values()
        .map(|s| slot(&mut b, s.len * 8))
        .collect();
    let mut generator = Gen {
        b,
        kernel,
        lanes: SCALAR,
        defs: SecondaryMap::new(),
        vars: SecondaryMap::new(),
        params,
        scratch,
        consts: SecondaryMap::new(),
        hoisted: EntitySet::new(),
        running: SecondaryMap::new(),
    };
    note_constants(&kernel.root.body, &mut generator.consts);
    generator.loop_over(&kernel.root, args[1], args[2], None)?;
    generator.b.ins().return_(&[]);
    generator.b.seal_all_blocks();
    generator.b.finalize(isa.frontend_config());
    Ok(())
}

fn note_constants(body: &[Stmt], consts: &mut SecondaryMap<kernel::ValueId, Option<Const>>) {
    for stmt in body {
        match stmt {
            Stmt::Let {
                value,
                inst: Inst::Const(c),
            } => consts[*value] = Some(*c),
            Stmt::Loop(l) => note_constants(&l.body, consts),
            _ => {}
        }
    }
}

impl Gen<'_, '_> {
    /// A shift's count, if it is a constant within the width.
    pub fn shift_count(&self, v: kernel::ValueId) -> Option<i64> {
        match self.consts[v]? {
            Const::I32(n) if (0..32).contains(&n) => Some(n.into()),
            Const::I64(n) if (0..64).contains(&n) => Some(n),
            _ => None,
        }
    }

    /// The CLIF type of a scalar.
    pub fn scalar_type(ty: Type) -> ir::Type {
        match ty {
            Type::F32 => types::F32,
            Type::F64 => types::F64,
            Type::I32 => types::I32,
            Type::I64 => types::I64,
            Type::Bool => types::I8,
        }
    }

    /// The CLIF type in the current lanes; truth values are masks of the lanes' width.
    pub fn lane_type(&self, ty: Type) -> ir::Type {
        match (self.lanes.count, ty) {
            (1, _) => Self::scalar_type(ty),
            (4, Type::F32) => types::F32X4,
            (4, _) => types::I32X4,
            (_, Type::F64) => types::F64X2,
            _ => types::I64X2,
        }
    }

    /// A constant in the current lanes.
    pub fn constant(&mut self, c: Const) -> Value {
        let (scalar, ty) = match c {
            Const::F32(bits) => (self.b.ins().f32const(f32::from_bits(bits)), Type::F32),
            Const::F64(bits) => (self.b.ins().f64const(f64::from_bits(bits)), Type::F64),
            Const::I32(i) => (
                self.b.ins().iconst(types::I32, i64::from(i as u32)),
                Type::I32,
            ),
            Const::I64(i) => (self.b.ins().iconst(types::I64, i), Type::I64),
            Const::Bool(v) => (self.b.ins().iconst(types::I8, i64::from(v)), Type::Bool),
        };
        self.splat(scalar, ty)
    }

    /// A scalar in every lane.
    pub fn splat(&mut self, scalar: Value, ty: Type) -> Value {
        if self.lanes.count == 1 {
            return scalar;
        }
        let vector = self.lane_type(ty);
        let scalar = if ty == Type::Bool {
            let wide = self.b.ins().uextend(vector.lane_type(), scalar);
            self.b.ins().ineg(wide)
        } else {
            scalar
        };
        self.b.ins().splat(vector, scalar)
    }

    /// The value of `v` in a copy, in the current lanes.
    pub fn get(&mut self, v: kernel::ValueId, copy: usize) -> Value {
        let def = &self.defs[v];
        let value = if def.values.len() == 1 {
            def.values[0]
        } else {
            def.values[copy]
        };
        if def.vector || self.lanes.count == 1 {
            value
        } else {
            self.splat(value, self.kernel.values[v])
        }
    }

    /// Runs statements for all copies.
    pub fn statements(&mut self, body: &[Stmt]) -> Result<(), CompileError> {
        for stmt in body {
            match stmt {
                Stmt::Let { value, .. } if self.hoisted.contains(*value) => {}
                Stmt::Let { value, inst } => self.define(*value, inst)?,
                Stmt::Store { mem, index, value } => {
                    for copy in 0..self.lanes.copies {
                        let v = self.get(*value, copy);
                        self.store(*mem, index, copy, v);
                    }
                }
                Stmt::Loop(l) => {
                    let extent = self.kernel.vars[l.var].extent as i64;
                    let begin = self.b.ins().iconst(types::I64, 0);
                    let end = self.b.ins().iconst(types::I64, extent);
                    self.loop_over(l, begin, end, Some(extent))?;
                }
            }
        }
        Ok(())
    }

    /// Defines a value in every copy.
    pub fn define(&mut self, value: kernel::ValueId, inst: &Inst) -> Result<(), CompileError> {
        let ty = self.kernel.values[value];
        let mut values = Vec::with_capacity(self.lanes.copies);
        // Constants are the same in every copy.
        let copies = if matches!(inst, Inst::Const(_)) {
            1
        } else {
            self.lanes.copies
        };
        for copy in 0..copies {
            values.push(match inst {
                Inst::Const(c) => self.constant(*c),
                Inst::Load { mem, index } => self.load(*mem, index, copy),
                Inst::Scan { op, arg } => {
                    let (before, x) = (self.running[value][copy], self.get(*arg, copy));
                    self.combine(*op, ty, before, x)?
                }
                _ => self.compute(ty, inst, copy)?,
            });
        }
        self.defs[value] = Def {
            values,
            vector: self.lanes.count > 1,
        };
        Ok(())
    }
}
