"""Calls of a graph: their complete arguments, and functions that run them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import SymBool, SymFloat, SymInt
from torch.fx import Node

SYMBOLIC = (SymInt, SymFloat, SymBool)


@dataclass
class Call:
    """What a node of a graph calls, where it is not the node's own target."""

    target: Any
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    name: str
    stack_trace: str | None


def complete(node: Node | Call) -> list[tuple[str, Any]]:
    """The arguments of a call: all that an operator's schema has, in its order, else the given."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return [(f"arg{n}", a) for n, a in enumerate(node.args)] + list(node.kwargs.items())
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


def nodes(arg: Any) -> Iterator[Node]:
    """The tensors and symbolic numbers within an argument."""
    if isinstance(arg, Node) and isinstance(arg.meta.get("val"), (torch.Tensor, *SYMBOLIC)):
        yield arg
    elif isinstance(arg, (list, tuple)):
        for a in arg:
            yield from nodes(a)
    elif isinstance(arg, dict):
        for a in arg.values():
            yield from nodes(a)


def unknown(arg: Any) -> list[Node]:
    """The nodes within an argument of which tracing has not noted what they give."""
    found: list[Node] = []
    torch.fx.node.map_arg(arg, lambda n: found.append(n) if n.meta.get("val") is None else None)
    return found


def function(node: Node | Call, objects: dict[Node, Any]) -> Callable[..., Any]:
    """Runs a node on its tensors and the values of its symbolic numbers, in the schema's order."""
    target, full = node.target, complete(node)
    if isinstance(target, torch._ops.OpOverload):
        keyword = [a.kwarg_only for a in target._schema.arguments]
    else:
        keyword = [name in node.kwargs for name, _ in full]

    def run(tensors: tuple[torch.Tensor, ...], numbers: tuple[Any, ...]) -> Any:
        left, symbols = iter(tensors), iter(numbers)

        def fill(arg: Any) -> Any:
            if isinstance(arg, Node):
                value = arg.meta.get("val")
                if isinstance(value, torch.Tensor):
                    return next(left)
                if isinstance(value, SYMBOLIC):
                    return next(symbols)
                return objects.get(arg, value)
            if isinstance(arg, tuple):
                return tuple(fill(a) for a in arg)
            if isinstance(arg, list):
                return [fill(a) for a in arg]
            if isinstance(arg, dict):
                return {k: fill(a) for k, a in arg.items()}
            return arg

        values = [(name, fill(arg)) for name, arg in full]
        args = [v for (_, v), k in zip(values, keyword, strict=True) if not k]
        kwargs = {n: v for (n, v), k in zip(values, keyword, strict=True) if k}
        return target(*args, **kwargs)  # type: ignore[operator]

    return run
