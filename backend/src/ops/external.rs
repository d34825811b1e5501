//! Calls that stay ATen's: which way they go, and their arguments.

use super::OpArg;
use crate::fusion::refusal::Refusal;
use crate::graph::Meta;
use crate::protocol::schema::{Schema, Type};
use ipex_runtime::DType;
use ipex_runtime::aten::dispatch::{Argument, Operator, Return};
use ipex_runtime::plan::{CallArg, Callable, Route};
use std::ffi::CString;
use std::sync::Arc;

/// The route of a node with this callable, which calls `target`; numbers that it needs join the call's arguments.
/// `schema` is absent for operators that only Python can call.
pub fn route(
    callable: Callable,
    target: &str,
    args: &[OpArg],
    schema: Option<&Schema>,
    outputs: &[Meta],
    call_args: &mut Vec<CallArg>,
) -> Route {
    if let Some(route) = out_function(target, args, outputs, call_args) {
        return route;
    }
    let operator = schema.and_then(|s| operator(s, args).ok());
    match operator {
        Some(operator) => Route::Dispatcher {
            operator: Arc::new(operator),
            callable,
        },
        None => Route::Python(callable),
    }
}

/// The matrix products that write into memory of ours.
fn out_function(
    target: &str,
    args: &[OpArg],
    outputs: &[Meta],
    call_args: &mut Vec<CallArg>,
) -> Option<Route> {
    let symbol = match target {
        "aten.mm.default" => "aoti_torch_cpu_mm_out",
        "aten.bmm.default" => "aoti_torch_cpu_bmm_out",
        "aten.addmm.default" => "aoti_torch_cpu_addmm_out",
        "aten.baddbmm.default" => "aoti_torch_cpu_baddbmm_out",
        "aten._int_mm.default" => "aoti_torch_cpu__int_mm_out",
        _ => return None,
    };
    let ours = |d: &DType| d.is_float() || target == "aten._int_mm.default";
    outputs.first()?.dtype().filter(ours)?;
    for arg in args {
        match arg {
            OpArg::Int(i) => call_args.push(CallArg::Float(*i as f64)),
            OpArg::Float(x) => call_args.push(CallArg::Float(*x)),
            OpArg::Tensor(_) => {}
            _ => return None,
        }
    }
    Some(Route::OutFunction { symbol })
}

/// The call for the dispatcher, which carries neither `Scalar`s nor generators.
pub fn operator(schema: &Schema, args: &[OpArg]) -> Result<Operator, Refusal> {
    let refuse = |what: &str| Refusal::Op(format!("{}: {what}", schema.name));
    if schema.arguments.len() != args.len() {
        return Err(refuse("arguments that are not the schema's"));
    }
    let arguments = schema.arguments.iter().zip(args);
    let arguments = arguments.map(|(ty, arg)| {
        argument(ty, arg).ok_or_else(|| refuse(&format!("{arg:?} cannot be passed as {ty:?}")))
    });
    let returns = schema.returns.iter().map(|ty| match ty {
        Type::Base(t) if t == "Tensor" => Ok(Return::Tensor),
        Type::List(t, _) if **t == Type::Base("Tensor".into()) => Ok(Return::TensorList),
        other => Err(refuse(&format!("a result of type {other:?}"))),
    });
    let name = |text: &str| CString::new(text).map_err(|_| refuse("a name with a zero"));
    Ok(Operator {
        arguments: arguments.collect::<Result<_, _>>()?,
        returns: returns.collect::<Result<_, _>>()?,
        name: name(&schema.name)?,
        overload: name(&schema.overload)?,
    })
}

fn argument(ty: &Type, arg: &OpArg) -> Option<Argument> {
    match (ty, arg) {
        (Type::Optional(_), OpArg::None) => Some(Argument::Word(0)),
        (Type::Optional(inner), _) => Some(Argument::Present(Box::new(argument(inner, arg)?))),
        (Type::List(inner, length), _) => list(inner, *length, arg).map(Argument::List),
        (Type::Base(name), _) => word(name, arg),
    }
}

