"""The zoo: architectures that classifiers are trained from, each described once (`Architecture`).

Taken from a maintained package where one has it without needing torchvision, written here where none does.
Nothing is imported from those packages before a network is built.
"""

from __future__ import annotations

from ..architecture import Architecture
from .efficientnet_lite import LITE0, LITE1, LITE2
from .from_transformers import CONVNEXT_TINY, MOBILENET_V2, RESNET18, RESNET50, VIT_TINY
from .googlenet import GOOGLENET
from .inception_resnet_v2 import INCEPTION_RESNET_V2
from .mobilenet_v3 import MOBILENET_V3_LARGE, MOBILENET_V3_SMALL
from .tinynet import TINYNET
from .vgg import VGG16_BN
from .xception import XCEPTION

ARCHITECTURES: dict[str, Architecture] = {
    each.name: each
    for each in (
        LITE0, LITE1, LITE2, RESNET18, RESNET50, VGG16_BN, GOOGLENET, INCEPTION_RESNET_V2, XCEPTION,
        MOBILENET_V2, MOBILENET_V3_SMALL, MOBILENET_V3_LARGE, CONVNEXT_TINY, VIT_TINY, TINYNET,
    )
}  # fmt: skip

__all__ = ["ARCHITECTURES"]
