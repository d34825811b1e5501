"""FX graphs as protocol documents (docs/protocol.md), and a callable for each of their nodes."""

from __future__ import annotations

import contextlib
import functools
import json
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.fx import GraphModule, Node
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from ipex import calls
from ipex.arguments import KINDS, Unsupported, argument, meta, symbolic

ITEM = torch.ops.aten._local_scalar_dense.default
UNIQUE = (torch.ops.aten._unique.default, torch.ops.aten._unique2.default)


def _call(node: Node | calls.Call) -> tuple[str, list[dict[str, Any]]]:
    """A call's target and arguments.

    An argument that the protocol cannot carry is opaque; only the node's callable knows it. If
    there are tensors or symbols in it, they are listed alone, under a target that no rule knows.
    """
    full = calls.complete(node)
    inputs = []
    for name, arg in full:
        try:
            carried = argument(arg, node.name)
        except Unsupported as reason:
            if any(part.op != "get_attr" for part in calls.unknown(arg)):
                raise
            if any(True for _ in calls.nodes(arg)):
                parts = [(n, part) for n, a in full for part in calls.nodes(a)]
                inputs = [{"name": n, "arg": argument(part, node.name)} for n, part in parts]
                return f"{node.target} (opaque)", inputs
            carried = {"as_opaque": str(reason)}
        inputs.append({"name": name, "arg": carried})
    return f"torch.ops.{node.target}", inputs


def _source(node: Node | calls.Call) -> str:
    lines = [line.strip() for line in (node.stack_trace or "").splitlines()]
    files = [line for line in lines if line.startswith("File ")]
    return files[-1] if files else ""


def _leaves(node: Node, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Node]]:
    """The parts of a node's nested result that are read, and where in it they are."""
    for user in node.users:
        if user.target is operator.getitem:
            here = (*path, user.args[1])
            if isinstance(user.meta.get("val"), (list, tuple)):
                yield from _leaves(user, here)
            else:
                yield here, user


def _again(node: Node) -> Any:
    """The result of a random operator that draws a second time, which tracing does not note."""
    target: Any = node.args[1]
    args, kwargs = torch.fx.node.map_arg((node.args[2:], node.kwargs), lambda n: n.meta.get("val"))
    mode = torch._guards.detect_fake_mode(args) or contextlib.nullcontext()
    with mode:
        node.meta["val"] = target(*args, **kwargs)
    return node.meta["val"]


def _tokens(node: Node) -> Iterator[Node]:
    """The tokens that a node takes and gives."""
    if node.target is torch.ops.higher_order.with_effects:
        yield node.args[0]  # type: ignore[misc]
        yield from (user for user in node.users if user.args[1] == 0)


@dataclass
class Serialized:
    """What the compiler needs of a graph."""

    document: bytes
    callables: list[Callable[..., Any]]
    """One for each node."""
    constants: list[Any]
    """Attributes of the module, to be passed behind the arguments."""


def serialize(
    gm: GraphModule,
    kind: str,
    frozen: Sequence[int] = (),
    autotune: bool = False,
    gpu: int | None = None,
    xpu: int | None = None,
    round_each: bool = False,
) -> Serialized:
    """Writes a functionalised ATen graph; `frozen` are the arguments that never change, `autotune`
    lets the first call choose between implementations, `gpu` is the number of the GPU to run on,
    `xpu` that of PyTorch's device that arguments are on, with `round_each` every operator rounds to
    bf16 and f16. Raises Unsupported."""
    options = {
        "products": _products(),
        "frozen": list(frozen),
        "autotune": autotune,
        "without_onednn": not torch.backends.mkldnn.enabled,
        "gpu": gpu,
        "xpu": xpu,
        "emulate_precision_casts": round_each,
        "nibble_columns": _nibble_columns() if _has_nibbles(gm) else None,
    }
    return _Writer(gm, xpu).write(kind, options)


def _products() -> str:
    """The arithmetic of f32 products that the person asked PyTorch for."""
    matmul = getattr(torch.backends.mkldnn, "matmul", None)
    precision = getattr(matmul, "fp32_precision", None)
    if precision is None:
        named = {"medium": "bf16", "high": "tf32"}
        precision = named.get(torch.get_float32_matmul_precision())
    return {"bf16": "medium", "tf32": "high"}.get(precision or "", "full")


def _has_nibbles(gm: GraphModule) -> bool:
    """Whether a graph has weights of four bits."""
    target = getattr(torch.ops.aten, "_weight_int4pack_mm_for_cpu", None)
    return target is not None and any(n.target is target.default for n in gm.graph.nodes)


@functools.cache
def _nibble_columns() -> int | None:
    """Columns of the blocks that PyTorch packs weights of four bits into, which depends on its
    instruction set; None if it is none of the layouts that are read."""
    with unset_fake_temporarily():
        weight = torch.arange(128, dtype=torch.int32)[:, None] * 7 + torch.arange(6) * 5
        weight = ((weight ^ (weight >> 3)) & 15).to(torch.int32)
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(weight, 1).flatten()
        for columns in (64, 32):
            blocks = weight.view(-1, columns, 6).transpose(1, 2)
            low, high = blocks.chunk(2, dim=-1)
            if torch.equal(packed, (low | high << 4).to(torch.uint8).flatten()):
                return columns
    return None


