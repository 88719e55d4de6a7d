"""Biases behind an int32 DequantizeLinear → float constants of the same values: `q · scale`, as ONNX defines it."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from .dialect import axis_of, dequantize
from .finding import Applied
from .quantizers import QdqGraph, Quantizer, drop_unread, numbers

WORD = "float_bias"


def float_bias(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[Applied, ...]]:
    """A copy in which every int32 constant is read as float; the layers that read them stay as they are."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = QdqGraph(changed)
    found = [each for each in graph.quantizers.values() if each.kind == TensorProto.INT32 and is_foldable(graph, each)]
    return changed, fold(changed, found, WORD)


def is_foldable(graph: QdqGraph, restore: Quantizer) -> bool:
    """Whether a DequantizeLinear computes a constant that can stand in its place."""
    node = restore.node
    return (
        not restore.quantizes
        and restore.constant is not None
        and restore.sound
        and node.output[0] in graph.main
        and node.output[0] not in graph.outputs
    )


def fold(model: onnx.ModelProto, restores: list[Quantizer], word: str) -> tuple[Applied, ...]:
    """Put float constants, by the names of the nodes' outputs, in place of DequantizeLinear nodes."""
    for restore in restores:
        assert restore.constant is not None
        values = dequantized(numbers(restore.constant), restore)
        model.graph.node.remove(restore.node)
        model.graph.initializer.append(numpy_helper.from_array(values, restore.node.output[0]))
    drop_unread(model.graph)
    return (Applied(word, tuple(restore.node.name for restore in restores), "same"),) if restores else ()


def dequantized(values: np.ndarray, quantizer: Quantizer) -> np.ndarray:
    """What a DequantizeLinear makes of constants."""
    assert quantizer.scale is not None
    return dequantize(values, quantizer.scale, quantizer.zero, axis_of(quantizer.node))
