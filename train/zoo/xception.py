"""Xception: Chollet 2016, arXiv 1610.02357, figure 5."""

from __future__ import annotations

import torch
from torch import nn

from ..architecture import Architecture
from .layers import classified, convolution


class Residual(nn.Module):
    """body(features) + shortcut(features)."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """`(N, C, H, W)` → `(N, C', H', W')`."""
        return self.body(features) + self.shortcut(features)


def xception(classes: int) -> nn.Module:
    """Float `(N, 3, H, W)` → logits `(N, classes)`."""
    features = [
        convolution(3, 32, 3, 2, 0), convolution(32, 64, 3, 1, 0),
        _reducing((64, 128, 128), active=False), _reducing((128, 256, 256)), _reducing((256, 728, 728)),
        *(_middle() for _ in range(8)), _reducing((728, 728, 1024)),
        nn.Sequential(*_separable(1024, 1536), nn.ReLU(), *_separable(1536, 2048), nn.ReLU()),
    ]  # fmt: skip
    return classified(features, 2048, classes, dropout=0.2)


def _separable(inputs: int, outputs: int) -> list[nn.Module]:
    """A 3×3 convolution a channel, then 1×1 across them, nothing between."""
    return [
        nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False),
        nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
    ]  # fmt: skip


def _reducing(widths: tuple[int, int, int], active: bool = True) -> nn.Module:
    """Half the plane; `active`: the features enter through a ReLU."""
    first, second, last = widths
    body = [*_separable(first, second), nn.ReLU(), *_separable(second, last), nn.MaxPool2d(3, 2, 1)]
    shortcut = convolution(first, last, 1, 2, activation=None)
    return Residual(nn.Sequential(*([nn.ReLU()] if active else []), *body), shortcut)


def _middle() -> nn.Module:
    body: list[nn.Module] = []
    for _ in range(3):
        body += [nn.ReLU(), *_separable(728, 728)]
    return Residual(nn.Sequential(*body), nn.Identity())


XCEPTION = Architecture(
    "xception", xception, head="head", stages=(*(f"features.{index}" for index in range(15)), "head"),
    parameters=22_855_952, size=299, mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5),
    source="tiffin; Chollet 2016, arXiv 1610.02357, table 3",
)  # fmt: skip
