"""Post-training quantization by NNCF: min-max ranges, then fast bias correction."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator

import numpy as np
import onnx

from ..artifact.scheme import Scheme
from ..errors import BadInput
from ..export.graph.canonical import PROLOGUE
from ..export.quiet import quiet
from .calibration import CalibrationSet


def quantize_nncf(model: onnx.ModelProto, scheme: Scheme, calibration: CalibrationSet) -> onnx.ModelProto:
    """Insert QDQ in a CPU scheme.

    Raises:
        BadInput: NNCF does not write that scheme.
    """
    if scheme.symmetric_activations:
        raise BadInput(
            f"NNCF writes uint8 zero points, not scheme {scheme.name!r}",
            "scheme cpu or cpu-vnni",
            "use --quantizer ort",
        )
    os.environ.setdefault("NNCF_CI", "1")  # its own switch that turns telemetry off
    import nncf

    overflow = nncf.OverflowFix.ENABLE if scheme.weight_bits == 7 else nncf.OverflowFix.DISABLE
    name = model.graph.input[0].name

    def feeds() -> Iterator[dict[str, np.ndarray]]:
        return calibration.feeds(name)

    # Progress bars and INFO lines go to stdout, which belongs to results.
    with quiet("nncf"), contextlib.redirect_stdout(io.StringIO()):
        return nncf.quantize(
            model,
            nncf.Dataset(_Reiterable(feeds)),
            subset_size=len(calibration),
            ignored_scope=nncf.IgnoredScope(names=list(PROLOGUE)),
            advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=overflow),
        )


class _Reiterable:
    """NNCF walks the set more than once: for ranges, then for bias correction."""

    def __init__(self, feeds) -> None:  # type: ignore[no-untyped-def]
        self._feeds = feeds

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return self._feeds()
