"""Checks of a graph's quantizers: which of them TensorRT refuses, and which it reads wrongly without a word.

What each causes was measured with the parser and builder of TensorRT-RTX 1.7.1, on graphs of one layer each: an int32
DequantizeLinear is refused; a uint8 zero point of 0 is only warned about («Defaulting to INT8 instead»), one that is
left out, which ONNX defines as uint8, not even that, and the engine is silently wrong; other zero points are refused;
so are scales of 0, below it or NaN; an infinite one is built and silently wrong.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto

from .finding import Finding, named
from .float_bias import is_foldable
from .fold_qdq import folds
from .quantizers import QdqGraph, Quantizer, type_word
from .symmetric import can_be_symmetric

# «INT8, INT4, FP8E4M3, FP4E2M1»: docs.nvidia.com/deeplearning/tensorrt, «Working with Quantized Types».
_TYPES = (TensorProto.INT8, TensorProto.INT4, TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT4E2M1)
_FIXES = {
    "float_bias": "a float bias: --fix (float_bias)",
    "fold_qdq": "the float value that it stands for: --fix (fold_qdq)",
    "symmetric": "symmetric int8 over the same range: --fix (symmetric)",
}
_AGAIN = "quantize the fp32 artifact again: `tiffin quantize FP32_ARTIFACT --precision int8 --scheme tensorrt`"


def quantizer_findings(graph: QdqGraph) -> Iterator[Finding]:
    """All that is wrong with its QuantizeLinear and DequantizeLinear nodes, node by node."""
    folded = {quantizer.node.output[0] for quantizer in folds(graph)}
    for quantizer in graph.quantizers.values():
        yield from _type(graph, quantizer, folded)
        yield from _scale(quantizer)
        yield from _constant(quantizer, folded)
    yield from _stray_constants(graph)


def _type(graph: QdqGraph, quantizer: Quantizer, folded: set[str]) -> Iterator[Finding]:
    """Its quantized type and its zero point."""
    where, constant, word = named(quantizer.node), quantizer.constant is not None, type_word(quantizer.kind)
    if quantizer.kind == TensorProto.INT32 and constant:
        fixed_by = "float_bias" if is_foldable(graph, quantizer) else ""
        yield Finding("int32-bias", "error", where, "a bias in int32", _FIXES.get(fixed_by, _AGAIN), fixed_by)
    elif quantizer.kind == TensorProto.UINT8 or (quantizer.kind == TensorProto.INT8 and quantizer.shifted):
        check = "uint8-quantizer" if quantizer.kind == TensorProto.UINT8 else "asymmetric"
        fixed_by = "fold_qdq" if quantizer.node.output[0] in folded else ""
        fixed_by = fixed_by or ("symmetric" if can_be_symmetric(graph, quantizer) else "")
        fix = _FIXES.get(fixed_by, _AGAIN)
        yield Finding(check, "error", where, _type_words(quantizer, word), fix, fixed_by)
    elif quantizer.kind is not None and quantizer.kind not in _TYPES:
        yield Finding("quantized-type", "error", where, f"a quantized type of {word}", _AGAIN)


def _type_words(quantizer: Quantizer, word: str) -> str:
    zero = quantizer.zero
    if zero is None:
        return f"{word}, its zero point left out"
    low, high = int(zero.min()), int(zero.max())
    return f"{word}, zero point {low}" if low == high else f"{word}, zero points {low} to {high}"


def _scale(quantizer: Quantizer) -> Iterator[Finding]:
    """A scale that no quantizer can mean: the engine answers nonsense where the builder takes it."""
    if quantizer.scale is None:
        return
    scale = np.asarray(quantizer.scale, np.float64).reshape(-1)
    bad = ~(np.isfinite(scale) & (scale > 0))
    if bad.any():
        of = f", {bad.sum()} of {bad.size}" if bad.size > 1 else ""
        what = f"a scale of {scale[bad][0]:g}{of}"
        yield Finding("bad-scale", "error", named(quantizer.node), what, _AGAIN)
    elif not quantizer.sound and not quantizer.blocked:
        what = f"{scale.size} scales, which fit neither its zero points nor its tensor's channels"
        yield Finding("bad-scale", "error", named(quantizer.node), what, _AGAIN)


def _constant(quantizer: Quantizer, folded: set[str]) -> Iterator[Finding]:
    """A constant that is rounded although no layer multiplies with it."""
    if quantizer.node.output[0] not in folded or quantizer.kind == TensorProto.UINT8 or quantizer.shifted:
        return
    stored = quantizer.constant is not None and not quantizer.quantizes
    severity, what = (
        ("error", "a quantized constant of no dimensions, which the builder refuses")
        if stored
        else ("info", "a float constant is rounded, though no layer multiplies with it")
    )
    yield Finding("quantized-constant", severity, named(quantizer.node), what, _FIXES["fold_qdq"], "fold_qdq")


def _stray_constants(graph: QdqGraph) -> Iterator[Finding]:
    """Quantized constants that another operator than DequantizeLinear reads."""
    zeros = {name for quantizer in graph.quantizers.values() for name in quantizer.node.input[2:]}
    for name, tensor in graph.held.items():
        if tensor.data_type not in _TYPES or name in zeros:
            continue
        for node in _others(graph, name):
            what = f"reads the {type_word(tensor.data_type)} constant {name}, which only a DequantizeLinear may"
            yield Finding("quantized-constant", "error", named(node), what, _AGAIN)


def _others(graph: QdqGraph, name: str) -> list[onnx.NodeProto]:
    return [node for node, _ in graph.readers.get(name, []) if node.op_type != "DequantizeLinear"]
