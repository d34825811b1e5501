"""Transformers' configurations as entries of the zoo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers

from .zoo import Builder, Entry

VOCABULARY = 99
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
Arguments = Callable[[int], dict[str, Any]]


def tokens(batch: int, length: int = 16) -> torch.Tensor:
    """Random token numbers that are no special ones, int64[batch, length]."""
    return torch.randint(3, VOCABULARY, (batch, length))


def text(batch: int) -> dict[str, Any]:
    """Token numbers and a mask under which the first sequence is padded at its end."""
    mask = torch.ones(batch, 16, dtype=torch.int64)
    mask[0, 12:] = 0
    return {"input_ids": tokens(batch), "attention_mask": mask}


def entry(architecture: str, arguments: Arguments, cls: str = "Model", **config: Any) -> Builder:
    """The class ``<architecture><cls>`` of transformers with a configuration of these values."""

    def build() -> Entry:
        settings = getattr(transformers, f"{architecture}Config")(**config)
        model = getattr(transformers, f"{architecture}{cls}")(settings)
        return Entry(model, arguments)

    return build


def sized(
    architecture: str, arguments: Arguments = text, cls: str = "Model", **more: Any
) -> Builder:
    """As `entry`, with `SIZES` but for the values given."""
    return entry(architecture, arguments, cls, **{**SIZES, **more})
