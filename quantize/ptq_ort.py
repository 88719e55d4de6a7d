"""Post-training quantization by ONNX Runtime's quantizer: min-max ranges, per-channel weights, no bias correction."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx

from ..artifact.scheme import Scheme
from ..export.graph.canonical import PROLOGUE
from ..export.quiet import quiet
from .calibration import CalibrationSet


def quantize_ort(model: onnx.ModelProto, scheme: Scheme, calibration: CalibrationSet) -> onnx.ModelProto:
    """Insert QDQ in any scheme."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._feeds: Iterator[dict[str, np.ndarray]] = calibration.feeds(model.graph.input[0].name)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._feeds, None)

    activation = QuantType.QUInt8 if scheme.activations == "uint8" else QuantType.QInt8
    # It warns of pre-processing through the root logger.
    with tempfile.TemporaryDirectory() as scratch, quiet(None):
        path = Path(scratch) / "int8.onnx"
        quantize_static(
            model,
            path,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=scheme.weight_bits == 7,
            activation_type=activation,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=list(PROLOGUE),
            extra_options={
                "ActivationSymmetric": scheme.symmetric_activations,
                "WeightSymmetric": True,
                "QuantizeBias": scheme.quantize_bias,
            },
        )
        return onnx.load(path)
