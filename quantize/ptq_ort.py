"""Post-training quantization by ONNX Runtime's quantizer: ranges, per-channel weights, no bias correction."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from ..artifact.scheme import Scheme
from ..export.graph.canonical import PROLOGUE
from ..export.quiet import quiet
from .calibration import CalibrationSet
from .options import PtqOptions

if TYPE_CHECKING:
    from onnxruntime.quantization import CalibrationDataReader

_CHUNK = 16  # photos whose tensors a histogram takes in at once: some 50 MB each for a mobile network


def quantize_ort(
    model: onnx.ModelProto, scheme: Scheme, calibration: CalibrationSet, options: PtqOptions
) -> onnx.ModelProto:
    """Insert QDQ in any scheme.

    Args:
        options: as applied.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    words = {"percentile": CalibrationMethod.Percentile, "entropy": CalibrationMethod.Entropy}
    types = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}
    # It warns of pre-processing through the root logger.
    with tempfile.TemporaryDirectory() as scratch, quiet(None):
        path = Path(scratch) / "int8.onnx"
        quantize_static(
            model,
            path,
            _reader(calibration, model.graph.input[0].name),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=scheme.weight_bits == 7,
            activation_type=types[scheme.activations],
            weight_type=types[scheme.weights],
            nodes_to_exclude=[*PROLOGUE, *options.float_nodes],
            calibrate_method=words.get(str(options.ranges), CalibrationMethod.MinMax),
            extra_options={
                "ActivationSymmetric": scheme.symmetric_activations,
                "WeightSymmetric": scheme.weights == "int8",
                "QuantizeBias": scheme.quantize_bias,
                "CalibMovingAverage": options.ranges == "moving-average",
                # Histograms would else hold every tensor of every photo at once (onnxruntime#10503).
                **({"CalibStridedMinMax": _stride(len(calibration))} if options.ranges in words else {}),
            },
        )
        return onnx.load(path)


def _stride(photos: int) -> int:
    """The largest chunk up to `_CHUNK` that divides the set: ONNX Runtime takes no other."""
    return max(size for size in range(1, _CHUNK + 1) if photos % size == 0)


def _reader(calibration: CalibrationSet, name: str) -> CalibrationDataReader:
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
