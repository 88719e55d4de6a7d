"""ResNet, MobileNetV2, ConvNeXt and ViT from the package transformers, built from a configuration, not downloaded."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from ...errors import BadInput
from ..architecture import Architecture
from .layers import GlobalMean, LogitsOf


def _network(family: str, settings: dict[str, Any], classes: int) -> nn.Module:
    try:
        import transformers
    except ImportError as error:
        raise BadInput(f"{family} is implemented by transformers, which cannot be imported ({error})",
                       "the extra zoo", 'pip install "tiffin[zoo]"') from error  # fmt: skip
    config = getattr(transformers, f"{family}Config")(**settings, num_labels=classes)
    return LogitsOf(_exportable(getattr(transformers, f"{family}ForImageClassification")(config)))


def _exportable(network: nn.Module) -> nn.Module:
    """Global means that export as one node, and batch norms with torch's momentum.

    MobileNetV2's is TensorFlow's 0.997, which counts the other way in torch: statistics of the last batch alone.
    """
    for module in network.modules():
        if isinstance(getattr(module, "pooler", None), nn.AdaptiveAvgPool2d):
            module.pooler = GlobalMean()
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
    return network


def _described(
    name: str, family: str, settings: dict[str, Any], blocks: tuple[str, ...], head: str, parameters: int, source: str
) -> Architecture:
    stages = (*(f"network.{block}" for block in blocks), f"network.{head}")
    return Architecture(
        name, partial(_network, family, settings), head=stages[-1], stages=stages, parameters=parameters,
        source=f"transformers; {source}",
    )  # fmt: skip


def _resnet(name: str, layer: str, widths: tuple[int, ...], depths: tuple[int, ...], parameters: int) -> Architecture:
    """Stride in the 3×3 convolution (v1.5)."""
    settings = {"layer_type": layer, "hidden_sizes": list(widths), "depths": list(depths)}
    blocks = ("resnet.embedder", *(f"resnet.encoder.stages.{index}" for index in range(4)))
    return _described(name, "ResNet", settings, blocks, "classifier.1", parameters,
                      "He et al. 2015, arXiv 1512.03385; count: torchvision 0.28")  # fmt: skip


RESNET18 = _resnet("resnet18", "basic", (64, 128, 256, 512), (2, 2, 2, 2), 11_689_512)
RESNET50 = _resnet("resnet50", "bottleneck", (256, 512, 1024, 2048), (3, 4, 6, 3), 25_557_032)
MOBILENET_V2 = _described(
    "mobilenet_v2", "MobileNetV2", {"tf_padding": False, "classifier_dropout_prob": 0.2},
    ("mobilenet_v2.conv_stem", *(f"mobilenet_v2.layer.{index}" for index in range(16)), "mobilenet_v2.conv_1x1"),
    "classifier", 3_504_872, "Sandler et al. 2018, arXiv 1801.04381; count: torchvision 0.28",
)  # fmt: skip
CONVNEXT_TINY = _described(
    "convnext_tiny", "ConvNext", {"depths": [3, 3, 9, 3], "hidden_sizes": [96, 192, 384, 768]},
    ("convnext.embeddings", *(f"convnext.encoder.stages.{index}" for index in range(4)), "convnext.layernorm"),
    "classifier", 28_589_128, "Liu et al. 2022, arXiv 2201.03545; count: torchvision 0.28",
)  # fmt: skip
VIT_TINY = replace(_described(
    "vit_tiny", "ViT",
    # Eager: torch's fused attention is exported with guards against NaN in every layer.
    {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768, "attn_implementation": "eager"},
    ("vit.embeddings", *(f"vit.layers.{index}" for index in range(12)), "vit.layernorm"),
    "classifier", 5_717_416, "Touvron et al. 2020, arXiv 2012.12877, DeiT-Ti: patches of 16, 224 pixels; count: timm",
), any_size=False)  # fmt: skip
