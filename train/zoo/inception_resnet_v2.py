"""Inception-ResNet-v2: Szegedy et al. 2016, arXiv 1602.07261, figures 3, 16 to 19, widths as in TF-slim's weights."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from ..architecture import Architecture
from .layers import Branches, classified, convolution

_conv = partial(convolution, eps=1e-3)


class ScaledResidual(nn.Module):
    """features + scale × (branches, joined and projected): small scales keep very wide residuals from dying."""

    def __init__(self, channels: int, joined: int, scale: float, active: bool, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = Branches(*branches)
        self.project = nn.Conv2d(joined, channels, 1)
        self.scale = scale
        self.activation = nn.ReLU() if active else nn.Identity()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """`(N, C, H, W)` → the same shape."""
        return self.activation(features + self.scale * self.project(self.branches(features)))


def inception_resnet_v2(classes: int) -> nn.Module:
    """Float `(N, 3, H, W)`, H and W at least 75 → logits `(N, classes)`."""
    features = [
        _stem(), *(_block35() for _ in range(10)),
        _reduction(320, (384,), (256, 256, 384)), *(_block17() for _ in range(20)),
        _reduction(1088, (256, 384), (256, 288), (256, 288, 320)), *(_block8(0.2) for _ in range(9)),
        _block8(1.0, active=False), _conv(2080, 1536, 1),
    ]  # fmt: skip
    return classified(features, 1536, classes, dropout=0.2)


def _stem() -> nn.Module:
    return nn.Sequential(
        _conv(3, 32, 3, 2, 0), _conv(32, 32, 3, 1, 0), _conv(32, 64, 3), nn.MaxPool2d(3, 2),
        _conv(64, 80, 1), _conv(80, 192, 3, 1, 0), nn.MaxPool2d(3, 2),
        Branches(
            _conv(192, 96, 1),
            nn.Sequential(_conv(192, 48, 1), _conv(48, 64, 5)),
            nn.Sequential(_conv(192, 64, 1), _conv(64, 96, 3), _conv(96, 96, 3)),
            nn.Sequential(nn.AvgPool2d(3, 1, 1, count_include_pad=False), _conv(192, 64, 1)),
        ),
    )  # fmt: skip


def _block35() -> nn.Module:
    return ScaledResidual(
        320, 128, 0.17, True, _conv(320, 32, 1), nn.Sequential(_conv(320, 32, 1), _conv(32, 32, 3)),
        nn.Sequential(_conv(320, 32, 1), _conv(32, 48, 3), _conv(48, 64, 3)),
    )  # fmt: skip


def _block17() -> nn.Module:
    tall = nn.Sequential(_conv(1088, 128, 1), _conv(128, 160, (1, 7)), _conv(160, 192, (7, 1)))
    return ScaledResidual(1088, 384, 0.1, True, _conv(1088, 192, 1), tall)


def _block8(scale: float, active: bool = True) -> nn.Module:
    tall = nn.Sequential(_conv(2080, 192, 1), _conv(192, 224, (1, 3)), _conv(224, 256, (3, 1)))
    return ScaledResidual(2080, 448, scale, active, _conv(2080, 192, 1), tall)


def _reduction(inputs: int, *widths: tuple[int, ...]) -> nn.Module:
    """Half the plane: branches that end in a 3×3 convolution of stride 2, and a pool."""
    return Branches(*(_reducing(inputs, each) for each in widths), nn.MaxPool2d(3, 2))


def _reducing(inputs: int, widths: tuple[int, ...]) -> nn.Module:
    layers: list[nn.Module] = []
    for index, outputs in enumerate(widths):
        last = index == len(widths) - 1
        kernel = 3 if last or index else 1
        layers.append(_conv(inputs, outputs, kernel, 2 if last else 1, 0 if last else None))
        inputs = outputs
    return nn.Sequential(*layers)


INCEPTION_RESNET_V2 = Architecture(
    "inception_resnet_v2", inception_resnet_v2, head="head",
    stages=(*(f"features.{index}" for index in range(44)), "head"), parameters=55_843_464,
    size=299, mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5),
    source="tiffin; Szegedy et al. 2016, arXiv 1602.07261; count: pytorchcv 0.0.74",
)  # fmt: skip
