"""Architectures by name."""

from __future__ import annotations

from torch import nn

from ..errors import BadInput
from .architecture import Architecture
from .zoo import ARCHITECTURES

__all__ = ["ARCHITECTURES", "architecture", "build_network"]


def architecture(name: str) -> Architecture:
    """What is told of an architecture.

    Raises:
        BadInput: no such architecture.
    """
    if name not in ARCHITECTURES:
        raise BadInput(f"unknown architecture {name!r}", f"one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]


def build_network(name: str, classes: int) -> nn.Module:
    """An untrained network: normalized float `(N, 3, H, W)` → logits `(N, classes)`.

    Raises:
        BadInput: no such architecture, or the package that implements it is not installed.
    """
    return architecture(name).build(classes)
