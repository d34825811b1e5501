"""The backend function that Dynamo finds by the name ``ipex``."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.partitioners import min_cut_rematerialization_partition
from torch.autograd.graph import increment_version
from torch.fx import GraphModule

from ipex import _core, decompositions
from ipex.arguments import Unsupported
from ipex.device import CPU, LIBTORCH, Place, place
from ipex.discard import discard
from ipex.dynamo import restore_addcdiv
from ipex.errors import CompileError, FallbackWarning
from ipex.serialize import serialize
from ipex.settings import Settings, settings_for

OLDEST, NEWEST = (2, 11), (2, 15)


def _fallback(gm: GraphModule, settings: Settings) -> Callable[[list[Any], str], Any]:
    """Runs a graph in eager instead, with one warning; in strict mode, an error."""
    warned = False

    def run(args: list[Any], reason: str) -> Any:
        nonlocal warned
        if settings.strict:
            raise CompileError(reason)
        if not warned:
            warned = True
            warnings.warn(f"ipex runs a graph in eager: {reason}", FallbackWarning, stacklevel=2)
        return gm(*args)

    return run


def _boxed(f: Callable[[list[Any]], Any]) -> Callable[[list[Any]], Any]:
    """A function with AOTAutograd's mark, which a decorated one keeps."""

    def run(args: list[Any]) -> Any:
        return f(args)

    run._boxed_call = True  # type: ignore[attr-defined]
    return run


def compile_graph(
    gm: GraphModule,
    kind: str,
    settings: Settings,
    frozen: Sequence[int] = (),
    at: Place = CPU,
) -> Callable[[list[Any]], Any]:
    """Compiles a functionalised ATen graph; one that it cannot runs in eager with a warning."""
    fallback = _fallback(gm, settings)
    try:
        graph = serialize(
            gm,
            kind,
            frozen,
            settings.max_autotune,
            at.gpu,
            at.xpu,
            settings.emulate_precision_casts,
        )
        compiled = _core.compile(
            graph.document,
            graph.callables,
            graph.constants,
            fallback,
            LIBTORCH,
            discard if frozen and settings.freezing == "discard" else None,
        )
        # AOTAutograd decorates backward graphs.
        return _boxed(compiled) if kind == "backward" else compiled
    except (Unsupported, CompileError) as error:
        reason = str(error)
        if settings.strict:
            raise CompileError(reason) from error
    return _boxed(lambda args: fallback(args, reason))


def _is_plain(graph: GraphModule, num_inputs: int) -> bool:
    """Whether AOTAutograd's wrapper around an inference graph would do nothing at run time but tell
    autograd what the graph changes.

    So it is when the graph takes the arguments as they are, returns none of them nor a view, and
    does itself what changes them. Calling it directly saves about 2 us, and 20 in an optimizer's
    step of 500 arguments.
    """
    context = torch._guards.TracingContext.try_get()
    metadata = getattr(context, "fw_metadata", None)
    if metadata is None or any(map(torch.is_autocast_enabled, ("cpu", "xpu"))):
        return False
    none_of = (
        "num_outputs_aliased",
        "num_mutated_inp_runtime_indices",
        "num_intermediate_bases",
    )
    subclasses = (*metadata.subclass_inp_meta, *metadata.subclass_fw_graph_out_meta)
    placeholders = sum(node.op == "placeholder" for node in graph.graph.nodes)
    return (
        all(getattr(metadata, name, None) == 0 for name in none_of)
        and all(type(meta).__name__ != "SubclassCreationMeta" for meta in subclasses)
        and not metadata.tokens
        and getattr(metadata, "grad_enabled_mutation", None) is None
        and placeholders == num_inputs
    )


def _direct(compiled: Callable[..., Any]) -> Callable[..., Any]:
    """What Dynamo calls instead of AOTAutograd's wrapper: counts the versions of what a plain graph
    changes, as that does.
    """
    metadata = torch._guards.TracingContext.get().fw_metadata
    assert metadata is not None
    changed = metadata.mutated_graph_handled_indices_seen_by_autograd
    if not changed:
        return compiled
    arguments = operator.itemgetter(*changed)

    def run(*args: Any) -> Any:
        increment_version(arguments(args))
        return compiled(*args)

    return run


def _static(graph: GraphModule, example_inputs: Sequence[Any]) -> list[int]:
    """Positions of the parameters and buffers that Dynamo knows to be a module's own.

    Those that the graph itself changes are not among them.
    """
    placeholders = sum(node.op == "placeholder" for node in graph.graph.nodes)
    context = torch._guards.TracingContext.try_get()
    info = getattr(getattr(context, "fw_metadata", None), "input_info", [])
    if not placeholders == len(example_inputs) == len(info):
        return []  # AOTAutograd has merged or split arguments
    return [
        n
        for n, (x, about) in enumerate(zip(example_inputs, info, strict=True))
        if hasattr(x, "_dynamo_static_input_type")
        and not (about.mutates_data or about.mutates_metadata)
    ]


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
    settings = settings_for(mode, options)

    try:
        at = place(settings.device, gm, example_inputs)
    except Unsupported as error:
        if settings.strict:
            raise CompileError(str(error)) from error
        in_eager, reason = _fallback(gm, settings), str(error)
        return lambda *args: in_eager(list(args), reason)
    restore_addcdiv(gm)
    plain: list[Callable[..., Any]] = []

    def compiler(kind: str) -> Callable[..., Any]:
        def compile(graph: GraphModule, inputs: Sequence[Any]) -> Callable[[list[Any]], Any]:
            frozen = (
                _static(graph, example_inputs) if settings.freezing and kind == "inference" else []
            )
            compiled = compile_graph(graph, kind, settings, frozen, at)
            inference = kind == "inference" and isinstance(compiled, _core.Compiled)
            if inference and _is_plain(graph, len(example_inputs)):
                plain.append(_direct(compiled))
            return compiled

        return compile

    build = aot_autograd(
        fw_compiler=compiler("forward"),
        bw_compiler=compiler("backward"),
        inference_compiler=compiler("inference"),
        partition_fn=min_cut_rematerialization_partition,
        decompositions=decompositions.table(),
        # In every kind of graph. Of CPU tensors, kernels of a GPU only read copies.
        keep_inference_input_mutations=at.gpu is None,
    )
    wrapped = build(gm, example_inputs)
    return plain[0] if plain else wrapped
