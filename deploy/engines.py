"""Which engine reads which artifact rightly: by its format and int8 dialect alone, nothing is loaded."""

from __future__ import annotations

from ..artifact.manifest import Manifest
from ..artifact.scheme import SCHEMES

CPU_ENGINES = ("onnxruntime", "openvino")  # those whose C++ API a plain folder has a program for
_READS = {
    "onnxruntime": ("onnx",),
    "openvino": ("onnx", "openvino"),
    "tensorrt": ("tensorrt",),
    "tensorrt_rtx": ("tensorrt_rtx",),
    "torch": ("pt2",),
}


def obstacle(manifest: Manifest, engine: str) -> str:
    """Why an engine does not run an artifact rightly, in a few words; empty if it does."""
    if manifest.format not in _READS.get(engine, ()):
        return f"{engine} does not read {manifest.format}"
    return dialect_obstacle(manifest, engine)


def dialect_obstacle(manifest: Manifest, engine: str) -> str:
    """The same for the graph alone, whatever file it is in: what an engine built from it would answer."""
    scheme = SCHEMES.get(manifest.scheme or "")
    if scheme and engine not in scheme.engines:
        return f"its int8 scheme {scheme.name} is for {' and '.join(scheme.engines)}"
    if engine == "onnxruntime" and manifest.precision in ("bf16", "fp8"):
        return f"onnxruntime does not run a {manifest.precision} graph on a CPU"
    return ""
