"""NNCF's `quantize` with its defaults, on the ONNX model."""

from __future__ import annotations

from typing import Any

from job import Job, run


def make(job: Job) -> dict[str, Any]:
    """Min-max ranges, fast bias correction, `overflow_fix` on the first layer only: what NNCF does unasked."""
    import nncf
    import onnx

    onnx.save(nncf.quantize(onnx.load(job.model), nncf.Dataset(Photos(job))), job.result)
    return {"call": "nncf.quantize", "options": "defaults"}


class Photos:
    """NNCF walks its dataset more than once."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def __iter__(self) -> Any:
        return self._job.feeds()


if __name__ == "__main__":
    run(make, ("nncf", "onnx", "onnxruntime"))
