"""The calibration set: prepared photos, handed out one by one and counted as they are taken."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ..artifact.manifest import Manifest, TensorSpec
from ..data.prepared import PreparedPhotos
from ..errors import BadInput

log = logging.getLogger(__name__)

FEWEST, FEW = 8, 100
_FLAT = 2.0  # levels of 255: a covered lens has noise of about one


class Calibration(Protocol):
    """What quantizers walk: photos, or arrays by input name (`named_feeds`)."""

    source: str
    hashes: tuple[str, ...]
    taken: int

    def __len__(self) -> int: ...

    def feeds(self, name: str, start: int = 0, stop: int | None = None) -> Iterator[dict[str, np.ndarray]]:
        """One feed a row, batch 1, of those from `start` up to `stop`; `name` is the graph's first input."""
        ...

    def digest(self) -> str:
        """sha256 of all values."""
        ...

    def some(self, most: int) -> np.ndarray | Mapping[str, np.ndarray]:
        """Up to `most` rows, evenly spread over the set."""
        ...

    def usable(self, manifest: Manifest) -> Calibration:
        """What of it fits the model; raises BadInput where that is too little."""
        ...


def fits(rows: np.ndarray, wanted: TensorSpec) -> bool:
    """Whether each row has a tensor's type and shape, in which None is any size."""
    sizes = zip(wanted.shape[1:], rows.shape[1:], strict=False)
    return (
        str(rows.dtype) == wanted.dtype
        and rows.ndim == len(wanted.shape)
        and all(size in (None, has) for size, has in sizes)
    )


def spread_rows(count: int, most: int) -> np.ndarray:
    """Up to `most` of so many rows, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))


@dataclass
class CalibrationSet:
    """Photos as the model takes them.

    Args:
        photos: uint8 `(N, H, W, 3)`.
        source: where they came from, for the manifest: a dataset's name, or "synthesized".
        hashes: pixel hash of each photo, by which scoring refuses them.
        truth: class of each photo, where it is known.
        taken: how many a quantizer has really seen.
    """

    photos: np.ndarray
    source: str
    hashes: tuple[str, ...] = ()
    taken: int = field(default=0)
    truth: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.photos) == 0:
            raise BadInput("the calibration set is empty", "some hundred photos", "give --data with train photos")

    @classmethod
    def of(cls, prepared: PreparedPhotos, source: str) -> CalibrationSet:
        """Prepared photos of a dataset called `source`."""
        truth = tuple(int(label) for label in prepared.truth)
        return cls(np.asarray(prepared.array()), source, prepared.hashes, truth=truth)

    def __len__(self) -> int:
        return len(self.photos)

    def feeds(self, name: str, start: int = 0, stop: int | None = None) -> Iterator[dict[str, np.ndarray]]:
        """One feed a photo, batch 1, of those from `start` up to `stop`."""
        for photo in self.photos[start:stop]:
            self.taken += 1
            yield {name: photo[None]}

    def digest(self) -> str:
        """sha256 of all pixels."""
        return hashlib.sha256(np.ascontiguousarray(self.photos).tobytes()).hexdigest()

    def some(self, most: int) -> np.ndarray:
        """Up to `most` photos, evenly spread over the set."""
        return np.ascontiguousarray(self.photos[spread_rows(len(self), most)])

    def rows(self, kept: list[int]) -> CalibrationSet:
        """Some of the photos, none of them taken yet."""
        hashes = tuple(self.hashes[row] for row in kept) if self.hashes else ()
        truth = tuple(self.truth[row] for row in kept) if self.truth else ()
        return dataclasses.replace(self, photos=self.photos[kept], hashes=hashes, truth=truth, taken=0)

    def usable(self, manifest: Manifest) -> CalibrationSet:
        """Without photos of one colour and repeated ones, none taken yet; what is left out, and what is thin about the
        set, is told in lines of the log.

        Raises:
            BadInput: photos of another size or type than the model takes, or fewer than `FEWEST` left.
        """
        self._check_size(manifest)
        blank = [row for row, photo in enumerate(self.photos) if photo.std(axis=(0, 1)).max() < _FLAT]
        first: dict[bytes, int] = {}
        for row, photo in enumerate(self.photos):
            first.setdefault(hashlib.sha256(np.ascontiguousarray(photo).tobytes()).digest(), row)
        kept = sorted(set(first.values()) - set(blank))
        for count, what in ((len(blank), "of one colour"), (len(self) - len(first), "with the pixels of another")):
            if count:
                log.warning("calibration: left out %d of %d photos, %s", count, len(self), what)
        if len(kept) < FEWEST:
            raise BadInput(
                f"{len(kept)} usable calibration photos of {len(self)}",
                f"some hundred, at least {FEWEST}, that differ and are not of one colour",
                "give --data with more photos, or a larger --per-class",
            )
        found = dataclasses.replace(self, taken=0) if len(kept) == len(self) else self.rows(kept)
        found._say_what_is_thin(len(manifest.labels))
        return found

    def _check_size(self, manifest: Manifest) -> None:
        wanted, found = manifest.inputs[0], self.photos
        if not fits(found, wanted):
            raise BadInput(
                f"calibration photos {found.dtype} {'×'.join(map(str, found.shape[1:]))}",
                f"{wanted.dtype} {'×'.join(map(str, wanted.shape[1:]))}, as the model takes them",
                "prepare them with the artifact's own preprocessing",
            )

    def _say_what_is_thin(self, classes: int) -> None:
        if len(self) < FEW:
            log.warning("calibration: %d photos are few, ranges follow them; some hundred are usual", len(self))
        lacking = classes - len(set(self.truth))
        if self.truth and lacking > 0:
            log.warning("calibration: %d of %d classes have no photo", lacking, classes)
