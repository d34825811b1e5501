"""Segmentation and detection heads of torchvision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torchvision.models import detection, mobilenet_v3_small, resnet18, segmentation
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator

from .zoo import Builder, Entry

CLASSES = 4


def _backbone() -> nn.Module:
    return IntermediateLayerGetter(resnet18(), {"layer4": "out"})


def _pictures(batch: int) -> dict[str, Any]:
    return {"x": torch.randn(batch, 3, 64, 64)}


def _segmentation(build: Callable[[], nn.Module]) -> Builder:
    return lambda: Entry(build(), _pictures)


class Head(nn.Module):
    """A detector without its pre- and postprocessing: features, anchors' scores and boxes."""

    def __init__(self, features: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.features, self.head = features, head

    def forward(self, x: torch.Tensor) -> Any:
        return self.head([self.features(x)])


def _features() -> nn.Module:
    return mobilenet_v3_small().features


class Whole(nn.Module):
    """A detector as users call it: a batch of pictures becomes a list."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> Any:
        if not self.training:
            return self.model(list(x))
        box = torch.tensor([[4.0, 4.0, 40.0, 50.0]])
        return self.model(list(x), [{"boxes": box, "labels": torch.tensor([1])} for _ in x])


def _retinanet() -> nn.Module:
    backbone = _features()
    backbone.out_channels = 576
    anchors = AnchorGenerator(sizes=((16, 32),), aspect_ratios=((0.5, 1.0),))
    model = detection.RetinaNet(
        backbone, CLASSES, min_size=64, max_size=64, anchor_generator=anchors, score_thresh=0.3
    )
    return Whole(model)


def _ssd() -> nn.Module:
    backbone = _features()
    backbone.out_channels = [576]
    anchors = DefaultBoxGenerator([[2]])
    head = detection.ssd.SSDHead([576], anchors.num_anchors_per_location(), CLASSES)
    return Whole(detection.ssd.SSD(backbone, anchors, (64, 64), CLASSES, head=head))


BUILDERS: dict[str, Builder] = {
    "fcn": _segmentation(
        lambda: segmentation.FCN(_backbone(), segmentation.fcn.FCNHead(512, CLASSES))
    ),
    "deeplabv3": _segmentation(
        lambda: segmentation.DeepLabV3(
            _backbone(), segmentation.deeplabv3.DeepLabHead(512, CLASSES, (2, 4))
        )
    ),
    "lraspp": lambda: Entry(
        segmentation.lraspp_mobilenet_v3_large(weights_backbone=None, num_classes=CLASSES),
        lambda batch: {"input": _pictures(batch)["x"]},
    ),
    "retinanet-head": _segmentation(
        lambda: Head(_features(), detection.retinanet.RetinaNetHead(576, 4, CLASSES))
    ),
    "ssd-head": _segmentation(
        lambda: Head(_features(), detection.ssd.SSDHead([576], [4], CLASSES))
    ),
    "retinanet": _segmentation(_retinanet),
    "ssd": _segmentation(_ssd),
}
