"""Read what a foreign graph does to its input before the first layer, and put tiffin's own beginning in its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ...errors import BadInput
from .dialect import constants_of

NCHW, NHWC = "NCHW", "NHWC"
_TO_NCHW, _TO_NHWC = [0, 3, 1, 2], [0, 2, 3, 1]


@dataclass(frozen=True)
class Beginning:
    """Pixels or images → what the first layer takes: `x * scale + shift` a channel, in `layout`.

    Args:
        tensor: what the first layer reads.
        nodes: outputs of the nodes that compute this, which another beginning replaces.
    """

    tensor: str
    layout: str
    scale: np.ndarray
    shift: np.ndarray
    nodes: tuple[str, ...] = ()

    @property
    def normalizes(self) -> bool:
        """True if it changes values."""
        return not (np.all(self.scale == 1) and np.all(self.shift == 0))


def layout_of(graph: onnx.GraphProto, shape: Sequence[int | None], name: str) -> str:
    """Where the three channels of the input are.

    Raises:
        BadInput: it takes no colour photos, or does not say.
    """
    if len(shape) != 4:
        raise BadInput(f"{name}: its input has {len(shape)} axes", "photos: (N, 3, H, W) or (N, H, W, 3)")
    if 1 in (shape[1], shape[3]) and 3 not in (shape[1], shape[3]):
        raise BadInput(f"{name}: one channel", "3: colour photos")
    first, last = shape[1] == 3, shape[3] == 3
    if first != last:
        return NCHW if first else NHWC
    node = next((node for node in graph.node if graph.input[0].name in node.input), None)
    if node is not None and node.op_type == "Transpose" and _perm(node) == _TO_NCHW:
        return NHWC
    if node is not None and node.op_type == "Conv":
        return NCHW
    raise BadInput(f"{name}: input of {tuple(shape)}", "3 channels, second or last", "export with fixed channels")


def beginning(graph: onnx.GraphProto, layout: str) -> Beginning:
    """Follow casts, transposes and arithmetic with constants from the input on, as far as one alone reads the other."""
    constants = {key: numpy_helper.to_array(tensor) for key, tensor in constants_of(graph).items()}
    found = Beginning(graph.input[0].name, layout, np.ones(3), np.zeros(3))
    outputs = {each.name for each in graph.output}
    while True:
        readers = [node for node in graph.node if found.tensor in node.input]
        step = _step(readers[0], found, constants) if len(readers) == 1 else None
        if step is None or step.tensor in outputs:
            return found
        found = replace(step, nodes=(*found.nodes, step.tensor))


def _step(node: onnx.NodeProto, found: Beginning, constants: Mapping[str, np.ndarray]) -> Beginning | None:
    """The beginning with one node more; None if it is none of a beginning."""
    out = node.output[0]
    if node.op_type == "Identity" or (node.op_type == "Cast" and node.attribute[0].i == TensorProto.FLOAT):
        return replace(found, tensor=out)
    if node.op_type == "Transpose":
        turned = {(NHWC, tuple(_TO_NCHW)): NCHW, (NCHW, tuple(_TO_NHWC)): NHWC}.get((found.layout, tuple(_perm(node))))
        return replace(found, tensor=out, layout=turned) if turned else None
    if node.op_type not in ("Add", "Sub", "Mul", "Div"):
        return None
    other = [word for word in node.input if word != found.tensor]
    value = _by_channel(constants[other[0]], found.layout) if other and other[0] in constants else None
    if value is None or (node.op_type in ("Sub", "Div") and node.input[0] != found.tensor):
        return None
    scale, shift = {
        "Add": lambda: (found.scale, found.shift + value),
        "Sub": lambda: (found.scale, found.shift - value),
        "Mul": lambda: (found.scale * value, found.shift * value),
        "Div": lambda: (found.scale / value, found.shift / value),
    }[node.op_type]()
    usable = bool(np.isfinite(scale).all() and np.all(scale > 0) and np.isfinite(shift).all())
    return replace(found, tensor=out, scale=scale, shift=shift) if usable else None


def _by_channel(value: np.ndarray, layout: str) -> np.ndarray | None:
    """A constant as one value a channel; None where it is none."""
    if value.size == 1:
        return np.full(3, float(value.reshape(-1)[0]))
    if value.size != 3 or value.ndim > 4:
        return None
    axis = 1 if layout == NCHW else 3
    whole = (1,) * (4 - value.ndim) + value.shape
    return value.astype(np.float64).reshape(3) if whole[axis] == 3 else None


def _perm(node: onnx.NodeProto) -> list[int]:
    return next((list(each.ints) for each in node.attribute if each.name == "perm"), [])


def take_photos(
    model: onnx.ModelProto, found: Beginning, size: tuple[int, int], batch: int | None,
    mean: Sequence[float], std: Sequence[float], name: str,
) -> None:  # fmt: skip
    """Exchange a graph's beginning for uint8 `(N, H, W, 3)` photos, cast, scaled, shifted and laid out; in place.

    Args:
        batch: None for a free one.
        mean, std: in pixel levels; the nodes are those of an export from torch, in that order.
        name: of the new input.
    """
    graph, last = model.graph, "preprocess/out"
    scale, shift = 1 / np.asarray(std), -np.asarray(mean) / np.asarray(std)
    held = {"preprocess/scale_value": scale, "preprocess/shift_value": shift}
    steps = [("Cast", {"to": TensorProto.FLOAT}), ("Mul", {}), ("Add", {})]
    steps += [("Transpose", {"perm": _TO_NCHW})] if found.layout == NCHW else []
    nodes, tensor = list[onnx.NodeProto](), name
    for (kind, attributes), constant in zip(steps, ("", *held, ""), strict=False):
        out = last if len(nodes) == len(steps) - 1 else f"preprocess/{kind.lower()}_out"
        nodes.append(helper.make_node(kind, [tensor, constant] if constant else [tensor], [out], **attributes))
        tensor = out
    kept = [node for node in graph.node if node.output[0] not in found.nodes]
    for node in kept:
        node.input[:] = [last if word == found.tensor else word for word in node.input]
    del graph.node[:], graph.input[:]
    graph.node.extend([*nodes, *kept])
    graph.initializer.extend(numpy_helper.from_array(value.astype(np.float32), key) for key, value in held.items())
    graph.input.append(helper.make_tensor_value_info(name, TensorProto.UINT8, [batch or "batch", *size, 3]))


def turn_channels(model: onnx.ModelProto, tensor: str, name: str) -> None:
    """Let the first layer read RGB where it was trained on BGR, by its weights; in place.

    Raises:
        BadInput: not one convolution alone reads the images.
    """
    graph = model.graph
    readers = [node for node in graph.node if tensor in node.input]
    held = {each.name: each for each in graph.initializer}
    weights = held.get(readers[0].input[1]) if len(readers) == 1 and readers[0].op_type == "Conv" else None
    if weights is None or weights.dims[1] != 3:
        raise BadInput(f"{name}: BGR, and its images are not read by one convolution alone", "a network that takes RGB",
                       "exchange the channels in the network before it is exported")  # fmt: skip
    fresh = f"{weights.name}/rgb"
    turned = np.ascontiguousarray(numpy_helper.to_array(weights)[:, ::-1])
    graph.initializer.append(numpy_helper.from_array(turned, fresh))
    readers[0].input[1] = fresh
