"""The backend function that Dynamo finds by the name ``ipex``."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch._dynamo.backends.common import aot_autograd
from torch.fx import GraphModule

from ipex import _core, decompositions
from ipex.errors import CompileError, FallbackWarning
from ipex.serialize import Unsupported, serialize
from ipex.settings import Settings, parse

OLDEST, NEWEST = (2, 11), (2, 15)
_MODES = (None, "default")
LIBTORCH = str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")


def _eager(gm: GraphModule) -> Callable[[list[Any]], Any]:
    def run(args: list[Any]) -> Any:
        return gm(*args)

    run._boxed_call = True  # type: ignore[attr-defined]
    return run


def compile_graph(
    gm: GraphModule, example_inputs: Sequence[Any], kind: str, settings: Settings
) -> Callable[[list[Any]], Any]:
    """Compiles a functionalised ATen graph; one that it cannot runs in eager with a warning."""
    try:
        graph = serialize(gm, kind)
        return _core.compile(graph.document, graph.callables, graph.constants, LIBTORCH)
    except (Unsupported, CompileError) as error:
        if settings.strict:
            raise CompileError(str(error)) from error
        warnings.warn(f"ipex runs a graph in eager: {error}", FallbackWarning, stacklevel=2)
        return _eager(gm)


def check_version(version: str) -> None:
    """Raises CompileError if this PyTorch is not a supported one."""
    release = tuple(int(n) for n in version.split("+")[0].split(".")[:2])
    if not OLDEST <= release <= NEWEST:
        low, high = (".".join(map(str, v)) for v in (OLDEST, NEWEST))
        raise CompileError(f"ipex supports PyTorch {low} to {high}; this is {version}")


def ipex(
    gm: GraphModule,
    example_inputs: Sequence[Any],
    *,
    options: Mapping[str, Any] | None = None,
    mode: str | None = None,
) -> Callable[..., Any]:
    """``torch.compile(model, backend="ipex", options={...})``; options as in `ipex.settings`."""
    check_version(torch.__version__)
    settings = parse(options)
    if mode not in _MODES:
        raise ValueError(f"backend 'ipex' has no mode {mode!r}; valid modes: 'default'")

    def inference(graph: GraphModule, inputs: Sequence[Any]) -> Callable[[list[Any]], Any]:
        return compile_graph(graph, inputs, "inference", settings)

    def training(graph: GraphModule, inputs: Sequence[Any]) -> Callable[[list[Any]], Any]:
        return _eager(graph)

    build = aot_autograd(
        fw_compiler=training,
        bw_compiler=training,
        inference_compiler=inference,
        decompositions=decompositions.table(),
    )
    return build(gm, example_inputs)
