"""What is told of an architecture: how to build it, what it takes, where its head is, whose weights there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Architecture:
    """A network by name, ready to be trained on other labels.

    Args:
        name: the word of `--arch`, lower case.
        build: number of classes → an untrained module; normalized float `(N, 3, size, size)` → logits `(N, classes)`.
        head: name of the submodule that classifies; all before it are features. Only its weights depend on the classes.
        stages: names of submodules in the order of the graph, the head last, each unfrozen at once.
        parameters: published count of weights for ImageNet's 1000 classes.
        size: side of the input in pixels that it was designed for.
        any_size: it takes other sizes too.
        mean, std: of its normalization, in pixel units 0–255, one a channel.
        crop_fraction, interpolation: of its evaluation (`Preprocess`).
        source: package that implements it, or `tiffin`; and the paper.
        pretrained: ImageNet's weights for `build(1000)`, from a package; None where none can be had so.
    """

    name: str
    build: Callable[[int], nn.Module]
    head: str
    stages: tuple[str, ...]
    parameters: int
    size: int = 224
    any_size: bool = True
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    crop_fraction: float = 0.875
    interpolation: str = "bicubic"
    source: str = "tiffin"
    pretrained: Callable[[], dict[str, torch.Tensor]] | None = None
