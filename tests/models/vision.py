"""Transformers' vision and vision-language models."""

from __future__ import annotations

from typing import Any

import torch

from .hub import SIZES, Arguments, entry, text


def image(size: int) -> Arguments:
    """Random pictures of ``size`` by ``size``."""
    return lambda batch: {"pixel_values": torch.randn(batch, 3, size, size)}


def _both(batch: int) -> dict[str, Any]:
    return {**text(batch), **image(32)(batch)}


_PATCHES = {**SIZES, "image_size": 32, "patch_size": 8}
_TOWERS = {
    "text_config": {**SIZES, "projection_dim": 16},
    "vision_config": {**_PATCHES, "projection_dim": 16},
}
_SWIN = {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4]}

BUILDERS = {
    "vit": entry("ViT", image(32), **_PATCHES),
    "deit": entry("DeiT", image(32), **_PATCHES),
    "beit": entry("Beit", image(32), **_PATCHES, use_relative_position_bias=True),
    "dinov2": entry("Dinov2", image(32), **_PATCHES),
    "swin": entry("Swin", image(32), **_SWIN, window_size=4),
    "swinv2": entry("Swinv2", image(32), **_SWIN, window_size=4),
    "segformer": entry(
        "Segformer",
        image(64),
        cls="ForSemanticSegmentation",
        hidden_sizes=[8, 16, 16, 32],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 2, 2, 4],
        decoder_hidden_size=16,
        drop_path_rate=0.0,
    ),
    "convnextv2": entry("ConvNextV2", image(64), hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 2, 1]),
    "clip": entry("CLIP", _both, **_TOWERS, projection_dim=16),
    "siglip": entry("Siglip", _both, **_TOWERS),
}
