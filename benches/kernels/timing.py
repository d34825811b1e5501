"""Times of rivals that take turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from ipex.backend import ipex


def median_times(ways: list[Callable[..., Any]], args: tuple[Any, ...], rounds: int) -> list[float]:
    """Microseconds of interleaved calls with these arguments."""
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds):
        for way, t in zip(ways, times, strict=True):
            start = time.perf_counter()
            way(*args)
            t.append((time.perf_counter() - start) * 1e6)
    return [statistics.median(t) for t in times]


def direct(function: Callable[..., Any], args: list[Any]) -> Callable[[], Any]:
    """What ipex hands to Dynamo for a function, called with the arguments: without guards."""
    handed: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    def ours(graph: Any, inputs: list[Any]) -> Callable[..., Any]:
        compiled = ipex(graph, inputs, options={"strict": True})

        def run(*given: Any) -> Any:
            if not handed:
                handed.append((compiled, given))
            return compiled(*given)

        return run

    torch._dynamo.reset_code_caches()
    torch.compile(function, backend=ours, dynamic=False, fullgraph=True)(*args)
    compiled, given = handed[0]
    return lambda: compiled(*given)
