"""FX graphs as protocol documents (docs/protocol.md), and a callable for each of their nodes."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch._export.serde.schema import ScalarType
from torch.fx import GraphModule, Node

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


def _meta(value: torch.Tensor, name: str) -> dict[str, Any]:
    if type(value) is not torch.Tensor and not isinstance(
        value, (torch._subclasses.FakeTensor, torch.nn.Parameter)
    ):
        raise Unsupported(f"{name} is a {type(value).__name__}")
    if value.layout is not torch.strided or value.dtype not in _DTYPES:
        raise Unsupported(f"{name} is {value.layout} of {value.dtype}")
    sizes, strides = tuple(value.shape), value.stride()
    if not all(type(n) is int for n in (*sizes, *strides)):
        raise Unsupported(f"{name} has symbolic sizes {sizes}")
    return {
        "dtype": int(_DTYPES[value.dtype]),
        "sizes": [{"as_int": n} for n in sizes],
        "strides": [{"as_int": n} for n in strides],
        "device": {"type": value.device.type, "index": value.device.index},
    }


def _argument(arg: Any, where: str) -> dict[str, Any]:
    if arg is None:
        return {"as_none": True}
    if isinstance(arg, Node):
        value = arg.meta.get("val")
        if isinstance(value, torch.Tensor):
            return {"as_tensor": {"name": arg.name}}
        if type(value) in (int, float, bool):
            return _argument(value, where)
        raise Unsupported(f"{where}: argument {arg.name} is {type(value).__name__}")
    for kind, name in ((bool, "as_bool"), (int, "as_int"), (str, "as_string")):
        if type(arg) is kind:
            return {name: arg}
    if type(arg) is float:
        finite = math.isfinite(arg)
        return {"as_float": arg if finite else str(arg)}
    if isinstance(arg, torch.dtype):
        return {"as_scalar_type": int(_DTYPES[arg])}
    if isinstance(arg, torch.layout):
        return {"as_layout": _LAYOUTS[arg]}
    if isinstance(arg, torch.memory_format):
        return {"as_memory_format": _MEMORY_FORMATS[arg]}
    if isinstance(arg, torch.device):
        return {"as_device": {"type": arg.type, "index": arg.index}}
    if isinstance(arg, (list, tuple)):
        return _list(arg, where)
    return {"as_opaque": type(arg).__name__}


def _list(args: Sequence[Any], where: str) -> dict[str, Any]:
    items = [_argument(a, where) for a in args]
    kinds = {kind for item in items for kind in item}
    if kinds <= {"as_int"}:
        return {"as_ints": [item["as_int"] for item in items]}
    if kinds == {"as_tensor"}:
        return {"as_tensors": [item["as_tensor"] for item in items]}
    if kinds == {"as_tensor", "as_none"}:
        return {"as_optional_tensors": items}
    if kinds == {"as_bool"}:
        return {"as_bools": [item["as_bool"] for item in items]}
    if kinds == {"as_float"}:
        return {"as_floats": [item["as_float"] for item in items]}
    return {"as_opaque": f"list of {', '.join(sorted(kinds))}"}


def _complete(node: Node) -> list[tuple[str, Any]]:
    """The arguments of a call, all of them, in the schema's order."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        raise Unsupported(f"{node.name}: call of {target}")
    given = list(node.args)
    full = []
    for n, arg in enumerate(target._schema.arguments):
        if n < len(given):
            value: Any = given[n]
        else:
            value = node.kwargs.get(
                arg.name, arg.default_value if arg.has_default_value() else None
            )
        full.append((arg.name, value))
    return full


