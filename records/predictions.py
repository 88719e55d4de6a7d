"""What a subject answered to each photo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TOP = 5


@dataclass(frozen=True)
class Predictions:
    """One row a photo, in the order of `photos`.

    Args:
        photos: sha256 of the decoded pixels, hex.
        truth: label index, int64 `(N,)`.
        top: indices of the likeliest labels, best first, int32 `(N, ≤5)`.
        scores: their logits, float32, same shape.
        kind: "photos", or "synthesized" whose truth is the reference's own answer and never an accuracy.
        logits: of every label, float32 `(N, classes)`; None in records of schema 1.
    """

    photos: tuple[str, ...]
    truth: np.ndarray
    top: np.ndarray
    scores: np.ndarray
    kind: str = "photos"
    logits: np.ndarray | None = None

    @classmethod
    def from_logits(cls, photos: tuple[str, ...], truth: np.ndarray, logits: np.ndarray, kind: str) -> Predictions:
        """Keep float32 logits `(N, classes)` and their top; ties go to the lower index."""
        kept = np.asarray(logits, np.float32)
        top = np.argsort(-kept, axis=1, kind="stable")[:, :TOP].astype(np.int32)
        return cls(photos, np.asarray(truth, np.int64), top, np.take_along_axis(kept, top, 1), kind, kept)

    def __len__(self) -> int:
        return len(self.photos)
