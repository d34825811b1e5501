"""Options of the backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal


@dataclass(frozen=True)
class Settings:
    """What ``torch.compile(..., options={...})`` accepts."""

    strict: bool = False
    """Raise an error instead of running a graph in eager that could not be compiled."""
    freezing: bool | Literal["discard"] = False
    """Parameters and buffers never change: graphs without gradients pack them once. Edits after the
    first call are not seen. ``"discard"``: those that only their packed form is read of move to a
    file."""
    max_autotune: bool = False
    """The first call times our kernels and ATen's where both can, and takes the faster; also
    ``mode="max-autotune"``. What it finds is kept on disk."""
    emulate_precision_casts: bool = False
    """Every operator on bf16 and f16 rounds its result, as in eager. Otherwise what stays inside of
    a fused kernel is f32, and what leaves it is rounded once; casts that the model asks for always
    round."""
    device: str = "cpu"
    """``"cpu"``; ``"gpu"`` or ``"gpu:1"``: an Intel GPU by Level Zero, CPU tensors in and out;
    ``"auto"``: a GPU if there is one. Graphs with tensors of PyTorch's ``xpu`` device run there in
    any case; ``"xpu"`` or ``"xpu:1"`` insists on it."""


MODES = {
    None: False,
    "default": False,
    "reduce-overhead": False,  # a call costs little in any mode
    "max-autotune": True,
    "max-autotune-no-cudagraphs": True,
}
"""The modes of ``torch.compile``: whether they ask for `Settings.max_autotune`."""


def settings_for(mode: str | None, options: Mapping[str, Any] | None) -> Settings:
    """The settings for what was given to ``torch.compile``. Raises as `parse`, and ValueError for
    an unknown mode."""
    if mode not in MODES:
        valid = ", ".join(repr(m) for m in MODES if m)
        raise ValueError(f"backend 'ipex' has no mode {mode!r}; valid modes: {valid}")
    settings = parse(options)
    return replace(settings, max_autotune=True) if MODES[mode] else settings


def parse(options: Mapping[str, Any] | None) -> Settings:
    """Checks options. Raises ValueError or TypeError that lists the valid ones."""
    valid = ", ".join(f"{f.name}: {f.type} = {f.default}" for f in fields(Settings))
    given = dict(options or {})
    defaults = Settings()
    for name, value in given.items():
        if not hasattr(defaults, name):
            raise ValueError(f"unknown option {name!r} of backend 'ipex'; valid options: {valid}")
        expected = type(getattr(defaults, name))
        if name == "freezing" and value == "discard":
            continue
        if not isinstance(value, expected):
            raise TypeError(
                f"option {name!r} of backend 'ipex' must be {expected.__name__}, "
                f"not {type(value).__name__}; valid options: {valid}"
            )
    return Settings(**given)