/// The elements of a list.
fn list(of: &Type, length: Option<usize>, arg: &OpArg) -> Option<Vec<Argument>> {
    let each = |items: Vec<OpArg>| items.iter().map(|item| argument(of, item)).collect();
    match arg {
        OpArg::Tensors(items) => each(
            items
                .iter()
                .map(|t| t.map_or(OpArg::None, OpArg::Tensor))
                .collect(),
        ),
        OpArg::Ints(items) => each(items.iter().map(|&i| OpArg::Int(i)).collect()),
        OpArg::Floats(items) => each(items.iter().map(|&x| OpArg::Float(x)).collect()),
        OpArg::Bools(items) => each(items.iter().map(|&b| OpArg::Bool(b)).collect()),
        single => each(vec![single.clone(); length?]),
    }
}

/// A value of a type without parts.
fn word(ty: &str, arg: &OpArg) -> Option<Argument> {
    let code = |c: i32| Some(u64::from(c as u32));
    let bits = match (ty, arg) {
        ("Tensor", OpArg::Tensor(_)) => return Some(Argument::Tensor),
        ("str", OpArg::Str(text)) => return Some(Argument::Str(text.clone())),
        ("int" | "SymInt", OpArg::Int(i)) => Some(*i as u64),
        ("float", OpArg::Float(x)) => Some(x.to_bits()),
        ("float", OpArg::Int(i)) => Some((*i as f64).to_bits()),
        ("bool", OpArg::Bool(b)) => Some(u64::from(*b)),
        ("ScalarType", OpArg::ScalarType(t)) => code(*t),
        // A schema's default is PyTorch's own code.
        ("ScalarType" | "Layout" | "MemoryFormat", OpArg::Int(c)) => Some(*c as u64),
        ("Layout", OpArg::Layout(l)) => code(layout(*l)?),
        ("MemoryFormat", OpArg::MemoryFormat(m)) => code(memory_format(*m)?),
        // The index in the lower half, the type in the upper.
        ("Device", OpArg::Device(0, index)) => code(*index),
        _ => None,
    };
    bits.map(Argument::Word)
}

/// PyTorch's code of torch.export's layout.
fn layout(exported: i32) -> Option<i32> {
    Some(match exported {
        1 | 2 => exported,
        3..=5 => exported + 1,
        6 => 3,
        7 => 0,
        _ => return None,
    })
}

/// PyTorch's code of torch.export's memory format.
fn memory_format(exported: i32) -> Option<i32> {
    Some(match exported {
        1 => 0,
        2 | 3 => exported,
        4 => 1,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::ValueId;

    fn build(schema: &str, args: &[OpArg]) -> Result<Operator, Refusal> {
        operator(&Schema::parse(schema).unwrap(), args)
    }

    #[test]
    fn arguments_by_their_types() {
        let t = ValueId::from_u32(0);
        let made = build(
            "aten::x.y(Tensor a, Tensor?[] b, int[2] c, float? d, str e, Device? f, int? g) -> Tensor",
            &[
                OpArg::Tensor(t),
                OpArg::Tensors(vec![None, Some(t)]),
                OpArg::Int(-1),
                OpArg::Int(2),
                OpArg::Str("s".into()),
                OpArg::Device(0, -1),
                OpArg::None,
            ],
        );
        let present = |a| Argument::Present(Box::new(a));
        assert_eq!(
            made.unwrap().arguments,
            [
                Argument::Tensor,
                Argument::List(vec![Argument::Word(0), present(Argument::Tensor)]),
                Argument::List(vec![Argument::Word(u64::MAX); 2]),
                present(Argument::Word(2f64.to_bits())),
                Argument::Str("s".into()),
                present(Argument::Word(0xffff_ffff)),
                Argument::Word(0),
            ]
        );
    }

    #[test]
    fn what_the_dispatcher_does_not_carry_is_refused() {
        let refused = [
            ("aten::x(Scalar a) -> Tensor", OpArg::Int(1)),
            ("aten::x(Tensor a) -> Tensor", OpArg::Float(1.0)),
            ("aten::x(int a) -> int", OpArg::Int(1)),
            ("aten::x(float[] a) -> Tensor", OpArg::Bools(vec![true])),
        ];
        for (schema, arg) in refused {
            assert!(build(schema, &[arg]).is_err(), "{schema}");
        }
        assert!(build("aten::x(Scalar? a) -> Tensor", &[OpArg::None]).is_ok());
        assert!(build("aten::x(Scalar? a) -> Tensor", &[]).is_err());
    }
}
