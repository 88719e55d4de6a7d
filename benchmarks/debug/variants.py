"""One graph otherwise: each way in which exporters and engines are known to compute a node differently."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...export.graph.layers import LAYERS
from ..explain.activations import ACTIVATIONS

if TYPE_CHECKING:
    import onnx

_WINDOWS = ("Conv", "ConvTranspose", "MaxPool", "AveragePool")
_NORMS = ("BatchNormalization", "LayerNormalization", "InstanceNormalization", "GroupNormalization")
_COORDINATES = ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel")
# What is put before a layer: an operator and its constant inputs.
_PUT: dict[str, tuple[str, dict[str, float]]] = {
    "Relu": ("Relu", {}),
    "Clip 0 to 6 (ReLU6)": ("Clip", {"least": 0.0, "most": 6.0}),
    "HardSwish": ("HardSwish", {}),
    "HardSigmoid": ("HardSigmoid", {}),
    "Sigmoid": ("Sigmoid", {}),
    "Tanh": ("Tanh", {}),
    "LeakyRelu 0.01": ("LeakyRelu", {}),
}
_EPSILONS = (1e-6, 1e-5, 1e-3, 1e-2)


@dataclass(frozen=True)
class Variant:
    """A model with one node computed otherwise; `words` say how."""

    kind: str
    words: str
    model: onnx.ModelProto


def variants(model: onnx.ModelProto) -> Iterator[Variant]:
    """All of a model's nodes, each in all ways that fit its operator."""
    for at, node in enumerate(model.graph.node):
        for make in (_padding, _pooling, _resize, _norm, _gelu, _without, _before):
            yield from make(model, at, node)


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Those that are given, by name; words as text."""
    from ...export.graph.dialect import attributes_of

    given = attributes_of(node)
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in given.items()}


def _with(model: onnx.ModelProto, at: int, change: Callable[[onnx.NodeProto], None]) -> onnx.ModelProto:
    made = copy.deepcopy(model)
    change(made.graph.node[at])
    return made


def _set(model: onnx.ModelProto, at: int, **values: Any) -> onnx.ModelProto:
    from onnx import helper

    def change(node: onnx.NodeProto) -> None:
        kept = [each for each in node.attribute if each.name not in values]
        del node.attribute[:]
        node.attribute.extend([*kept, *(helper.make_attribute(name, value) for name, value in values.items())])

    return _with(model, at, change)


def _padding(model: onnx.ModelProto, at: int, node: onnx.NodeProto) -> Iterator[Variant]:
    """The same total on the other side, evenly, or none at all."""
    held = attributes(node)
    pads = list(held.get("pads", ()))
    if node.op_type not in _WINDOWS or not any(pads):
        return
    half = len(pads) // 2
    sums = [pads[axis] + pads[axis + half] for axis in range(half)]
    known = {
        "at the other sides": pads[half:] + pads[:half],
        "more at the end (SAME_UPPER)": [total // 2 for total in sums] + [total - total // 2 for total in sums],
        "more at the beginning (SAME_LOWER)": [total - total // 2 for total in sums] + [total // 2 for total in sums],
    }
    for words, moved in known.items():
        if moved != pads:
            yield Variant("padding", f"{node.name} padded {words}: {moved}, not {pads}", _set(model, at, pads=moved))
    shapes = held.get("kernel_shape")
    if shapes or sums:  # without padding the output is smaller; its shape alone tells that apart
        yield Variant("padding", f"{node.name} without padding", _set(model, at, pads=[0] * len(pads)))


def _pooling(model: onnx.ModelProto, at: int, node: onnx.NodeProto) -> Iterator[Variant]:
    held = attributes(node)
    if node.op_type == "AveragePool":
        counted = 1 - held.get("count_include_pad", 0)
        words = f"{node.name} {'with' if counted else 'without'} the padding in its mean (count_include_pad)"
        yield Variant("padding", words, _set(model, at, count_include_pad=counted))
    if node.op_type in ("AveragePool", "MaxPool"):
        upper = 1 - held.get("ceil_mode", 0)
        yield Variant("padding", f"{node.name} with ceil_mode {upper}", _set(model, at, ceil_mode=upper))


def _resize(model: onnx.ModelProto, at: int, node: onnx.NodeProto) -> Iterator[Variant]:
    if node.op_type != "Resize":
        return
    held = attributes(node)
    smooth, own = 1 - held.get("antialias", 0), held.get("exclude_outside", 0)
    for outside in sorted({smooth, own}):  # torch writes both or neither; of a linear one, ONNX Runtime takes no other
        told = f", exclude_outside {outside}" if outside != own else ""
        yield Variant("antialias", f"{node.name} {'with' if smooth else 'without'} antialias{told}",
                      _set(model, at, antialias=smooth, exclude_outside=outside))  # fmt: skip
    for name, default, words in (
        ("coordinate_transformation_mode", "half_pixel", _COORDINATES),
        ("mode", "nearest", ("nearest", "linear", "cubic")),
    ):
        for word in words:
            if word != held.get(name, default):
                yield Variant("resize", f"{node.name} with {name} {word}", _set(model, at, **{name: word}))


def _norm(model: onnx.ModelProto, at: int, node: onnx.NodeProto) -> Iterator[Variant]:
    own = attributes(node).get("epsilon", 1e-5)
    for epsilon in _EPSILONS if node.op_type in _NORMS else ():
        if abs(epsilon - own) > 1e-3 * own:
            yield Variant("epsilon", f"{node.name} with epsilon {epsilon:g}, not {own:g}",
                          _set(model, at, epsilon=epsilon))  # fmt: skip


def _gelu(model: onnx.ModelProto, at: int, node: onnx.NodeProto) -> Iterator[Variant]:
    if node.op_type == "Gelu":
        word = "none" if attributes(node).get("approximate", "none") == "tanh" else "tanh"
        yield Variant("activation", f"{node.name} with approximation {word}", _set(model, at, approximate=word))


def _without(model: onnx.ModelProto, at: int, node: onnx.NodeProto) -> Iterator[Variant]:
    """A node passed over, or a layer without its bias."""
    if node.op_type in ACTIVATIONS or node.op_type == "Pad":
        limits = _limits(model, node)
        kind = "padding" if node.op_type == "Pad" else "activation"
        yield Variant(kind, f"without {node.name} ({node.op_type}{limits})", _passed(model, at, 0))
    if node.op_type == "Add":
        yield from (
            Variant("branch", f"without {node.input[1 - place]} added by {node.name}", _passed(model, at, place))
            for place in (0, 1)
        )
    if node.op_type in ("Conv", "Gemm", "ConvTranspose") and len(node.input) > 2:
        yield Variant("bias", f"{node.name} without its bias", _with(model, at, lambda each: each.input.pop() and None))


def _before(model: onnx.ModelProto, at: int, node: onnx.NodeProto) -> Iterator[Variant]:
    """A layer whose input passes an activation first: one that this graph has lost leaves no tensor of its own."""
    if node.op_type not in LAYERS:
        return
    for words, (op, limits) in _PUT.items():
        yield Variant("activation", f"{words} before {node.name}", _put(model, at, op, limits))


def _put(model: onnx.ModelProto, at: int, op: str, limits: Mapping[str, float]) -> onnx.ModelProto:
    import numpy as np
    from onnx import helper, numpy_helper

    made = copy.deepcopy(model)
    node = made.graph.node[at]
    made.graph.initializer.extend(numpy_helper.from_array(np.float32(value), f"put/{name}")
                                  for name, value in limits.items())  # fmt: skip
    names = [f"put/{name}" for name in limits]
    put = helper.make_node(op, [node.input[0], *names], ["put"], "put")
    node.input[0] = "put"
    made.graph.node.insert(at, put)
    return made


def _limits(model: onnx.ModelProto, node: onnx.NodeProto) -> str:
    from onnx import numpy_helper

    from ...export.graph.dialect import constants_of

    held = constants_of(model.graph)
    told = [f"{float(numpy_helper.to_array(held[name]).ravel()[0]):g}" for name in node.input[1:] if name in held]
    return f" {' to '.join(told)}" if told else ""


def _passed(model: onnx.ModelProto, at: int, place: int) -> onnx.ModelProto:
    """The node hands on one of its inputs."""

    def change(node: onnx.NodeProto) -> None:
        kept = node.input[place]
        del node.attribute[:]
        del node.input[:]
        node.input.append(kept)
        node.op_type = "Identity"

    return _with(model, at, change)
