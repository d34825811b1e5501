"""All architectures by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Entry:
    """A model and arguments of its forward for a batch size."""

    model: nn.Module
    arguments: Callable[[int], dict[str, Any]]


Builder = Callable[[], Entry]


@cache
def builders() -> dict[str, Builder]:
    """Every architecture's builder. Raises ValueError if two have one name."""
    from . import audio, decoders, detection, encoders, own, seq2seq, timm_models, vision

    found: dict[str, Builder] = {}
    for module in (encoders, decoders, seq2seq, vision, audio, timm_models, detection, own):
        for name, builder in module.BUILDERS.items():
            if name in found:
                raise ValueError(f"two architectures named {name}")
            found[name] = builder
    return found


def build(name: str) -> Entry:
    """A fresh model with the same random weights each time, without dropout."""
    torch.manual_seed(0)
    entry = builders()[name]()
    for module in entry.model.modules():
        if isinstance(module, (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout)):
            module.p = 0.0
    return entry
