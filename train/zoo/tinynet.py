"""A network in a size that tests can afford."""

from __future__ import annotations

import torch
from torch import nn

from ..architecture import Architecture
from .layers import GlobalMean


class TinyNet(nn.Module):
    """Three convolutions and a head, one of them depthwise."""

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


TINYNET = Architecture(
    "tinynet", TinyNet, head="head", stages=("features", "head"), parameters=17_480,
    size=32, mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0), source="tiffin, for tests",
)  # fmt: skip
