"""Tensors and arguments as the protocol states them (docs/protocol.md)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import SymBool, SymFloat, SymInt
from torch._export.serde.schema import ScalarType
from torch.fx import Node

from ipex import calls

_DTYPES = {
    torch.uint8: ScalarType.BYTE,
    torch.int8: ScalarType.CHAR,
    torch.int16: ScalarType.SHORT,
    torch.int32: ScalarType.INT,
    torch.int64: ScalarType.LONG,
    torch.float16: ScalarType.HALF,
    torch.float32: ScalarType.FLOAT,
    torch.float64: ScalarType.DOUBLE,
    torch.complex64: ScalarType.COMPLEXFLOAT,
    torch.complex128: ScalarType.COMPLEXDOUBLE,
    torch.bool: ScalarType.BOOL,
    torch.bfloat16: ScalarType.BFLOAT16,
}
_LAYOUTS = {torch.sparse_coo: 1, torch.sparse_csr: 2, torch.strided: 7}
_MEMORY_FORMATS = {
    torch.contiguous_format: 1,
    torch.channels_last: 2,
    torch.channels_last_3d: 3,
    torch.preserve_format: 4,
}


class Unsupported(Exception):
    """A graph that the protocol cannot carry; the text says what and where."""


KINDS: dict[type, str] = {SymInt: "int", SymFloat: "float", SymBool: "bool"}


def symbolic(value: Any) -> dict[str, Any]:
    """A symbolic number as its expression, with the value that it was traced with."""
    expr: dict[str, Any] = {"expr_str": str(value.node.expr)}
    if value.node.has_hint():
        expr["hint"] = {f"as_{KINDS[type(value)]}": value.node.hint}
    return {"as_expr": expr}


def meta(value: torch.Tensor, name: str, *, traced: bool = False) -> dict[str, Any]:
    """Of a tensor; with the sizes that it was traced with, if `traced`. Raises Unsupported."""
    if type(value) is not torch.Tensor and not isinstance(
        value, (torch._subclasses.FakeTensor, torch.nn.Parameter)
    ):
        raise Unsupported(f"{name} is a {type(value).__name__}")
    if value.layout is not torch.strided or value.dtype not in _DTYPES:
        raise Unsupported(f"{name} is {value.layout} of {value.dtype}")
    if value.is_neg():
        raise Unsupported(f"{name} is the negative of what is in its memory")

    def size(n: int | SymInt) -> dict[str, Any]:
        if traced and isinstance(n, SymInt) and n.node.has_hint():
            return {"as_int": int(n.node.hint)}  # type: ignore[arg-type]
        return {"as_int": n} if type(n) is int else symbolic(n)

    return {
        "dtype": int(_DTYPES[value.dtype]),
        "sizes": [size(n) for n in value.shape],
        "strides": [size(n) for n in value.stride()],
        "device": {"type": value.device.type, "index": value.device.index},
    }


def argument(arg: Any, where: str) -> dict[str, Any]:
    """Of a call, or a result of the graph. Raises Unsupported."""
    if arg is None:
        return {"as_none": True}
    if isinstance(arg, Node):
        value = arg.meta.get("val")
        if isinstance(value, torch.Tensor):
            return {"as_tensor": {"name": arg.name}}
        if isinstance(value, calls.SYMBOLIC):
            return {f"as_sym_{KINDS[type(value)]}": {"as_name": arg.name}}
        if type(value) in (int, float, bool):
            return argument(value, where)
        raise Unsupported(f"{where}: argument {arg.name} is {type(value).__name__}")
    for kind, name in ((bool, "as_bool"), (int, "as_int"), (str, "as_string")):
        if type(arg) is kind:
            return {name: arg}
    if type(arg) is float:
        finite = math.isfinite(arg)
        return {"as_float": arg if finite else str(arg)}
    if isinstance(arg, torch.dtype) and arg in _DTYPES:
        return {"as_scalar_type": int(_DTYPES[arg])}
    if isinstance(arg, torch.layout) and arg in _LAYOUTS:
        return {"as_layout": _LAYOUTS[arg]}
    if isinstance(arg, torch.memory_format):
        return {"as_memory_format": _MEMORY_FORMATS[arg]}
    if isinstance(arg, torch.device):
        return {"as_device": {"type": arg.type, "index": arg.index}}
    if isinstance(arg, (list, tuple)):
        return _list(arg, where)
    raise Unsupported(f"{where}: argument of type {type(arg).__name__}")


def _list(args: Sequence[Any], where: str) -> dict[str, Any]:
    items = [argument(a, where) for a in args]
    kinds = {kind for item in items for kind in item}
    if kinds <= {"as_int"}:
        return {"as_ints": [item["as_int"] for item in items]}
    if kinds <= {"as_int", "as_sym_int"}:
        return {"as_sym_ints": [item.get("as_sym_int", item) for item in items]}
    if kinds == {"as_tensor"}:
        return {"as_tensors": [item["as_tensor"] for item in items]}
    if kinds == {"as_tensor", "as_none"}:
        return {"as_optional_tensors": items}
    if kinds == {"as_bool"}:
        return {"as_bools": [item["as_bool"] for item in items]}
    if kinds == {"as_float"}:
        return {"as_floats": [item["as_float"] for item in items]}
    raise Unsupported(f"{where}: a list of {', '.join(sorted(kinds))}")