class _Writer:
    def __init__(self, gm: GraphModule, xpu: int | None) -> None:
        self.gm = gm
        self.xpu = xpu
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
        self.tokens: set[Node] = set()
        """What orders effects. Tokens are tensors when traced and None when run."""
        for node in gm.graph.nodes:
            if node.op == "call_function" and node.target is operator.getitem:
                self.parts.setdefault(node.args[0], {})[node.args[1]] = node.name
            self.tokens.update(_tokens(node))

    def write(self, kind: str, options: dict[str, Any]) -> Serialized:
        for node in self.gm.graph.nodes:
            self._node(node)
        document = {
            "protocol": 2,
            "producer": {"torch": torch.__version__},
            "options": options,
            "kind": kind,
            "graph_module": {"graph": self.graph},
            "schemas": self.schemas,
        }
        return Serialized(json.dumps(document).encode(), self.callables, self.constants)

    def _node(self, node: Node) -> None:
        value: Any = node.meta.get("val")
        if isinstance(value, calls.SYMBOLIC):
            self.graph[f"sym_{KINDS[type(value)]}_values"][node.name] = symbolic(value)
        if node in self.tokens:
            if node.op == "placeholder":
                self.graph["inputs"].append({"as_none": True})
        elif node.op == "placeholder":
            if isinstance(value, torch.Tensor):
                self.graph["tensor_values"][node.name] = meta(value, node.name)
            self.graph["inputs"].append(argument(node, node.name))
        elif node.op == "get_attr":
            self._attribute(node)
        elif node.op == "output":
            self.graph["outputs"] = [
                {"as_none": True} if a in self.tokens else argument(a, "output")
                for a in node.args[0]  # type: ignore[union-attr]
            ]
        elif node.op == "call_function":
            if node.target is ITEM and free_unbacked_symbols(value):
                self._item(node, value)
            # The values of other symbolic numbers are stated by their expressions.
            elif node.target is not operator.getitem and not isinstance(value, calls.SYMBOLIC):
                self._call(node)
        else:
            raise Unsupported(f"{node.name}: node of kind {node.op}")

    def _attribute(self, node: Node) -> None:
        constant = operator.attrgetter(str(node.target))(self.gm)
        if not isinstance(constant, torch.Tensor):
            self.objects[node] = constant
            return
        node.meta.setdefault("val", constant)
        if self.xpu is not None and constant.device.type == "cpu":
            # It goes there once, not in every call.
            with unset_fake_temporarily():
                constant = constant.to(torch.device("xpu", self.xpu))
        self.graph["tensor_values"][node.name] = meta(constant, node.name)
        self.graph["inputs"].append({"as_tensor": {"name": node.name}})
        self.constants.append(constant)

    def _item(self, node: Node, value: Any) -> None:
        self._add(node, [{f"as_sym_{KINDS[type(value)]}": {"as_name": node.name}}])

    def _effect(self, node: Node) -> None:
        """The operator alone: calls of the compiler's keep their order anyway."""
        source = node.stack_trace
        call = calls.Call(node.args[1], node.args[2:], node.kwargs, node.name, source)
        self._add(call, self._results(node, node.meta["val"])[1:])

    def _nested(self, node: Node) -> None:
        """A node that says nothing of its results: the `getitem` nodes behind it do."""
        leaves = list(_leaves(node))
        results = []
        for _, leaf in leaves:
            value = leaf.meta.get("val")
            if not isinstance(value, torch.Tensor):
                raise Unsupported(f"{node.name}: {node.target} has results of unknown types")
            # The states of generators have a size that is symbolic without need.
            self.graph["tensor_values"][leaf.name] = meta(value, leaf.name, traced=True)
            results.append({"as_tensor": {"name": leaf.name}})
        run, paths = calls.function(node, self.objects), [path for path, _ in leaves]

        def parts(tensors: tuple[torch.Tensor, ...], numbers: tuple[Any, ...]) -> Any:
            whole = run(tensors, numbers)
            return tuple(functools.reduce(operator.getitem, path, whole) for path in paths)

        self._add(node, results, parts)

    def _call(self, node: Node) -> None:
        value = node.meta.get("val")
        if node.target is torch.ops.higher_order.with_effects:
            self._effect(node)
        elif value is None and node in self.parts:
            self._nested(node)
        elif node.target is torch.ops.higher_order.run_with_rng_state:
            self._add(node, self._results(node, _again(node)))
        else:
            self._add(node, self._results(node, value))

    def _results(self, node: Node, value: Any) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = []
        for n, v in enumerate(value if isinstance(value, (list, tuple)) else [value]):
            unread = n not in self.parts.get(node, {}) and v is not value
            if v is None or unread and isinstance(v, (int, *calls.SYMBOLIC)):
                results.append({"as_none": True})
                continue
            if not isinstance(v, torch.Tensor):
                raise Unsupported(f"{node.name}: result of type {type(v).__name__}")
            if n == 0 and node.target in UNIQUE and not free_unbacked_symbols(v):
                raise Unsupported(f"{node.name}: PyTorch has guessed how many values are distinct")
            unused = f"{node.name}_{n}_unused"
            name = node.name if v is value else self.parts.get(node, {}).get(n, unused)
            self.graph["tensor_values"][name] = meta(v, name)
            results.append({"as_tensor": {"name": name}})
        return results

    def _add(
        self,
        node: Node | calls.Call,
        outputs: list[dict[str, Any]],
        run: Callable[..., Any] | None = None,
    ) -> None:
        target, inputs = _call(node)
        schema = getattr(node.target, "_schema", None)
        # Other operators may have kernels in Python, which the dispatcher would only wrap.
        if schema is not None and schema.name.startswith("aten::"):
            self.schemas[f"torch.ops.{node.target}"] = str(schema)
        self.graph["nodes"].append(
            {
                "target": target,
                "inputs": inputs,
                "outputs": outputs,
                "metadata": {"stack_trace": _source(node)},
            }
        )
        self.callables.append(run or calls.function(node, self.objects))
