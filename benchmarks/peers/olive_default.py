"""Olive's OnnxStaticQuantization with its defaults, as a workflow for the CPU."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from job import Job, run


def make(job: Job) -> dict[str, Any]:
    """QDQ, int8 activations and weights, after ONNX Runtime's own pre-processing: what Olive does unasked."""
    from olive.workflows import run as olive

    register(job)
    photos = {"name": "photos", "type": "DataContainer", "load_dataset_config": {"type": "tiffin_photos"}}
    device = {"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}
    olive(
        {
            "input_model": {"type": "ONNXModel", "model_path": str(job.model)},
            "systems": {"local": {"type": "LocalSystem", "accelerators": [device]}},
            "data_configs": [photos],
            "passes": {"quantize": {"type": "OnnxStaticQuantization", "data_config": "photos"}},
            "host": "local",
            "target": "local",
            "cache_dir": str(job.out / "cache"),
            "output_dir": str(job.out / "olive"),
        }
    )
    collect(job)
    return {"call": "olive run", "pass": "OnnxStaticQuantization", "options": "defaults"}


def register(job: Job) -> None:
    """The photos under a name that Olive's configuration can say."""
    from olive.data.registry import Registry
    from torch.utils.data import Dataset

    class Photos(Dataset):
        def __len__(self) -> int:
            return len(job.photos)

        def __getitem__(self, index: int) -> Any:
            job.taken += 1
            return {job.name: job.photos[index]}, 0

    @Registry.register_dataset("tiffin_photos")
    def photos(**_: Any) -> Photos:
        return Photos()


def collect(job: Job) -> None:
    """Where Olive left the model, as one file."""
    import onnx

    found = sorted(Path(job.out, "olive").rglob("*.onnx"))
    if len(found) != 1:
        raise SystemExit(f"Olive left {len(found)} ONNX files")
    onnx.save(onnx.load(found[0]), job.result)
    shutil.rmtree(job.out / "cache", ignore_errors=True)


if __name__ == "__main__":
    run(make, ("olive-ai", "onnxruntime", "onnx", "torch"))
