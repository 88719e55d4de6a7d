"""What a subject answered to each photo."""

from __future__ import annotations

from collections.abc import Sequence
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

    def beside(self, reference: Predictions | None) -> Predictions | None:
        """The reference, where it answered these very photos; else None."""
        return reference if reference is not None and reference.photos == self.photos else None

    def rows(self, index: Sequence[int] | np.ndarray | slice) -> Predictions:
        """Of some photos, in the order of the index, with all that is known of them."""
        rows = np.arange(len(self))[index]
        photos, logits = tuple(self.photos[row] for row in rows), None if self.logits is None else self.logits[rows]
        return Predictions(photos, self.truth[rows], self.top[rows], self.scores[rows], self.kind, logits)


def joined(parts: Sequence[Predictions]) -> Predictions:
    """Answers to several lists of photos, one after the other; without their logits."""
    arrays = ((part.truth, part.top, part.scores) for part in parts)
    truth, top, scores = (np.concatenate(each) for each in zip(*arrays, strict=True))
    photos = tuple(photo for part in parts for photo in part.photos)
    return Predictions(photos, truth, top, scores, parts[0].kind)
