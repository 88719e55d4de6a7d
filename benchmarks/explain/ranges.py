"""Hypothesis: int8 ranges from wrong data. Each activation's range is set against what photos give, and exchanged.

Only the range of activations is exchanged; weights stay. The graph is run in float: an integer kernel takes the bias's
scale for granted, which follows from the activation's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...data import balanced
from ...data.prepared import prepare_photos
from .hypothesis import Hypothesis, Suspect

if TYPE_CHECKING:
    import onnx

KIND = "ranges"
WORDS = "activation ranges from photos, in float"
PHOTOS = 64
_ENOUGH = 0.9  # share of the quantized activations that must be found in the trusted graph


@dataclass(frozen=True)
class Range:
    """One quantized activation; arrays hold one value, or one a channel.

    Args:
        tensor: its name.
        low, high: what its quantizer can represent, float64.
        seen_low, seen_high: least and greatest value of it in the trusted graph over the photos, float64.
        clipped: share of its values over the photos that the quantizer clips.
    """

    tensor: str
    low: np.ndarray
    high: np.ndarray
    seen_low: np.ndarray
    seen_high: np.ndarray
    clipped: float

    @property
    def used(self) -> float:
        """Share of the representable range that the photos' values span, mean over channels."""
        span = np.minimum(self.high, self.seen_high) - np.maximum(self.low, self.seen_low)
        return float(np.mean(np.maximum(span, 0) / np.maximum(self.high - self.low, 1e-12)))

    def plain(self) -> dict[str, Any]:
        """For a record: the outermost values of all channels."""
        ends = {"low": self.low.min(), "high": self.high.max(), "seen_low": self.seen_low.min(),
                "seen_high": self.seen_high.max()}  # fmt: skip
        return {"tensor": self.tensor, **{name: float(value) for name, value in ends.items()},
                "clipped": self.clipped, "used": self.used}  # fmt: skip


def tried(suspect: Suspect, worst: int = 10) -> tuple[list[Hypothesis], list[dict[str, Any]]]:
    """The hypothesis, for what is int8 and has a trusted graph and photos to look at; and the ranges that fit worst.

    Returns:
        The hypothesis or its reason, none for what is not int8; and ranges as plain values, the most clipped first,
        then the least used.
    """
    model, parent = suspect.model, suspect.parent
    if suspect.simulated is None or model is None or suspect.graph is None:
        return [], []
    if suspect.graph.manifest.precision != "int8":
        return [], []
    reason = "" if parent is not None else "no fp32 ONNX graph above it is found"
    reason = reason or ("" if suspect.calibration else "the dataset has no photos to calibrate with")
    if reason or parent is None:
        return [suspect.absent(KIND, WORDS, reason)], []
    found = observed(model, parent, _photos(suspect))
    if len(found) < _ENOUGH * len(activations_of(model)):
        return [suspect.absent(KIND, WORDS, "its quantized tensors are not those of the graph above it")], []
    shown = sorted(found, key=lambda each: (-each.clipped, each.used))[:worst]
    return [suspect.repaired(with_ranges(model, found), KIND, WORDS, suspect.simulated[0])], [
        each.plain() for each in shown
    ]


