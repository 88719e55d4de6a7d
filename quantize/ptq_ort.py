"""Post-training quantization by ONNX Runtime's quantizer: ranges, per-channel weights, no bias correction."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import numpy_helper

from ..artifact.scheme import Scheme
from ..errors import BadInput
from ..export.graph.canonical import PROLOGUE
from ..export.graph.dialect import constants_of
from ..export.graph.fold_qdq import fold_qdq
from ..export.quiet import quiet
from .calibration import Calibration
from .options import PtqOptions

if TYPE_CHECKING:
    from onnxruntime.quantization import CalibrationDataReader

# In a graph with layer norms: what runs past its blocks has most of its wide range in few channels, and at 8 bits for
# the whole tensor the other channels are lost (Bondarenko et al. 2021, arXiv 2109.12948). These layers hold the work.
_WITH_LAYER_NORMS = ("Conv", "Gemm", "MatMul")
_CHUNK = 16  # photos whose tensors a histogram takes in at once: some 50 MB each for a mobile network


def quantize_ort(
    model: onnx.ModelProto, scheme: Scheme, calibration: Calibration, options: PtqOptions
) -> onnx.ModelProto:
    """Insert QDQ in any scheme.

    Args:
        options: as applied.

    Raises:
        BadInput: ranges that are cut from histograms, of a graph that pads with infinity.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    words = {"percentile": CalibrationMethod.Percentile, "entropy": CalibrationMethod.Entropy}
    types = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}
    if options.ranges in words and (endless := padded_with_infinity(model)):
        raise BadInput(f"ranges {options.ranges} of a graph that pads with infinity ({endless[0]})",
                       "minmax or moving-average: a histogram holds no infinity",
                       "choose one of these by --ranges, or --quantizer nncf")  # fmt: skip
    # It warns of pre-processing through the root logger, and computes grids of tensors that it then leaves.
    with tempfile.TemporaryDirectory() as scratch, quiet(None), np.errstate(invalid="ignore"):
        path = Path(scratch) / "int8.onnx"
        quantize_static(
            model,
            path,
            _reader(calibration, model.graph.input[0].name),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=operators_of(model),
            per_channel=True,
            reduce_range=scheme.weight_bits == 7,
            activation_type=types[scheme.activations],
            weight_type=types[scheme.weights],
            nodes_to_exclude=[*left_in_float(model), *options.float_nodes],
            calibrate_method=words.get(str(options.ranges), CalibrationMethod.MinMax),
            extra_options={
                "ActivationSymmetric": scheme.symmetric_activations,
                "WeightSymmetric": True,  # uint8 ones lie around 128
                "QuantizeBias": scheme.quantize_bias,
                "CalibMovingAverage": options.ranges == "moving-average",
                # Histograms would else hold every tensor of every photo at once (onnxruntime#10503).
                **({"CalibStridedMinMax": _stride(len(calibration))} if options.ranges in words else {}),
            },
        )
        made = onnx.load(path)
    return fold_qdq(made)[0] if "tensorrt" in scheme.engines else made  # it takes no quantized scalar


def operators_of(model: onnx.ModelProto) -> list[str] | None:
    """What is quantized; None for every operator that can be."""
    has_layer_norms = any(node.op_type == "LayerNormalization" for node in model.graph.node)
    return list(_WITH_LAYER_NORMS) if has_layer_norms else None


def left_in_float(model: onnx.ModelProto) -> list[str]:
    """Nodes that are never quantized: no grid, or none of their own, would hold their values."""
    return [*PROLOGUE, *clipped_outputs(model), *padded_with_infinity(model)]


def padded_with_infinity(model: onnx.ModelProto) -> list[str]:
    """Pads by minus infinity, as before a max pool, and what reads them."""
    constants = constants_of(model.graph)

    def endless(node: onnx.NodeProto) -> bool:
        held = [constants[name] for name in node.input[2:3] if name in constants]
        return node.op_type == "Pad" and any(np.isinf(numpy_helper.to_array(each)).any() for each in held)

    made = {node.output[0] for node in model.graph.node if endless(node)}
    return [node.name for node in model.graph.node if made & {*node.output, *node.input}]


def clipped_outputs(model: onnx.ModelProto) -> list[str]:
    """Activations that read an output of the graph: ONNX Runtime would give that output their narrower range."""
    outputs = {value.name for value in model.graph.output}
    return [node.name for node in model.graph.node if node.op_type in ("Relu", "Clip") and node.input[0] in outputs]


def _stride(photos: int) -> int:
    """The largest chunk up to `_CHUNK` that divides the set: ONNX Runtime takes no other."""
    return max(size for size in range(1, _CHUNK + 1) if photos % size == 0)


def _reader(calibration: Calibration, name: str) -> CalibrationDataReader:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._feeds: Iterator[dict[str, np.ndarray]] = calibration.feeds(name)

        def __len__(self) -> int:
            return len(calibration)

        def set_range(self, start_index: int, end_index: int) -> None:
            self._feeds = calibration.feeds(name, start_index, end_index)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._feeds, None)

    return Reader()
