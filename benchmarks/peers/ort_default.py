"""ONNX Runtime's `quantize_static` with its defaults."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from job import Job, run


def make(job: Job) -> dict[str, Any]:
    """QDQ, int8 activations and weights, per tensor, min-max ranges: what it does unasked."""
    from onnxruntime.quantization import quantize_static

    quantize_static(job.model, job.result, Reader(job.feeds()))
    return {"call": "onnxruntime.quantization.quantize_static", "options": "defaults"}


class Reader:
    """What the calibrator asks for: `get_next`, None at the end; it is handed over as a `CalibrationDataReader`."""

    def __init__(self, feeds: Iterator[dict[str, np.ndarray]]) -> None:
        self._feeds = feeds

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next photo."""
        return next(self._feeds, None)


if __name__ == "__main__":
    run(make, ("onnxruntime", "onnx"))
