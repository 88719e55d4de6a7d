"""MobileNetV3-Small and -Large: Howard et al. 2019, arXiv 1905.02244, tables 1 and 2."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from ..architecture import Architecture
from .layers import GlobalMean, convolution

_conv = partial(convolution, eps=1e-3)
_RELU, _SWISH = nn.ReLU, nn.Hardswish

# Kernel, expanded channels, channels, squeeze-and-excite, hard-swish, stride.
_Row = tuple[int, int, int, bool, bool, int]
_SMALL: tuple[_Row, ...] = (
    (3, 16, 16, True, False, 2), (3, 72, 24, False, False, 2), (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2), (5, 240, 40, True, True, 1), (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1), (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2), (5, 576, 96, True, True, 1), (5, 576, 96, True, True, 1),
)  # fmt: skip
_LARGE: tuple[_Row, ...] = (
    (3, 16, 16, False, False, 1), (3, 64, 24, False, False, 2), (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2), (5, 120, 40, True, False, 1), (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2), (3, 200, 80, False, True, 1), (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1), (3, 480, 112, True, True, 1), (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2), (5, 960, 160, True, True, 1), (5, 960, 160, True, True, 1),
)  # fmt: skip


class Excited(nn.Module):
    """Channels weighed by what the whole plane holds: Hu et al. 2017, arXiv 1709.01507, with a hard sigmoid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = _by_eight(channels / 4)
        self.weights = nn.Sequential(
            GlobalMean(), nn.Conv2d(channels, squeezed, 1), nn.ReLU(), nn.Conv2d(squeezed, channels, 1),
            nn.Hardsigmoid(),
        )  # fmt: skip

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """`(N, C, H, W)` → the same shape."""
        return features * self.weights(features)


class InvertedResidual(nn.Module):
    """Expand, one convolution a channel, excite, project; the input is added where shapes allow."""

    def __init__(self, inputs: int, row: _Row) -> None:
        super().__init__()
        kernel, expanded, outputs, excite, swish, stride = row
        activation = _SWISH if swish else _RELU
        layers: list[nn.Module] = []
        if expanded != inputs:
            layers.append(_conv(inputs, expanded, 1, activation=activation))
        layers.append(_conv(expanded, expanded, kernel, stride, groups=expanded, activation=activation))
        layers += [Excited(expanded)] if excite else []
        self.body = nn.Sequential(*layers, _conv(expanded, outputs, 1, activation=None))
        self.same = stride == 1 and inputs == outputs

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """`(N, C, H, W)` → `(N, C', H / stride, W / stride)`."""
        return features + self.body(features) if self.same else self.body(features)


def mobilenet_v3(rows: Sequence[_Row], hidden: int, classes: int) -> nn.Module:
    """Float `(N, 3, H, W)` → logits `(N, classes)`."""
    features: list[nn.Module] = [_conv(3, 16, 3, 2, activation=_SWISH)]
    inputs = 16
    for row in rows:
        features.append(InvertedResidual(inputs, row))
        inputs = row[2]
    features.append(_conv(inputs, 6 * inputs, 1, activation=_SWISH))
    network = nn.Sequential()
    network.add_module("features", nn.Sequential(*features))
    network.add_module("hidden", nn.Sequential(
        GlobalMean(), nn.Flatten(), nn.Linear(6 * inputs, hidden), _SWISH(), nn.Dropout(0.2),
    ))  # fmt: skip
    network.add_module("head", nn.Linear(hidden, classes))
    return network


def _by_eight(channels: float) -> int:
    """To the nearest multiple of 8, never below 9/10 of what was asked."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _described(name: str, rows: Sequence[_Row], hidden: int, parameters: int) -> Architecture:
    stages = (*(f"features.{index}" for index in range(len(rows) + 2)), "hidden", "head")
    return Architecture(
        name, partial(mobilenet_v3, rows, hidden), head="head", stages=stages, parameters=parameters,
        source="tiffin; Howard et al. 2019, arXiv 1905.02244; count: torchvision 0.28",
    )  # fmt: skip


MOBILENET_V3_SMALL = _described("mobilenet_v3_small", _SMALL, 1024, 2_542_856)
MOBILENET_V3_LARGE = _described("mobilenet_v3_large", _LARGE, 1280, 5_483_032)
