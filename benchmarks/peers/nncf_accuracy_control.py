"""NNCF's `quantize_with_accuracy_control`, its default bound of 0.01, validated on photos of no other role."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from job import Job, run
from nncf_default import Photos

MAX_DROP = 0.01  # its default; told here for the record


def make(job: Job) -> dict[str, Any]:
    """Quantizes, and gives operations back to float until top-1 on the validation photos has lost no more."""
    import nncf
    import onnx

    told: list[float] = []

    def validate(model: Any, pairs: Iterable[tuple[dict[str, np.ndarray], int]]) -> tuple[float, list[float]]:
        right = answers(model, pairs)
        told.append(float(np.mean(right)))
        return told[-1], right

    pairs = [({job.name: photo[None]}, int(label)) for photo, label in zip(job.validation, job.labels, strict=True)]
    found = nncf.quantize_with_accuracy_control(
        onnx.load(job.model), nncf.Dataset(Photos(job)), nncf.Dataset(pairs, lambda pair: pair[0]), validate,
        max_drop=MAX_DROP,
    )  # fmt: skip
    onnx.save(found, job.result)
    return {"call": "nncf.quantize_with_accuracy_control", "max_drop": MAX_DROP, "validated_on": len(pairs),
            "top1_seen": told}  # fmt: skip


def answers(model: Any, pairs: Iterable[tuple[dict[str, np.ndarray], int]]) -> list[float]:
    """1 for each photo that OpenVINO gets right, in float32 where not quantized: the engine that the result is for."""
    import openvino as ov

    core = ov.Core()
    read = core.read_model(model.SerializeToString())
    compiled = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return [float(np.argmax(compiled(feed)[0]) == label) for feed, label in pairs]


if __name__ == "__main__":
    run(make, ("nncf", "onnx", "onnxruntime", "openvino"))
