"""Checks of the layers that multiply: in which type each is computed, and whether the GPU has it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx
from onnx import TensorProto

from .finding import Finding, Target, named
from .gemm_as_conv import gemm_as_conv
from .layers import LAYERS
from .quantizers import QUANTIZE, QdqGraph, Quantizer, type_word
from .residual_qdq import branches, is_quantized, keeps_apart, missing, residual_sums

_HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_FP8 = (TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E4M3FNUZ, TensorProto.FLOAT8E5M2, TensorProto.FLOAT8E5M2FNUZ)
# Measured with TensorRT-RTX 1.7.1's builder: bf16 for 8.0 and not for 7.5, fp8 for 8.9 and not for 8.6.
_LEAST_BF16, _LEAST_FP8, _TURING = (8, 0), (8, 9), (7, 6)


@dataclass(frozen=True)
class Layer:
    """One layer: `eight_bits` if it multiplies what DequantizeLinear nodes give, else the ONNX type `kind`."""

    node: onnx.NodeProto
    eight_bits: bool
    kind: int | None
    rounded_weight: bool


def layers_of(model: onnx.ModelProto, graph: QdqGraph) -> list[Layer]:
    """Every layer that multiplies, in order."""
    types, found = types_of(model), []
    for node in graph.nodes:
        if node.op_type in LAYERS and len(node.input) > 1:
            weight = graph.restored(node.input[1])
            stored = weight is not None and (weight.constant is not None or _rounds_constant(graph, weight))
            found.append(Layer(node, is_quantized(graph, node), types.get(node.input[0]), stored))
    return found


def layer_findings(model: onnx.ModelProto, graph: QdqGraph, target: Target) -> Iterator[Finding]:
    """What is said of layers, residual sums and the GPU."""
    layers = layers_of(model, graph)
    yield from _float_layers(graph, layers)
    yield from _residuals(graph, layers)
    yield from _types_of_gpu(graph, layers, target)
    if target.backend == "tensorrt_rtx" and target.below(_TURING):
        yield from _float_products(model, layers, target)


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    """ONNX element type of each tensor that ONNX can tell it of."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for entry in (*graph.input, *graph.value_info, *graph.output):
        types[entry.name] = entry.type.tensor_type.elem_type
    return {name: kind for name, kind in types.items() if kind}


def _float_layers(graph: QdqGraph, layers: list[Layer]) -> Iterator[Finding]:
    """fp32 layers among 8-bit or 16-bit ones, and layers whose weights alone are rounded."""
    eight = any(layer.eight_bits for layer in layers)
    rounds = any(node.op_type == QUANTIZE and node.input[0] not in graph.held for node in graph.nodes)
    half = any(layer.kind in _HALVES for layer in layers)
    for layer in layers:
        if layer.eight_bits:
            continue
        if layer.rounded_weight and not rounds:
            what = f"weights in 8 bits, input in {_word(layer.kind)}: computed in {_word(layer.kind)}"
            fix = (
                "smaller, not faster; `tiffin quantize FP32_ARTIFACT --precision int8 --scheme tensorrt` rounds inputs"
            )
            yield Finding("weight-only", "info", named(layer.node), what, fix)
        elif layer.kind == TensorProto.FLOAT and (eight or half):
            yield Finding("stays-fp32", "warning", named(layer.node), *_stays(layer, eight))


def _stays(layer: Layer, eight: bool) -> tuple[str, str]:
    if not eight:
        return "computed in fp32 among 16-bit layers", "`tiffin quantize FP32_ARTIFACT --precision fp16` casts all"
    what = (
        "its weights are rounded, its input is not" if layer.rounded_weight else "its input or weights are not rounded"
    )
    fix = (
        "`tiffin quantize FP32_ARTIFACT --precision int8 --scheme tensorrt`; leave it if it was chosen to stay in float"
    )
    return f"computed in fp32: {what}", fix


def _residuals(graph: QdqGraph, layers: list[Layer]) -> Iterator[Finding]:
    if not any(layer.eight_bits for layer in layers):
        return
    for node in residual_sums(graph):
        lacking = missing(branches(graph, node))
        if lacking is not None:
            name = node.input[lacking.place]
            fixed_by = "residual_qdq" if lacking.twin is not None and node.output[0] in graph.main else ""
            fix = (
                "its rounded form, which the graph holds: --fix (residual_qdq)"
                if fixed_by
                else "round it: quantize again"
            )
            what = f"its input {name} is not rounded, so that the sum leaves in float"
            yield Finding("residual-add", "warning", named(node), what, fix, fixed_by)
        elif keeps_apart(graph, node):
            what = "the int8 layer before it is rounded on its own, which keeps TensorRT from fusing the two"
            fix = "no Q/DQ between a layer and the sum; its other input stays rounded"
            yield Finding("residual-unfused", "info", named(node), what, fix)


def _types_of_gpu(graph: QdqGraph, layers: list[Layer], target: Target) -> Iterator[Finding]:
    """bf16 and fp8 on GPUs that do not compute in them."""
    if old := target.below(_LEAST_BF16):
        for layer in layers:
            if layer.kind == TensorProto.BFLOAT16:
                yield _lacks(layer.node, "bf16", old, "`tiffin quantize FP32_ARTIFACT --precision fp16`")
    if old := target.below(_LEAST_FP8):
        for quantizer in graph.quantizers.values():
            if quantizer.kind in _FP8:
                fix = "`tiffin quantize FP32_ARTIFACT --precision int8 --scheme tensorrt`"
                yield _lacks(quantizer.node, type_word(quantizer.kind), old, fix)


def _lacks(node: onnx.NodeProto, word: str, old: tuple[str, ...], fix: str) -> Finding:
    what = f"{word}, which capability {', '.join(old)} does not compute in"
    return Finding("precision-of-gpu", "error", named(node), what, f"another capability, or {fix}")


def _float_products(model: onnx.ModelProto, layers: list[Layer], target: Target) -> Iterator[Finding]:
    """«FP32 GEMM is not supported»: of 8-bit ones too, which leave in float. Compiling rewrites what the pass can."""
    products = [layer.node for layer in layers if layer.node.op_type in ("Gemm", "MatMul")]
    kinds = {layer.node.output[0]: layer.kind for layer in layers}
    found = [node for node in products if kinds[node.output[0]] == TensorProto.FLOAT]
    fixable = gemm_as_conv(model)[1] if found else ()
    for node in found:
        what = f"a product in fp32, which TensorRT-RTX does not have for capability {', '.join(target.below(_TURING))}"
        if node.name in fixable:
            fix = "`tiffin compile` builds it as a 1x1 Conv, and so does --fix (gemm_as_conv)"
            yield Finding("fp32-gemm-turing", "info", named(node), what, fix, "gemm_as_conv")
        else:
            fix = "another capability, or `tiffin quantize FP32_ARTIFACT --precision fp16`"
            yield Finding("fp32-gemm-turing", "error", named(node), what, fix)


def _rounds_constant(graph: QdqGraph, restore: Quantizer) -> bool:
    pair = graph.pair_of(restore)
    return pair is not None and pair.constant is not None


def _word(kind: int | None) -> str:
    words = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16", TensorProto.BFLOAT16: "bf16"}
    return words.get(kind, "float")  # type: ignore[call-overload]
