"""Post-training quantization by NNCF: ranges, per-channel weights, bias correction."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import onnx

from ..artifact.scheme import Scheme
from ..export.graph.canonical import PROLOGUE
from ..export.quiet import quiet
from .calibration import Calibration
from .options import PtqOptions

if TYPE_CHECKING:
    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParameters

# NNCF's own for each kind of layer; convolutions are left out by its pipeline's default.
SMOOTH_CONVOLUTION, SMOOTH_MATMUL = 0.05, 0.95


def quantize_nncf(
    model: onnx.ModelProto, scheme: Scheme, calibration: Calibration, options: PtqOptions
) -> onnx.ModelProto:
    """Insert QDQ in a CPU scheme.

    Args:
        options: as applied.
    """
    os.environ.setdefault("NNCF_CI", "1")  # its own switch that turns telemetry off
    import nncf

    name, held = model.graph.input[0].name, {node.name for node in model.graph.node}

    def feeds() -> Iterator[dict[str, np.ndarray]]:
        return calibration.feeds(name)

    # Progress bars and INFO lines go to stdout, which belongs to results.
    with quiet("nncf"), contextlib.redirect_stdout(io.StringIO()):
        return nncf.quantize(
            model,
            nncf.Dataset(_Reiterable(feeds)),
            preset=nncf.QuantizationPreset(options.preset),
            subset_size=len(calibration),
            fast_bias_correction=options.bias_correction == "fast",
            # NNCF runs SmoothQuant for this model type alone; it changes nothing else in a network without attention.
            model_type=nncf.ModelType.TRANSFORMER if options.smooth else None,
            ignored_scope=nncf.IgnoredScope(names=[*(name for name in PROLOGUE if name in held), *options.float_nodes]),
            advanced_parameters=_advanced(scheme, options),
        )


def _advanced(scheme: Scheme, options: PtqOptions) -> nncf.AdvancedQuantizationParameters:
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedSmoothQuantParameters

    return nncf.AdvancedQuantizationParameters(
        overflow_fix=nncf.OverflowFix.ENABLE if scheme.weight_bits == 7 else nncf.OverflowFix.DISABLE,
        disable_bias_correction=options.bias_correction not in ("fast", "full"),
        activations_range_estimator_params=_ranges(str(options.ranges)),
        smooth_quant_alphas=AdvancedSmoothQuantParameters(convolution=SMOOTH_CONVOLUTION, matmul=SMOOTH_MATMUL),
    )


def _ranges(word: str) -> RangeEstimatorParameters:
    """NNCF's parameters for a word of `PtqOptions.ranges`."""
    from nncf.quantization import range_estimator as nncf_ranges

    if word == "moving-average":
        # Its default, which is the mean for whole tensors and the extremes for the inputs of depthwise layers, that it
        # quantizes per channel. Asked for by name, the mean is applied to those too, and clips rare channels.
        return nncf_ranges.RangeEstimatorParameters()
    if word == "percentile":
        kind, aggregator = nncf_ranges.StatisticsType.QUANTILE, nncf_ranges.AggregatorType
        return nncf_ranges.RangeEstimatorParameters(
            min=nncf_ranges.StatisticsCollectorParameters(kind, aggregator.MIN),
            max=nncf_ranges.StatisticsCollectorParameters(kind, aggregator.MAX),
        )
    named = nncf_ranges.RangeEstimatorParametersSet
    return {"minmax": named.MINMAX, "mse": named.HISTOGRAM}[word]


class _Reiterable:
    """NNCF walks the set more than once: for ranges, then for bias correction."""

    def __init__(self, feeds) -> None:  # type: ignore[no-untyped-def]
        self._feeds = feeds

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return self._feeds()
