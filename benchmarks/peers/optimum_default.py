"""Optimum's ORTQuantizer with `AutoQuantizationConfig.avx2`, static."""

from __future__ import annotations

import shutil
from typing import Any

from job import Job, run


def make(job: Job) -> dict[str, Any]:
    """Asymmetric uint8 activations and symmetric uint8 weights per channel, min-max ranges: its choice for AVX2."""
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import AutoCalibrationConfig, AutoQuantizationConfig

    quantizer, chosen = ORTQuantizer(job.model), AutoQuantizationConfig.avx2(is_static=True)
    dataset = Photos(job)
    ranges = quantizer.fit(
        dataset,
        AutoCalibrationConfig.minmax(dataset),
        onnx_augmented_model_name=str(job.out / "augmented.onnx"),
        operators_to_quantize=chosen.operators_to_quantize,
    )
    folder = quantizer.quantize(chosen, job.out / "optimum", calibration_tensors_range=ranges)
    shutil.copyfile(folder / "model_quantized.onnx", job.result)
    return {"call": "ORTQuantizer.quantize", "options": "AutoQuantizationConfig.avx2(is_static=True), minmax"}


class Photos:
    """As much of a `datasets.Dataset` as calibration reads: rows of one photo, and a name to print."""

    info = type("Info", (), {"dataset_name": "photos", "builder_name": "photos", "config_name": "default"})
    builder_name = config_name = "photos"
    split, num_rows = "calibrate", 0

    def __init__(self, job: Job) -> None:
        self._job = job
        self.num_rows = len(job.photos)

    def __iter__(self) -> Any:
        return ({name: photo[0] for name, photo in feed.items()} for feed in self._job.feeds())


if __name__ == "__main__":
    run(make, ("optimum", "optimum-onnx", "onnxruntime", "onnx", "torch", "transformers"))
