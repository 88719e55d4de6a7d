"""A calibration set of a network that takes no photos: arrays by input name, handed out row by row."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..artifact.manifest import Manifest, TensorSpec
from ..errors import BadInput
from .calibration import FEW, FEWEST, fits, spread_rows

log = logging.getLogger(__name__)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Of a file that `np.savez` wrote, an array an input or output, `(N, …)`, with one N for all.

    Raises:
        BadInput: no such file, one of objects, or first axes that differ.
    """
    try:
        with np.load(path) as file:
            found = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        expected = "an .npz of plain arrays, one an input, by its name"
        raise BadInput(f"{path}: cannot be read as feeds ({error})", expected, "write it: np.savez(path, **feeds)"
                       ) from error  # fmt: skip
    _require_rows(found, path.name)
    return found


def _require_rows(arrays: Mapping[str, np.ndarray], source: str) -> None:
    rows = {len(array) if array.ndim else 0 for array in arrays.values()}
    if len(rows) != 1 or not max(rows):
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "none"
        raise BadInput(f"{source}: arrays {shapes}", "some, with one number of rows in their first axis")


@dataclass
class CalibrationFeeds:
    """What `CalibrationSet` is of photos.

    Args:
        arrays: input name → `(N, …)`, with one N for all.
        source: where they came from, for the manifest.
        hashes: none: no photo that could be scored.
        taken: rows that a quantizer has really seen.
    """

    arrays: Mapping[str, np.ndarray]
    source: str
    hashes: tuple[str, ...] = ()
    taken: int = field(default=0)

    def __post_init__(self) -> None:
        _require_rows(self.arrays, self.source)

    @classmethod
    def read(cls, path: Path) -> CalibrationFeeds:
        """As `read_arrays` does, called by the file's name."""
        return cls(read_arrays(path), path.name)

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def feeds(self, name: str, start: int = 0, stop: int | None = None) -> Iterator[dict[str, np.ndarray]]:
        """One feed a row, batch 1, by the arrays' own names; `name` is for sets of photos, which have none."""
        for row in range(*slice(start, stop).indices(len(self))):
            self.taken += 1
            yield {input_: array[row : row + 1] for input_, array in self.arrays.items()}

    def digest(self) -> str:
        """sha256 of all values, by name."""
        found = hashlib.sha256()
        for name, array in sorted(self.arrays.items()):
            found.update(f"{name} {array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def some(self, most: int) -> dict[str, np.ndarray]:
        """Up to `most` rows, evenly spread over the set."""
        rows = spread_rows(len(self), most)
        return {name: np.ascontiguousarray(array[rows]) for name, array in self.arrays.items()}

    def usable(self, manifest: Manifest) -> CalibrationFeeds:
        """All rows, checked, none taken yet; few of them are told in a line of the log.

        Raises:
            BadInput: names, types or shapes are not the manifest's, a value is not finite, or fewer than `FEWEST` rows.
        """
        wanted = {spec.name: spec for spec in manifest.inputs}
        if self.arrays.keys() != wanted.keys() or not all(fits(self.arrays[name], wanted[name]) for name in wanted):
            raise BadInput(f"{self.source}: {_words(self.arrays)}", _words(wanted))
        odd = [name for name, array in self.arrays.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]
        if odd:
            raise BadInput(f"{self.source}: {odd[0]} holds NaN or infinite values", "numbers")
        if len(self) < FEWEST:
            raise BadInput(f"{self.source}: {len(self)} rows", f"some hundred, at least {FEWEST}, of what it will meet")
        if len(self) < FEW:
            log.warning("calibration: %d rows are few, ranges follow them; some hundred are usual", len(self))
        return dataclasses.replace(self, taken=0)


def _words(rows: Mapping[str, np.ndarray] | Mapping[str, TensorSpec]) -> str:
    return ", ".join(
        f"{name} {each.dtype}({', '.join('any' if size is None else str(size) for size in ('N', *each.shape[1:]))})"
        for name, each in rows.items()
    )
