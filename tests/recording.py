"""Keeps what is compiled, to ask it what ran where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ipex import _core

COMPILED: list[_core.Compiled] = []


def _record(compile: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        COMPILED.append(compile(*args))
        return COMPILED[-1]

    return run


_core.compile = _record(_core.compile)  # type: ignore[assignment]
