"""How right a network in torch is on labelled photos."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..artifact import Preprocess
from ..data.prepared import PreparedPhotos
from ..records import Predictions
from ..records.classification import confusion, top_k
from .run import Evaluate
from .views import Student, pixels_of


def logits_of(module: nn.Module, photos: PreparedPhotos, host: Preprocess) -> torch.Tensor:
    """Of a module in eval mode, float32 `(N, classes)`; photos prepared as it is scored."""
    student = Student(module, host)
    with torch.inference_mode():
        return torch.cat([student.logits(pixels) for pixels in pixels_of(photos)])


def evaluation(photos: PreparedPhotos, host: Preprocess) -> Evaluate:
    """Mean cross-entropy in nats and top-1 of a module on these photos."""
    truth = torch.from_numpy(photos.truth)
    return lambda module: loss_and_top_1(logits_of(module, photos, host), truth)


def loss_and_top_1(logits: torch.Tensor, truth: torch.Tensor) -> tuple[float, float]:
    """Mean cross-entropy in nats, share of right answers."""
    return F.cross_entropy(logits, truth).item(), (logits.argmax(1) == truth).float().mean().item()


def score(module: nn.Module, photos: PreparedPhotos, host: Preprocess, role: str) -> dict[str, Any]:
    """What a training record says of one set of photos, as plain values.

    Returns:
        role, photos, photos_sha256, kind; for photos with true labels top_1 with Wilson's interval at 95 % (see
        `Estimate`) and confusion: class → answer → photos, the cells that are not 0 alone, classes by index.
    """
    logits = logits_of(module, photos, host).numpy()
    told = {"role": role, "photos": len(photos), "photos_sha256": photos.digest(), "kind": photos.kind}
    if photos.kind != "photos":
        return told
    found = Predictions.from_logits(photos.hashes, photos.truth, logits, photos.kind)
    cells = confusion(found, logits.shape[1])
    top_1 = top_k(found)
    interval = {"value": top_1.value, "low": top_1.low, "high": top_1.high, "method": top_1.method}
    rows = {str(truth): {str(answer): int(row[answer]) for answer in np.flatnonzero(row)}
            for truth, row in enumerate(cells) if row.any()}  # fmt: skip
    return {**told, "top_1": interval, "confusion": rows}