def _callable(node: Node) -> Callable[..., Any]:
    """Runs a node on the tensors among its arguments, in the schema's order."""
    target, full = node.target, _complete(node)
    schema = target._schema  # type: ignore[union-attr]
    keyword = [a.kwarg_only for a in schema.arguments]

    def is_tensor(arg: Any) -> bool:
        return isinstance(arg, Node) and isinstance(arg.meta.get("val"), torch.Tensor)

    def run(*tensors: torch.Tensor) -> Any:
        left = iter(tensors)

        def fill(arg: Any) -> Any:
            if is_tensor(arg):
                return next(left)
            if isinstance(arg, (list, tuple)):
                return [fill(a) for a in arg]
            return arg.meta["val"] if isinstance(arg, Node) else arg

        values = [(name, fill(arg)) for name, arg in full]
        args = [v for (_, v), k in zip(values, keyword, strict=True) if not k]
        kwargs = {n: v for (n, v), k in zip(values, keyword, strict=True) if k}
        return target(*args, **kwargs)  # type: ignore[operator]

    return run


def _source(node: Node) -> str:
    lines = [line.strip() for line in (node.stack_trace or "").splitlines()]
    files = [line for line in lines if line.startswith("File ")]
    return files[-1] if files else ""


@dataclass
class Serialized:
    """What the compiler needs of a graph."""

    document: bytes
    callables: list[Callable[..., Any]]
    """One for each node."""
    constants: list[Any]
    """Attributes of the module, to be passed behind the arguments."""


def serialize(gm: GraphModule, kind: str) -> Serialized:
    """Writes a functionalised ATen graph with concrete sizes. Raises Unsupported."""
    constants: list[Any] = []
    inputs: list[Any] = []
    nodes: list[Any] = []
    outputs: list[Any] = []
    metas: dict[str, Any] = {}
    schemas: dict[str, str] = {}
    callables: list[Callable[..., Any]] = []
    parts: dict[Node, dict[int, str]] = {}
    for node in gm.graph.nodes:
        if node.op == "call_function" and node.target is operator.getitem:
            parts.setdefault(node.args[0], {})[node.args[1]] = node.name
    for node in gm.graph.nodes:
        value = node.meta.get("val")
        if node.op == "placeholder":
            if isinstance(value, torch.Tensor):
                metas[node.name] = _meta(value, node.name)
            inputs.append(_argument(node, node.name))
        elif node.op == "get_attr":
            constant = operator.attrgetter(str(node.target))(gm)
            if not isinstance(constant, torch.Tensor):
                raise Unsupported(f"{node.name} is a {type(constant).__name__}")
            node.meta.setdefault("val", constant)
            metas[node.name] = _meta(constant, node.name)
            inputs.append({"as_tensor": {"name": node.name}})
            constants.append(constant)
        elif node.op == "output":
            outputs = [_argument(a, "output") for a in node.args[0]]
        elif node.op == "call_function" and node.target is operator.getitem:
            continue
        elif node.op == "call_function":
            values = value if isinstance(value, (list, tuple)) else [value]
            single = isinstance(value, torch.Tensor)
            results: list[dict[str, Any]] = []
            for n, v in enumerate(values):
                if v is None:
                    results.append({"as_none": True})
                    continue
                if not isinstance(v, torch.Tensor):
                    raise Unsupported(f"{node.name}: result of type {type(v).__name__}")
                name = (
                    node.name if single else parts.get(node, {}).get(n, f"{node.name}_{n}_unused")
                )
                metas[name] = _meta(v, name)
                results.append({"as_tensor": {"name": name}})
            full = _complete(node)
            schema = node.target._schema
            if schema.name.startswith("aten::"):
                # Other operators may have kernels in Python, which the dispatcher would only wrap.
                schemas[f"torch.ops.{node.target}"] = str(schema)
            nodes.append(
                {
                    "target": f"torch.ops.{node.target}",
                    "inputs": [{"name": n, "arg": _argument(a, node.name)} for n, a in full],
                    "outputs": results,
                    "metadata": {"stack_trace": _source(node)},
                }
            )
            callables.append(_callable(node))
        else:
            raise Unsupported(f"{node.name}: node of kind {node.op}")
    graph = {"inputs": inputs, "outputs": outputs, "nodes": nodes, "tensor_values": metas}
    document = {
        "protocol": 1,
        "producer": {"torch": torch.__version__},
        "kind": kind,
        "graph_module": {"graph": graph},
        "schemas": schemas,
    }
    return Serialized(json.dumps(document).encode(), callables, constants)
