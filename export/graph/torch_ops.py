"""ONNX operators in torch: those of convolutional classifiers, as ONNX defines them at opset 20."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import BadInput
from .dialect import attributes_of

Attributes = dict[str, Any]


@dataclass(frozen=True)
class Operator:
    """One node's computation."""

    kind: str
    attributes: Attributes

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Of tensors, `None` where an optional one is left out."""
        return _OPERATORS[self.kind](self.attributes, *inputs)


def operator_of(node: onnx.NodeProto) -> Operator:
    """What a node computes.

    Raises:
        BadInput: an operator, or a way of it, that is not known here.
    """
    if node.op_type not in _OPERATORS:
        raise BadInput(
            f"{node.name}: operator {node.op_type} cannot be trained", f"one of {', '.join(sorted(_OPERATORS))}"
        )
    attributes = attributes_of(node)
    if attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise BadInput(f"{node.name}: padding {attributes['auto_pad'].decode()}", "pads written out")
    if node.op_type == "AveragePool" and max(attributes.get("dilations", (1,))) > 1:
        raise BadInput(f"{node.name}: AveragePool with dilations {attributes['dilations']}", "one without")
    return Operator(node.op_type, attributes)


def _padded(images: Tensor, attributes: Attributes, value: float) -> tuple[Tensor, tuple[int, int]]:
    """Images and what the operator itself pads: unequal sides are padded before it."""
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    if (top, left) == (bottom, right):
        return images, (top, left)
    return F.pad(images, (left, right, top, bottom), value=value), (0, 0)


def _conv(a: Attributes, images: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    images, pads = _padded(images, a, 0.0)
    steps, reach = a.get("strides", (1, 1)), a.get("dilations", (1, 1))
    return F.conv2d(images, weight, bias, tuple(steps), pads, tuple(reach), a.get("group", 1))


def _gemm(a: Attributes, left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    left, right = (left.T if a.get("transA") else left), (right.T if a.get("transB") else right)
    product = a.get("alpha", 1.0) * (left @ right)
    return product if bias is None else product + a.get("beta", 1.0) * bias


def _clip(a: Attributes, values: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    return values.clamp(None if low is None else low.item(), None if high is None else high.item())


def _mean(a: Attributes, values: Tensor, axes: Tensor | None = None) -> Tensor:
    over = tuple(range(values.ndim)) if axes is None else tuple(axes.tolist())
    return values.mean(over, keepdim=bool(a.get("keepdims", 1)))


def _max_pool(a: Attributes, images: Tensor) -> Tensor:
    images, pads = _padded(images, a, float("-inf"))
    return F.max_pool2d(
        images, a["kernel_shape"], a.get("strides", (1, 1)), pads, a.get("dilations", 1), bool(a.get("ceil_mode", 0))
    )


def _average_pool(a: Attributes, images: Tensor) -> Tensor:
    every = bool(a.get("count_include_pad", 0))

    def mean(values: Tensor) -> Tensor:
        values, pads = _padded(values, a, 0.0)
        steps = a.get("strides", (1, 1))
        return F.avg_pool2d(values, a["kernel_shape"], steps, pads, bool(a.get("ceil_mode", 0)), every)

    return mean(images) if every else mean(images) / mean(torch.ones_like(images[:1, :1]))  # padding counts not


def _reshape(a: Attributes, values: Tensor, shape: Tensor) -> Tensor:
    return values.reshape([size or values.shape[place] for place, size in enumerate(shape.tolist())])


def _flatten(a: Attributes, values: Tensor) -> Tensor:
    axis = a.get("axis", 1)
    return values.reshape(int(torch.tensor(values.shape[:axis]).prod()), -1)


def _squeeze(a: Attributes, values: Tensor, axes: Tensor | None = None) -> Tensor:
    return values.squeeze() if axes is None else values.squeeze(tuple(axes.tolist()))


def _unsqueeze(a: Attributes, values: Tensor, axes: Tensor) -> Tensor:
    for axis in sorted(place % (values.ndim + len(axes)) for place in axes.tolist()):  # of what comes out
        values = values.unsqueeze(axis)
    return values


def _hard_sigmoid(a: Attributes, values: Tensor) -> Tensor:
    return (a.get("alpha", 0.2) * values + a.get("beta", 0.5)).clamp(0, 1)


_OPERATORS: dict[str, Callable[..., Tensor]] = {
    "Add": lambda a, left, right: left + right,
    "AveragePool": _average_pool,
    "Clip": _clip,
    "Concat": lambda a, *parts: torch.cat(parts, a["axis"]),
    "Conv": _conv,
    "Div": lambda a, left, right: left / right,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda a, images: images.mean((2, 3), keepdim=True),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda a, values: F.hardswish(values),
    "Identity": lambda a, values: values,
    "MatMul": lambda a, left, right: left @ right,
    "MaxPool": _max_pool,
    "Mul": lambda a, left, right: left * right,
    "ReduceMean": _mean,
    "Relu": lambda a, values: values.relu(),
    "Reshape": _reshape,
    "Sigmoid": lambda a, values: values.sigmoid(),
    "Squeeze": _squeeze,
    "Sub": lambda a, left, right: left - right,
    "Transpose": lambda a, values: values.permute(a.get("perm", tuple(reversed(range(values.ndim))))),
    "Unsqueeze": _unsqueeze,
}
