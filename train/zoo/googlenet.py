"""GoogLeNet, Inception v1: Szegedy et al. 2014, arXiv 1409.4842, table 1.

As in the weights that TF-slim and torchvision publish: batch norm in place of response normalization, no auxiliary
heads, and 3×3 kernels in the branch where the paper has 5×5.
"""

from __future__ import annotations

from functools import partial

from torch import nn

from ..architecture import Architecture
from .layers import Branches, classified, convolution

_conv = partial(convolution, eps=1e-3)

# Channels: input; 1×1; 3×3 reduced, 3×3; 5×5 reduced, 5×5; after the pool.
_UNITS = {
    "3a": (192, 64, 96, 128, 16, 32, 32),
    "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64),
    "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64),
    "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128),
    "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}


def googlenet(classes: int) -> nn.Module:
    """Float `(N, 3, H, W)` → logits `(N, classes)`."""
    stem = nn.Sequential(
        _conv(3, 64, 7, 2), _pool(), _conv(64, 64, 1), _conv(64, 192, 3), _pool(),
    )  # fmt: skip
    third = nn.Sequential(_inception("3a"), _inception("3b"), _pool())
    fourth = nn.Sequential(*(_inception(name) for name in ("4a", "4b", "4c", "4d", "4e")), _pool(2))
    fifth = nn.Sequential(_inception("5a"), _inception("5b"))
    return classified([stem, third, fourth, fifth], 1024, classes, dropout=0.2)


def _pool(kernel: int = 3) -> nn.Module:
    return nn.MaxPool2d(kernel, 2, ceil_mode=True)


def _inception(name: str) -> nn.Module:
    inputs, one, reduced3, three, reduced5, five, pooled = _UNITS[name]
    return Branches(
        _conv(inputs, one, 1),
        nn.Sequential(_conv(inputs, reduced3, 1), _conv(reduced3, three, 3)),
        nn.Sequential(_conv(inputs, reduced5, 1), _conv(reduced5, five, 3)),
        nn.Sequential(nn.MaxPool2d(3, 1, 1), _conv(inputs, pooled, 1)),
    )


GOOGLENET = Architecture(
    "googlenet", googlenet, head="head", stages=(*(f"features.{index}" for index in range(4)), "head"),
    parameters=6_624_904, source="tiffin; Szegedy et al. 2014, arXiv 1409.4842; count: torchvision 0.28",
)  # fmt: skip
