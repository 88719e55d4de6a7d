"""What is compared: the tensors of a graph that stand for something in more than one engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Point:
    """One computed tensor of a graph.

    Args:
        name: of the tensor, as the float ONNX graph calls it where the graph comes from one.
        node, op: what computes it; the name of the node and its operator, as the graph calls it.
        tap: what is asked of the engine to get it, which may be the same tensor restored from int8.
        shape: without the batch; None for a size that is not known.
        weight: name of the layer's weights, in which letters and digits alone count; empty where it has none.
    """

    name: str
    node: str
    op: str
    tap: str
    shape: tuple[int | None, ...] | None = None
    weight: str = ""
    is_output: bool = False

    @property
    def kind(self) -> str:
        """The operator's one word for all graphs."""
        return kind_of(self.op)


# Words of the three graphs for one operator; the first is ONNX's.
_SAME = (
    ("Conv", "conv2d", "convolution", "Convolution", "GroupConvolution"),
    ("ConvTranspose", "conv_transpose2d", "ConvolutionBackpropData", "GroupConvolutionBackpropData"),
    ("Gemm", "linear", "addmm", "MatMul", "matmul"),
    ("Clip", "hardtanh", "clamp", "relu6", "Clamp", "Minimum"),
    ("Relu", "relu", "ReLU"),
    ("LeakyRelu", "leaky_relu", "PRelu"),
    ("Add", "add"),
    ("Mul", "mul", "Multiply"),
    ("Cast", "_to_copy", "to", "Convert"),
    ("Transpose", "permute", "transpose"),
    ("Reshape", "view", "reshape", "flatten", "Flatten", "Squeeze", "squeeze", "_unsafe_view", "Unsqueeze"),
    ("ReduceMean", "mean", "adaptive_avg_pool2d", "GlobalAveragePool"),
    ("MaxPool", "max_pool2d", "max_pool2d_with_indices"),
    ("AveragePool", "avg_pool2d", "AvgPool"),
    ("BatchNormalization", "batch_norm", "_native_batch_norm_legit_no_training"),
    ("Sigmoid", "sigmoid"),
    ("HardSigmoid", "hardsigmoid"),
    ("HardSwish", "hardswish", "HSwish"),
    ("Gelu", "gelu"),
    ("Softmax", "softmax", "_softmax", "SoftMax"),
    ("LayerNormalization", "layer_norm", "MVN"),
    ("Concat", "cat", "concat"),
    ("Resize", "upsample_bilinear2d", "upsample_nearest2d", "_upsample_bilinear2d_aa", "interpolate", "Interpolate"),
    ("Pad", "pad", "constant_pad_nd"),
)
_WORD = {word: words[0] for words in _SAME for word in words}


def kind_of(word: str) -> str:
    """One word for an operator of ONNX, torch or OpenVINO; its own where none is known."""
    return _WORD.get(word, word)


def plain_name(weight: str) -> str:
    """A parameter's name as letters and digits: `network.fc.weight` and torch's `p_network_fc_weight` are one."""
    return "".join(letter for letter in weight.removeprefix("p_").lower() if letter.isalnum())


def spread(points: Sequence[int], most: int) -> list[int]:
    """Up to `most` of some places, evenly, the last among them."""
    places = np.unique(np.linspace(0, len(points) - 1, min(most, len(points))).round().astype(int))
    return [points[place] for place in places]
