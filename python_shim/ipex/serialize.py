"""FX graphs as protocol documents (docs/protocol.md), and a callable for each of their nodes."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import SymBool, SymFloat, SymInt
from torch._export.serde.schema import ScalarType
from torch.fx import GraphModule, Node

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


_SYMBOLIC: dict[type, str] = {SymInt: "int", SymFloat: "float", SymBool: "bool"}


def _symbolic(value: Any) -> dict[str, Any]:
    """A symbolic number as its expression, with the value that it was traced with."""
    expr: dict[str, Any] = {"expr_str": str(value.node.expr)}
    if value.node.has_hint():
        expr["hint"] = {f"as_{_SYMBOLIC[type(value)]}": value.node.hint}
    return {"as_expr": expr}


def _size(n: int | SymInt) -> dict[str, Any]:
    return {"as_int": n} if type(n) is int else _symbolic(n)


def _meta(value: torch.Tensor, name: str) -> dict[str, Any]:
    if type(value) is not torch.Tensor and not isinstance(
        value, (torch._subclasses.FakeTensor, torch.nn.Parameter)
    ):
        raise Unsupported(f"{name} is a {type(value).__name__}")
    if value.layout is not torch.strided or value.dtype not in _DTYPES:
        raise Unsupported(f"{name} is {value.layout} of {value.dtype}")
    return {
        "dtype": int(_DTYPES[value.dtype]),
        "sizes": [_size(n) for n in value.shape],
        "strides": [_size(n) for n in value.stride()],
        "device": {"type": value.device.type, "index": value.device.index},
    }


def _argument(arg: Any, where: str) -> dict[str, Any]:
    if arg is None:
        return {"as_none": True}
    if isinstance(arg, Node):
        value = arg.meta.get("val")
        if isinstance(value, torch.Tensor):
            return {"as_tensor": {"name": arg.name}}
        if isinstance(value, calls.SYMBOLIC):
            return {f"as_sym_{_SYMBOLIC[type(value)]}": {"as_name": arg.name}}
        if type(value) in (int, float, bool):
            return _argument(value, where)
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
    items = [_argument(a, where) for a in args]
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


def _call(node: Node) -> tuple[str, list[dict[str, Any]]]:
    """A call's target and arguments.

    An argument that the protocol cannot carry is opaque; only the node's callable knows it. If
    there are tensors or symbols in it, they are listed alone, under a target that no rule knows.
    """
    full = calls.complete(node)
    inputs = []
    for name, arg in full:
        try:
            carried = _argument(arg, node.name)
        except Unsupported as reason:
            if any(True for _ in calls.nodes(arg)):
                parts = [(n, part) for n, a in full for part in calls.nodes(a)]
                inputs = [{"name": n, "arg": _argument(part, node.name)} for n, part in parts]
                return f"{node.target} (opaque)", inputs
            carried = {"as_opaque": str(reason)}
        inputs.append({"name": name, "arg": carried})
    return f"torch.ops.{node.target}", inputs


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


def serialize(gm: GraphModule, kind: str, frozen: Sequence[int] = ()) -> Serialized:
    """Writes a functionalised ATen graph; `frozen` are the arguments that never change. Raises
    Unsupported."""
    return _Writer(gm).write(kind, frozen)


def _products() -> str:
    """The arithmetic of f32 products that the person asked PyTorch for."""
    matmul = getattr(torch.backends.mkldnn, "matmul", None)
    precision = getattr(matmul, "fp32_precision", None)
    if precision is None:
        precision = {"medium": "bf16"}.get(torch.get_float32_matmul_precision())
    return "medium" if precision == "bf16" else "full"


class _Writer:
    def __init__(self, gm: GraphModule) -> None:
        self.gm = gm
        self.constants: list[Any] = []
        self.objects: dict[Node, Any] = {}
        """Attributes of the module that are no tensors: the graphs of higher-order operators."""
        self.callables: list[Callable[..., Any]] = []
        self.schemas: dict[str, str] = {}
        self.graph: dict[str, Any] = {
            "inputs": [],
            "outputs": [],
            "nodes": [],
            "tensor_values": {},
            "sym_int_values": {},
            "sym_float_values": {},
            "sym_bool_values": {},
        }
        self.parts: dict[Node, dict[int, str]] = {}
        """Names that `getitem` gives to the results of a node, by position."""
        for node in gm.graph.nodes:
            if node.op == "call_function" and node.target is operator.getitem:
                self.parts.setdefault(node.args[0], {})[node.args[1]] = node.name

    def write(self, kind: str, frozen: Sequence[int]) -> Serialized:
        for node in self.gm.graph.nodes:
            self._node(node)
        document = {
            "protocol": 2,
            "producer": {"torch": torch.__version__},
            "options": {"products": _products(), "frozen": list(frozen)},
            "kind": kind,
            "graph_module": {"graph": self.graph},
            "schemas": self.schemas,
        }
        return Serialized(json.dumps(document).encode(), self.callables, self.constants)

    def _node(self, node: Node) -> None:
        value: Any = node.meta.get("val")
        if isinstance(value, calls.SYMBOLIC):
            self.graph[f"sym_{_SYMBOLIC[type(value)]}_values"][node.name] = _symbolic(value)
        if node.op == "placeholder":
            if isinstance(value, torch.Tensor):
                self.graph["tensor_values"][node.name] = _meta(value, node.name)
            self.graph["inputs"].append(_argument(node, node.name))
        elif node.op == "get_attr":
            self._attribute(node)
        elif node.op == "output":
            self.graph["outputs"] = [_argument(a, "output") for a in node.args[0]]  # type: ignore[union-attr]
        elif node.op == "call_function":
            # The values of symbolic numbers are stated by their expressions.
            if node.target is not operator.getitem and not isinstance(value, calls.SYMBOLIC):
                self._call(node)
        else:
            raise Unsupported(f"{node.name}: node of kind {node.op}")

    def _attribute(self, node: Node) -> None:
        constant = operator.attrgetter(str(node.target))(self.gm)
        if not isinstance(constant, torch.Tensor):
            self.objects[node] = constant
            return
        node.meta.setdefault("val", constant)
        self.graph["tensor_values"][node.name] = _meta(constant, node.name)
        self.graph["inputs"].append({"as_tensor": {"name": node.name}})
        self.constants.append(constant)

    def _call(self, node: Node) -> None:
        value = node.meta.get("val")
        if node.target is torch.ops.higher_order.with_effects:
            # Tokens are tensors when traced and None when run.
            raise Unsupported(f"{node.name}: {node.args[1]} has an effect that is ordered")
        if value is None and node in self.parts:
            raise Unsupported(f"{node.name}: {node.target} has results of unknown types")
        values = value if isinstance(value, (list, tuple)) else [value]
        results: list[dict[str, Any]] = []
        for n, v in enumerate(values):
            if v is None:
                results.append({"as_none": True})
                continue
            if not isinstance(v, torch.Tensor):
                raise Unsupported(f"{node.name}: result of type {type(v).__name__}")
            unused = f"{node.name}_{n}_unused"
            name = node.name if v is value else self.parts.get(node, {}).get(n, unused)
            self.graph["tensor_values"][name] = _meta(v, name)
            results.append({"as_tensor": {"name": name}})
        target, inputs = _call(node)
        schema = getattr(node.target, "_schema", None)
        # Other operators may have kernels in Python, which the dispatcher would only wrap.
        if schema is not None and schema.name.startswith("aten::"):
            self.schemas[f"torch.ops.{node.target}"] = str(schema)
        self.graph["nodes"].append(
            {
                "target": target,
                "inputs": inputs,
                "outputs": results,
                "metadata": {"stack_trace": _source(node)},
            }
        )
        self.callables.append(calls.function(node, self.objects))
