"""VGG-16 with batch norm: Simonyan and Zisserman 2014, arXiv 1409.1556, configuration D."""

from __future__ import annotations

from torch import nn

from ..architecture import Architecture

_WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def vgg16_bn(classes: int) -> nn.Module:
    """Float `(N, 3, 224, 224)` and no other size → logits `(N, classes)`: the first matrix reads a plane of 7×7."""
    network = nn.Sequential()
    inputs = 3
    for index, widths in enumerate(_WIDTHS):
        network.add_module(f"stage{index}", _stage(inputs, widths))
        inputs = widths[-1]
    network.add_module("hidden", nn.Sequential(
        nn.Flatten(), nn.Linear(inputs * 7 * 7, 4096), nn.ReLU(), nn.Dropout(),
        nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(),
    ))  # fmt: skip
    network.add_module("head", nn.Linear(4096, classes))
    return network


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
