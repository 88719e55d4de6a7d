"""The calibration set: prepared photos, handed out one by one and counted as they are taken."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ..data.prepared import PreparedPhotos
from ..errors import BadInput


@dataclass
class CalibrationSet:
    """Photos as the model takes them.

    Args:
        photos: uint8 `(N, H, W, 3)`.
        source: where they came from, for the manifest: a dataset's name, or "synthesized".
        hashes: pixel hash of each photo, by which scoring refuses them.
        taken: how many a quantizer has really seen.
    """

    photos: np.ndarray
    source: str
    hashes: tuple[str, ...] = ()
    taken: int = field(default=0)

    def __post_init__(self) -> None:
        if len(self.photos) == 0:
            raise BadInput("the calibration set is empty", "some hundred photos", "give --data with train photos")

    @classmethod
    def of(cls, prepared: PreparedPhotos, source: str) -> CalibrationSet:
        """Prepared photos of a dataset called `source`."""
        return cls(np.asarray(prepared.array()), source, prepared.hashes)

    def __len__(self) -> int:
        return len(self.photos)

    def feeds(self, name: str) -> Iterator[dict[str, np.ndarray]]:
        """One feed a photo, batch 1."""
        for photo in self.photos:
            self.taken += 1
            yield {name: photo[None]}

    def digest(self) -> str:
        """sha256 of all pixels."""
        return hashlib.sha256(np.ascontiguousarray(self.photos).tobytes()).hexdigest()
