"""Architectures by name. EfficientNet-Lite0 comes from the package efficientnet-lite-pytorch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ..errors import BadInput


class GlobalMean(nn.Module):
    """Mean over height and width, kept as 1×1.

    `AdaptiveAvgPool2d(1)` is exported as shape arithmetic around a Gather; this is one ReduceMean.
    """

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """`(N, C, H, W)` → `(N, C, 1, 1)`."""
        return features.mean((2, 3), keepdim=True)


def efficientnet_lite0(classes: int) -> nn.Module:
    """EfficientNet-Lite0 for `classes` labels, untrained; float `(N, 3, H, W)` → logits `(N, classes)`."""
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0", num_classes=classes)
    network._avg_pooling = GlobalMean()
    return network


class TinyNet(nn.Module):
    """Three convolutions and a head: real layers in a size that tests can afford."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(),
            nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU6(),
            nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6(),
            GlobalMean(), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Linear(16, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Float `(N, 3, H, W)` → logits `(N, classes)`."""
        return self.head(self.features(images))


ARCHITECTURES: dict[str, Callable[[int], nn.Module]] = {
    "efficientnet_lite0": efficientnet_lite0,
    "tinynet": TinyNet,
}


def build_network(architecture: str, classes: int) -> nn.Module:
    """An untrained network.

    Raises:
        BadInput: no such architecture.
    """
    if architecture not in ARCHITECTURES:
        raise BadInput(f"unknown architecture {architecture!r}", f"one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[architecture](classes)
