"""Times of rivals that take turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any


def median_times(ways: list[Callable[..., Any]], args: tuple[Any, ...], rounds: int) -> list[float]:
    """Microseconds of interleaved calls with these arguments."""
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds):
        for way, t in zip(ways, times, strict=True):
            start = time.perf_counter()
            way(*args)
            t.append((time.perf_counter() - start) * 1e6)
    return [statistics.median(t) for t in times]
