"""Quantized constants that no layer multiplies with → the float values that they stand for.

TensorRT reads a quantized constant directly before a DequantizeLinear only, and none without dimensions («Quantized
constant is only allowed before DQ»): what a quantizer leaves where it rounds the constants of the preprocessing, or the
factor of a residual.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from .dialect import axis_of, spread
from .finding import Applied
from .float_bias import dequantized, fold, is_foldable
from .quantizers import INTEGERS, QdqGraph, Quantizer, drop_unread, numbers

WORD = "fold_qdq"


def fold_qdq(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[Applied, ...]]:
    """A copy in which such constants are float. The answers are the same: they were rounded before, and stay so."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = QdqGraph(changed)
    found = folds(graph)
    stored = [each for each in found if each.constant is not None and not each.quantizes]
    rounded = [each for each in found if not each.quantizes and each.constant is None]
    applied = (*fold(changed, stored, WORD), *_fold_pairs(changed, graph, rounded))
    nodes = tuple(name for each in applied for name in each.nodes)
    return changed, (Applied(WORD, nodes, "same"),) if applied else ()


def folds(graph: QdqGraph) -> list[Quantizer]:
    """The nodes that the pass removes: where TensorRT refuses the constant, and pairs that round a float constant."""
    found: list[Quantizer] = []
    for restore in graph.quantizers.values():
        if restore.quantizes or restore.kind not in INTEGERS or graph.is_weight(restore.node.output[0]):
            continue
        if is_foldable(graph, restore) and _is_refused(restore):
            found.append(restore)
        elif (pair := _constant_pair(graph, restore)) is not None:
            found += [restore] if any(pair is each for each in found) else [pair, restore]
    return found


def _is_refused(restore: Quantizer) -> bool:
    assert restore.constant is not None
    return not restore.constant.dims or restore.kind == TensorProto.UINT8 or restore.shifted


def _constant_pair(graph: QdqGraph, restore: Quantizer) -> Quantizer | None:
    """The QuantizeLinear of a float constant whose readers are all folded with it."""
    pair = graph.pair_of(restore)
    if pair is None or pair.constant is None or not pair.sound or not restore.sound:
        return None
    restores = graph.restores_of(pair)
    inside = pair.node.output[0] in graph.main and restore.node.output[0] in graph.main
    if restores is None or not inside or restore.node.output[0] in graph.outputs:
        return None
    return None if any(graph.is_weight(each.node.output[0]) for each in restores) else pair


def _fold_pairs(model: onnx.ModelProto, graph: QdqGraph, restores: list[Quantizer]) -> tuple[Applied, ...]:
    pairs: dict[str, Quantizer] = {}
    for restore in restores:
        pair = graph.pair_of(restore)
        assert pair is not None
        pairs[pair.node.output[0]] = pair
        value = dequantized(quantized(pair), restore)
        model.graph.node.remove(restore.node)
        model.graph.initializer.append(numpy_helper.from_array(value, restore.node.output[0]))
    for pair in pairs.values():
        model.graph.node.remove(pair.node)
    gone = [*restores, *pairs.values()]
    drop_unread(model.graph)
    return (Applied(WORD, tuple(each.node.name for each in gone), "same"),) if gone else ()


def quantized(quantize: Quantizer) -> np.ndarray:
    """What a QuantizeLinear makes of the constant that it reads: `round(x / scale) + zero point`, saturated."""
    assert quantize.constant is not None and quantize.scale is not None and quantize.kind is not None
    values = numbers(quantize.constant).astype(np.float32)
    limits = np.iinfo(INTEGERS[quantize.kind])
    shape = spread(quantize.scale.size, axis_of(quantize.node), values.ndim)
    steps = np.rint(values / quantize.scale.astype(np.float32).reshape(shape))
    if quantize.zero is not None:
        steps = steps + quantize.zero.astype(np.float32).reshape(shape)
    return np.clip(steps, limits.min, limits.max).astype(INTEGERS[quantize.kind])
