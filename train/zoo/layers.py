"""What several networks are built of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

Size = int | tuple[int, int]


class GlobalMean(nn.Module):
    """Mean over height and width, kept as 1×1.

    `AdaptiveAvgPool2d(1)` is exported as shape arithmetic around a Gather; this is one ReduceMean.
    """

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """`(N, C, H, W)` → `(N, C, 1, 1)`."""
        return features.mean((2, 3), keepdim=True)


class LogitsOf(nn.Module):
    """A network that answers with more than its logits: `logits` of an object or a dict, or a tuple's first."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalized float `(N, 3, H, W)` → logits `(N, classes)`."""
        return logits_in(self.network(images))


def logits_in(answer: Any) -> Any:
    """The logits of an answer, the answer itself where it has no parts."""
    if torch.is_tensor(answer):
        return answer
    if isinstance(answer, Mapping) and "logits" in answer:
        return answer["logits"]
    if hasattr(answer, "logits"):
        return answer.logits
    return answer[0] if isinstance(answer, tuple | list) and answer else answer


class Branches(nn.Module):
    """Branches over the same features, joined along the channels: Inception's unit."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """`(N, C, H, W)` → `(N, sum of the branches' channels, H', W')`."""
        return torch.cat([branch(features) for branch in self.branches], 1)


def convolution(
    inputs: int,
    outputs: int,
    kernel: Size,
    stride: int = 1,
    padding: Size | None = None,
    groups: int = 1,
    activation: Callable[[], nn.Module] | None = nn.ReLU,
    eps: float = 1e-5,
) -> nn.Sequential:
    """Convolution without bias, batch norm, activation.

    Args:
        padding: zeros on each side; None keeps the size at stride 1.
        activation: built here; None for a linear layer.
        eps: of the batch norm.
    """
    if padding is None:
        padding = kernel // 2 if isinstance(kernel, int) else (kernel[0] // 2, kernel[1] // 2)
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)]
    layers.append(nn.BatchNorm2d(outputs, eps))
    return nn.Sequential(*layers, *([activation()] if activation else []))


def classified(features: Sequence[nn.Module], channels: int, classes: int, dropout: float) -> nn.Sequential:
    """Features, their mean over the plane, dropout, and one matrix named `head`."""
    network = nn.Sequential()
    network.add_module("features", nn.Sequential(*features))
    network.add_module("pool", nn.Sequential(GlobalMean(), nn.Flatten(), nn.Dropout(dropout)))
    network.add_module("head", nn.Linear(channels, classes))
    return network