def _photos(suspect: Suspect) -> np.ndarray:
    """Calibration photos, as the trusted graph takes them."""
    assert suspect.trusted is not None
    classes = len({photo.label for photo in suspect.calibration})
    drawn = balanced(suspect.calibration, max(1, -(-PHOTOS // classes)), 0)
    spread = drawn[:: max(1, len(drawn) // PHOTOS)][:PHOTOS]
    return np.asarray(prepare_photos(spread, suspect.trusted.preprocess, suspect.work).array())


def activations_of(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """QuantizeLinear nodes of computed tensors, in the graph's order."""
    from ...export.graph.dialect import constants_of

    held = constants_of(model.graph)
    return [node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] not in held]


def observed(model: onnx.ModelProto, parent: onnx.ModelProto, photos: np.ndarray) -> list[Range]:
    """The quantized activations that the trusted graph has under the same name, over photos."""
    from ...quantize.walk import Walk

    nodes = {_name(node): node for node in activations_of(model)}
    found: dict[str, Range] = {}
    walk = Walk(parent, photos)
    for node in walk:
        for name in set(node.output) & set(nodes):
            found[name] = _range(model, nodes[name], walk.get(name))
    return [found[name] for name in nodes if name in found]


def _name(node: onnx.NodeProto) -> str:
    """The tensor that a quantizer reads, as the float graph calls it: ONNX Runtime renames the graph's output."""
    return node.input[0].removesuffix("_QuantizeLinear_Input")


def limits_of(model: onnx.ModelProto, node: onnx.NodeProto) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest value that a quantizer can represent, float64, one or one a channel."""
    import ml_dtypes  # comes with onnx

    scale, zero = _scale_and_zero(model, node)
    limits = ml_dtypes.finfo(zero.dtype) if zero.dtype.name.startswith("float") else ml_dtypes.iinfo(zero.dtype)
    least, most = (float(limit) - zero.astype(np.float64) for limit in (limits.min, limits.max))
    return least * scale, most * scale


def _scale_and_zero(model: onnx.ModelProto, node: onnx.NodeProto) -> tuple[np.ndarray, np.ndarray]:
    from onnx import numpy_helper

    from ...export.graph.dialect import constants_of

    held = constants_of(model.graph)
    scale = numpy_helper.to_array(held[node.input[1]])
    named = len(node.input) > 2 and node.input[2]
    return scale, numpy_helper.to_array(held[node.input[2]]) if named else np.zeros(scale.shape, np.uint8)


def _range(model: onnx.ModelProto, node: onnx.NodeProto, values: np.ndarray) -> Range:
    from ...export.graph.dialect import axis_of, spread

    low, high = limits_of(model, node)
    axis = axis_of(node) % values.ndim
    others = tuple(each for each in range(values.ndim) if each != axis) if low.size > 1 else None
    seen = values.min(others).astype(np.float64), values.max(others).astype(np.float64)
    shape, step = spread(low.size, axis, values.ndim), (high - low) / 255
    least, most = (np.reshape(each, shape) for each in (low - step / 2, high + step / 2))
    return Range(_name(node), low, high, *seen, float(np.mean((values < least) | (values > most))))


def with_ranges(model: onnx.ModelProto, found: list[Range]) -> onnx.ModelProto:
    """A copy whose activations are quantized over the ranges that were seen, in the types that they have."""
    import onnx
    from onnx import numpy_helper

    made = onnx.ModelProto()
    made.CopyFrom(model)
    seen = {each.tensor: each for each in found}
    for count, node in enumerate(activations_of(model)):
        if _name(node) not in seen:
            continue
        names, output = [f"seen_{count}/scale", f"seen_{count}/zero"], node.output[0]
        grid = _grid(seen[_name(node)], *_scale_and_zero(model, node))
        made.graph.initializer.extend(map(numpy_helper.from_array, grid, names))
        for each in made.graph.node:
            if output in each.output or (each.op_type == "DequantizeLinear" and each.input[0] == output):
                each.input[:] = [each.input[0], *names]
    return made


def _grid(seen: Range, scale: np.ndarray, zero: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scales and zero points in the types and shapes that they had: symmetric where that is signed and 0."""
    info = np.iinfo(zero.dtype)
    low, high = np.minimum(0.0, seen.seen_low), np.maximum(0.0, seen.seen_high)
    if info.min < 0 and not np.any(zero):
        found, shift = np.maximum(np.maximum(-low, high), 1e-9) / info.max, np.zeros_like(low)
    else:
        found = np.maximum(high - low, 1e-9) / (int(info.max) - int(info.min))
        shift = np.clip(np.round(info.min - low / found), info.min, info.max)
    return found.astype(scale.dtype).reshape(scale.shape), shift.astype(zero.dtype).reshape(zero.shape)
