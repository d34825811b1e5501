"""Convolutional networks, vision transformers and mixers of timm and torchvision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import timm
import torch
import torchvision
from timm.models.maxxvit import MaxxVit, MaxxVitCfg
from timm.models.mlp_mixer import MlpMixer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from .zoo import Builder, Entry


def _entry(build: Callable[[], nn.Module], size: int = 64) -> Builder:
    return lambda: Entry(build(), lambda batch: {"x": torch.randn(batch, 3, size, size)})


def _timm(name: str, size: int = 64, **more: Any) -> Builder:
    return _entry(lambda: timm.create_model(name, num_classes=10, **more), size)


def _maxvit() -> nn.Module:
    sizes = MaxxVitCfg(embed_dim=(32, 64), depths=(1, 1), block_type=("M", "M"), stem_width=16)
    return MaxxVit(sizes, img_size=64, num_classes=10)


BUILDERS: dict[str, Builder] = {
    "resnet18": _entry(lambda: torchvision.models.resnet18(num_classes=10)),
    "resnet-timm": _timm("resnet10t"),
    "resnext": _timm("resnext26ts"),
    "mobilenetv2": _timm("mobilenetv2_035"),
    "mobilenetv3": _timm("mobilenetv3_small_050"),
    "efficientnet": _timm("efficientnet_b0"),
    "densenet": _entry(lambda: torchvision.models.DenseNet(8, (2, 2, 2), 16, num_classes=10)),
    "convnext": _timm("convnext_atto"),
    "regnet": _timm("regnetx_002"),
    "shufflenet": _entry(lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=10)),
    "squeezenet": _entry(lambda: torchvision.models.squeezenet1_1(num_classes=10)),
    "ghostnet": _timm("ghostnet_050"),
    "repvgg": _timm("repvgg_a0"),
    "vit-timm": _entry(
        lambda: VisionTransformer(
            img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4, num_classes=10
        ),
        32,
    ),
    "swin-timm": _timm(
        "swin_tiny_patch4_window7_224",
        img_size=56,
        embed_dim=16,
        depths=(2, 2),
        num_heads=(2, 4),
        size=56,
    ),
    "maxvit": _entry(_maxvit),
    "mlp-mixer": _entry(
        lambda: MlpMixer(img_size=32, patch_size=8, num_blocks=2, embed_dim=32, num_classes=10), 32
    ),
    "poolformer": _timm("poolformer_s12"),
    "mobilevit": _timm("mobilevit_xxs"),
    "levit": _timm("levit_128s", 224),
    "xcit": _timm("xcit_nano_12_p16_224"),
}
