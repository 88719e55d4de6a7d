"""VGG-16 with batch norm: Simonyan and Zisserman 2014, arXiv 1409.1556, configuration D."""

from __future__ import annotations

import torch
from torch import nn

from ..architecture import Architecture

_PLANE = 7
_WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def vgg16_bn(classes: int) -> nn.Module:
    """Float `(N, 3, H, W)`, sides of 32 and more → logits `(N, classes)`."""
    network = nn.Sequential()
    inputs = 3
    for index, widths in enumerate(_WIDTHS):
        network.add_module(f"stage{index}", _stage(inputs, widths))
        inputs = widths[-1]
    network.add_module("pool", Resampled(_PLANE))
    network.add_module("hidden", nn.Sequential(
        nn.Flatten(), nn.Linear(inputs * _PLANE**2, 4096), nn.ReLU(), nn.Dropout(),
        nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(),
    ))  # fmt: skip
    network.add_module("head", nn.Linear(4096, classes))
    return network


class Resampled(nn.Module):
    """`AdaptiveAvgPool2d(side)`, which lets torchvision's VGG take inputs of other sizes than 224.

    It is exported as index arithmetic around a GatherND; this is two products with constants, and at 224 nothing.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """`(N, C, H, W)` → `(N, C, side, side)`."""
        rows, columns = (self._means(length, features) for length in features.shape[2:])
        if rows is not None:
            features = rows @ features
        return features if columns is None else features @ columns.T

    def _means(self, length: int, like: torch.Tensor) -> torch.Tensor | None:
        """Matrix `(side, length)`, each row the mean over its part of the length; None where it is the identity."""
        if length == self.side:
            return None
        matrix = torch.zeros(self.side, length, dtype=like.dtype, device=like.device)
        for row in range(self.side):
            first, end = row * length // self.side, -(-(row + 1) * length // self.side)
            matrix[row, first:end] = 1 / (end - first)
        return matrix


def _stage(inputs: int, widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for outputs in widths:
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers, nn.MaxPool2d(2))


VGG16_BN = Architecture(
    "vgg16_bn", vgg16_bn, head="head", stages=(*(f"stage{index}" for index in range(5)), "hidden", "head"),
    parameters=138_365_992, source="tiffin; Simonyan and Zisserman 2014, arXiv 1409.1556; count: torchvision 0.28",
)  # fmt: skip
