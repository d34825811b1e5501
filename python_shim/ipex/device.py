"""The device that a graph runs on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.fx import GraphModule

from ipex import _core
from ipex.arguments import Unsupported
from ipex.errors import CompileError

LIBTORCH = str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")

_log = logging.getLogger("ipex")
_told = False


@dataclass(frozen=True)
class Place:
    """The CPU, unless one of the two is a number."""

    gpu: int | None = None
    """That of a GPU which gets copies of CPU tensors."""
    xpu: int | None = None
    """PyTorch's of the `xpu` device that the graph's tensors are on."""


CPU = Place()


def place(option: str, gm: GraphModule, inputs: Sequence[Any]) -> Place:
    """Where a graph runs whose `device` option this is.

    Raises CompileError if the device is not there or not the one that the tensors are on,
    Unsupported if they are on several, and ValueError for another name.
    """
    kind, number = _parse(option)
    index = _xpu(gm, inputs)
    if index is None:
        if kind == "xpu":
            raise CompileError(
                f"device {option!r}: the graph has no tensors of PyTorch's xpu device; move model"
                ' and arguments there by .to("xpu"), or ask for device "gpu", which takes CPU'
                " tensors"
            )
        return Place(gpu=gpu(option))
    if number is not None and kind == "xpu" and number != index:
        raise CompileError(f"device {option!r}: the graph's tensors are on xpu:{index}")
    if number is not None and kind == "gpu":
        name, own = _core.find_xpu(index, LIBTORCH)
        if own != number:
            raise CompileError(
                f"device {option!r}: the graph's tensors are on xpu:{index} ({name}), which is"
                f" gpu:{own}"
            )
    _check_alike(gm, inputs, torch.device("xpu", index))
    return Place(xpu=index)


def _check_alike(gm: GraphModule, inputs: Sequence[Any], device: torch.device) -> None:
    """Raises Unsupported if there are arguments elsewhere, but for numbers that are CPU tensors."""
    names = [node.name for node in gm.graph.find_nodes(op="placeholder")]
    if len(names) != len(inputs):
        return  # the compiler knows them by other names
    others = [
        f"{name} ({list(x.shape)}) on {x.device}"
        for name, x in zip(names, inputs, strict=True)
        if isinstance(x, torch.Tensor)
        and x.device != device
        and not (x.device.type == "cpu" and x.dim() == 0)
    ]
    if others:
        raise Unsupported(
            f"arguments on several devices: {', '.join(others[:5])}"
            f"{' and more' * (len(others) > 5)}, others on {device}"
        )


def _xpu(gm: GraphModule, inputs: Sequence[Any]) -> int | None:
    """The number of the first `xpu` device that a tensor of the graph is on."""
    made = (node.meta.get("example_value") for node in gm.graph.nodes)
    for x in (*inputs, *made):
        if isinstance(x, torch.Tensor) and x.device.type == "xpu":
            return x.device.index or 0
    return None


def _parse(option: str) -> tuple[str, int | None]:
    """A `device` option's kind and number. Raises ValueError."""
    kind, _, number = option.partition(":")
    is_number = number.isdecimal() and len(number) <= 4
    if option not in ("auto", "cpu") and (
        kind not in ("gpu", "xpu") or (option != kind and not is_number)
    ):
        valid = "'cpu', 'gpu', 'gpu:1', 'auto', 'xpu', 'xpu:1'"
        raise ValueError(f"unknown device {option!r}; valid: {valid}")
    return kind, int(number) if number else None


def gpu(option: str) -> int | None:
    """The number of the GPU that a `device` option names; none for the CPU.

    Raises CompileError if there is none, and ValueError for another name. For ``"auto"`` one line
    in the log says why the CPU is taken.
    """
    global _told
    kind, number = _parse(option)
    if kind == "cpu":
        return None
    index = number or 0
    try:
        _core.find_gpu(index)
    except _core.CompileError as error:
        if option != "auto":
            raise
        if not _told:
            _told = True
            _log.warning("runs on the CPU: %s", error)
        return None
    return index
