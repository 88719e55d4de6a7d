"""Is the exported model the trained one? Logits of real photos, engine against torch fp32."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from ..artifact import Artifact, RunConfig
from ..errors import ParityFailed
from ..train import Checkpoint
from .logits import engine_logits

TOLERANCE = 1e-4  # of the largest absolute logit
_BATCH = 16


@dataclass(frozen=True)
class Parity:
    """`max_relative` is the largest absolute difference of any logit over the largest absolute logit."""

    photos: int
    max_relative: float
    top1_agreement: float
    tolerance: float
    backend: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def torch_logits(checkpoint: Checkpoint, photos: np.ndarray, batch: int = _BATCH) -> np.ndarray:
    """The trained network's own answers in float32: uint8 `(N, H, W, 3)` → `(N, classes)`."""
    mean, std = (torch.tensor(value) for value in (checkpoint.preprocess.mean, checkpoint.preprocess.std))
    rows = []
    with torch.inference_mode():
        for start in range(0, len(photos), batch):
            images = (torch.tensor(photos[start : start + batch]).float() - mean) / std
            rows.append(checkpoint.module(images.permute(0, 3, 1, 2)).numpy())
    return np.concatenate(rows)


def measure_parity(
    checkpoint: Checkpoint, artifact: Artifact, photos: np.ndarray, backend: str = "onnxruntime"
) -> Parity:
    """Compare an artifact on one engine with the checkpoint in torch."""
    size = artifact.manifest.inputs[0].shape[0]
    wanted = torch_logits(checkpoint, photos, size or _BATCH)
    return compared(engine_logits(artifact, RunConfig(backend), photos), wanted, backend)


def compared(found: np.ndarray, wanted: np.ndarray, backend: str, tolerance: float | None = None) -> Parity:
    """Answers `(N, classes)` of an engine with those of what was exported.

    Args:
        tolerance: None for `TOLERANCE`.
    """
    return Parity(
        photos=len(found),
        max_relative=float(np.abs(found - wanted).max() / np.abs(wanted).max()),
        top1_agreement=float((found.argmax(1) == wanted.argmax(1)).mean()),
        tolerance=TOLERANCE if tolerance is None else tolerance,
        backend=backend,
    )


def require_parity(parity: Parity, original: str = "torch") -> Parity:
    """Hand parity on.

    Args:
        original: what was exported.

    Raises:
        ParityFailed: beyond the tolerance, or not a number.
    """
    if not parity.max_relative <= parity.tolerance:
        raise ParityFailed(
            f"exported logits differ from {original} by {parity.max_relative:.2e} of the largest logit "
            f"(top-1 agreement {parity.top1_agreement:.2%} on {parity.photos} photos)",
            f"at most {parity.tolerance:.0e}",
            "nothing was written; report the architecture and the versions of torch, onnx and onnxruntime",
        )
    return parity
