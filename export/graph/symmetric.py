"""uint8 and shifted int8 quantizers → symmetric int8 over the same range, for engines that have no zero points.

A range [low, high] that held 256 steps of `s` gets the step `max(−low / 128, high / 127)`: the same step, and the same
answers, where the zero point was in the middle (128 of uint8, 0 of int8), up to twice the step where all values have
one sign. Quantizers drop the Clip or Relu before a rounding that clips as well (ONNX Runtime's do), so that what
the new range no longer clips is clipped before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .bounds import Bounds
from .dialect import axis_of
from .finding import Applied
from .quantizers import INTEGERS, QUANTIZE, QdqGraph, Quantizer, drop_unread, free_name, names_of
from .symmetric_weights import is_weight_of, rewrite_weight

WORD = "symmetric"
_MIDDLE = {np.uint8: 128, np.int8: 0}
_FREE = {TensorProto.UINT8: (0, 128), TensorProto.INT8: (-128, 0)}
_OPSET = 13  # Clip has its limits as inputs since 11, quantizers an axis since 13


@dataclass
class _Done:
    """Names of the nodes that were changed, by what that does to the answers."""

    same: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)


def symmetric(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[Applied, ...]]:
    """A copy without uint8 and without zero points; what cannot be rewritten stays (`can_be_symmetric`)."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph, done, names = QdqGraph(changed), _Done(), names_of(changed.graph)
    bounds = Bounds(graph)
    wrong = [each for each in graph.quantizers.values() if is_wrong(each) and can_be_symmetric(graph, each)]
    for each in wrong:
        if is_weight_of(graph, each):
            exact = rewrite_weight(changed.graph, graph, each, names)
            (done.same if exact else done.changed).append(each.node.name)
        elif each.quantizes:
            _rewrite_pair(changed.graph, graph, each, bounds, names, done)
    drop_unread(changed.graph)
    found = ((done.same, "same"), (done.changed, "changed"))
    return changed, tuple(Applied(WORD, tuple(nodes), answers) for nodes, answers in found if nodes)


def is_wrong(quantizer: Quantizer) -> bool:
    """uint8, or int8 with a zero point."""
    return quantizer.kind == TensorProto.UINT8 or (quantizer.kind == TensorProto.INT8 and quantizer.shifted)


def can_be_symmetric(graph: QdqGraph, quantizer: Quantizer) -> bool:
    """Whether the pass can rewrite it: a stored weight, or one of a pair whose constants are known and alike."""
    if is_weight_of(graph, quantizer):
        return graph.opset >= _OPSET
    pair = quantizer if quantizer.quantizes else graph.pair_of(quantizer)
    if pair is None or pair.scale is None or not pair.sound or pair.node.output[0] not in graph.main:
        return False
    restores = graph.restores_of(pair)
    if not restores or not _is_positive(pair.scale):
        return False
    if graph.opset < _OPSET or any(
        each.node.output[0] not in graph.main or not _alike(pair, each) for each in restores
    ):
        return False
    # Of channels with scales of their own, no one Clip keeps the range; Relu does, and an unchanged range needs none.
    zeros = np.unique(np.zeros(1, int) if pair.zero is None else pair.zero.astype(int))
    return pair.scale.size == 1 or (zeros.size == 1 and zeros[0] in _FREE.get(pair.kind or 0, ()))


def _is_positive(scale: np.ndarray) -> bool:
    values = np.asarray(scale, np.float64)
    return bool((np.isfinite(values) & (values > 0)).all())


def _alike(one: Quantizer, other: Quantizer) -> bool:
    """Same scale, zero point, type and axis: the pair of an exporter, not of somebody who rescales with it."""
    if other.scale is None or one.kind != other.kind or axis_of(one.node) != axis_of(other.node) or other.blocked:
        return False
    zeros = [np.zeros(1, np.int64) if each.zero is None else each.zero.reshape(-1) for each in (one, other)]
    alike = np.array_equal(one.scale, other.scale) if one.scale is not None else False
    return alike and bool(np.all(zeros[0] == zeros[1]))


def _rewrite_pair(
    raw: onnx.GraphProto, graph: QdqGraph, pair: Quantizer, bounds: Bounds, names: set[str], done: _Done
) -> None:
    """One QuantizeLinear and its DequantizeLinear nodes, to new constants of their own."""
    assert pair.scale is not None and pair.kind is not None
    kind = INTEGERS[pair.kind]
    zero = 0 if pair.zero is None else int(np.unique(pair.zero)[0])
    restores = graph.restores_of(pair) or []
    nodes = [pair.node, *(restore.node for restore in restores)]
    low, high = (np.iinfo(kind).min - zero), (np.iinfo(kind).max - zero)
    if zero == _MIDDLE[kind]:
        scale = pair.scale
    else:
        scale = np.asarray(np.asarray(pair.scale, np.float64) * max(-low / 128, high / 127), pair.scale.dtype)
        _keep_clip(raw, pair, low, high, bounds, names)
    stem = pair.node.input[0]
    constants = (_held(raw, f"{stem}_symmetric_scale", scale, names),
                 _held(raw, f"{stem}_symmetric_zero_point", np.zeros(scale.shape, np.int8), names))  # fmt: skip
    for node in nodes:
        del node.input[1:]
        node.input.extend(constants)
        _forget_type(raw, node)
    (done.same if zero == _MIDDLE[kind] else done.changed).extend(node.name for node in nodes)


def _keep_clip(raw: onnx.GraphProto, pair: Quantizer, low: int, high: int, bounds: Bounds, names: set[str]) -> None:
    """Relu or Clip before a QuantizeLinear, where the values might leave the range on the side that got wider.

    Args:
        low, high: the old range in steps of the old scale.
    """
    assert pair.scale is not None
    step = float(np.asarray(pair.scale, np.float64).reshape(-1)[0])
    least, most = bounds.of(pair.node.input[0])
    limits: tuple[np.ndarray | None, np.ndarray | None]
    if -low / 128 < high / 127:
        if least >= low * step:
            return
        relu, limits = low == 0, (np.asarray(low * step, pair.scale.dtype), None)
    else:
        if most <= high * step:
            return
        relu, limits = False, (None, np.asarray(high * step, pair.scale.dtype))
    name = free_name(names, f"{pair.node.name or pair.node.output[0]}_range")
    kept = free_name(names, f"{pair.node.input[0]}_in_range")
    given = ["" if limit is None or relu else _held(raw, f"{name}_limit", limit, names) for limit in limits]
    inputs = [pair.node.input[0], *([] if relu else given)]
    made = helper.make_node("Relu" if relu else "Clip", inputs, [kept], name)
    place = next(index for index, node in enumerate(raw.node) if node.output == pair.node.output)
    raw.node.insert(place, made)
    pair.node.input[0] = kept


def _held(raw: onnx.GraphProto, wish: str, value: np.ndarray, names: set[str]) -> str:
    name = free_name(names, wish)
    raw.initializer.append(numpy_helper.from_array(value, name))
    return name


def _forget_type(raw: onnx.GraphProto, node: onnx.NodeProto) -> None:
    """What the graph says elsewhere of a QuantizeLinear's type: its zero point says it now."""
    if node.op_type != QUANTIZE:
        return
    for entries, name in ((node.attribute, "output_dtype"), (raw.value_info, node.output[0])):
        for entry in [entry for entry in entries if entry.name == name]:
            entries.remove(entry)
