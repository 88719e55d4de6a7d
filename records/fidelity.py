"""How near answers that are no class stay to those they should be: pictures by PSNR, maps of classes by IoU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..errors import BadInput
from .closeness import Closeness, closeness, closeness_of


def psnr(found: np.ndarray, wanted: np.ndarray, peak: float) -> np.ndarray:
    """Peak signal-to-noise ratio of each row, dB, float64 `(N,)`; infinite where nothing differs.

    10 · log₁₀(peak² / mean squared error) (Wang & Bovik, "Mean squared error: love it or leave it?", IEEE Signal
    Processing Magazine 26(1), 2009, which also says what it does not see: structure).

    Args:
        found, wanted: `(N, …)` of one shape, any real type.
        peak: greatest difference that there can be: 255 of uint8 pictures, 1 of sigmoid's, 2 of tanh's.

    Raises:
        BadInput: shapes differ, there is nothing to compare, or the peak is not above 0.
    """
    _require_alike(found, wanted)
    return _psnr(_squares(found, wanted), peak)


def iou(found: np.ndarray, wanted: np.ndarray, classes: int) -> np.ndarray:
    """Intersection over union of each class over all pixels, float64 `(classes,)`; NaN of one that occurs in neither.

    The segmentation measure of Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 88(2), 2010;
    mean IoU is `np.nanmean` of it.

    Args:
        found, wanted: classes of pixels, integers 0 to `classes - 1`, of one shape: `logits.argmax(axis=1)`.

    Raises:
        BadInput: shapes differ, there is nothing to compare, or a value is no class.
    """
    _require_alike(found, wanted)
    for array in (found, wanted):
        if array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= classes:
            raise BadInput(f"{array.dtype} values from {array.min()} to {array.max()}",
                           f"integers from 0 to {classes - 1}, one a pixel")  # fmt: skip
    return _iou(_counted(found, wanted, classes))


def _psnr(errors: np.ndarray, peak: float) -> np.ndarray:
    if not peak > 0:
        raise BadInput(f"peak {peak}", "more than 0: 255 of uint8 pictures, 1 of a sigmoid's, 2 of a tanh's")
    with np.errstate(divide="ignore"):
        return 10 * np.log10(peak**2 / errors)


def _squares(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Mean squared error of each row."""
    gap = np.asarray(found, np.float64) - np.asarray(wanted, np.float64)
    return np.square(gap).reshape(len(gap), -1).mean(axis=1)


def _counted(found: np.ndarray, wanted: np.ndarray, classes: int) -> np.ndarray:
    """Pixels by wanted and found class, `(classes, classes)`."""
    pairs = wanted.ravel().astype(np.int64) * classes + found.ravel().astype(np.int64)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def _iou(counts: np.ndarray) -> np.ndarray:
    both, either = np.diag(counts), counts.sum(axis=0) + counts.sum(axis=1) - np.diag(counts)
    with np.errstate(invalid="ignore"):
        return both / either


_MOST_CLASSES = 4096  # more are no classes: instances, or a mark of pixels that do not count


@dataclass(frozen=True)
class Fidelity:
    """How near one output of one artifact stays to what it should be, kept so that rows may come in parts.

    Args:
        close: of its values; nothing where it is compared with classes.
        errors: of a picture, the mean squared error of each row.
        counts: of a map of classes, pixels by wanted and found class, `(classes, classes)`.
    """

    close: Closeness = field(default_factory=Closeness)
    errors: tuple[float, ...] = ()
    counts: tuple[tuple[int, ...], ...] = ()

    def __add__(self, more: Fidelity) -> Fidelity:
        size = max(len(self.counts), len(more.counts))
        counts = _padded(self.counts, size) + _padded(more.counts, size)
        return Fidelity(self.close + more.close, self.errors + more.errors, _nested(counts))

    def psnr(self, peak: float | None = None) -> np.ndarray:
        """Of each row, dB; `peak` is the span of the wanted values where it is not given. Empty of what is no picture,
        and of pictures of one grey without a peak.
        """
        peak = peak or self.close.high - self.close.low
        return _psnr(np.array(self.errors), peak) if self.errors and peak > 0 else np.zeros(0)

    def iou(self) -> np.ndarray:
        """Of each class, NaN of one that occurs in neither. Empty of what is no map of classes."""
        return _iou(np.array(self.counts, np.int64)) if self.counts else np.zeros(0)

    @property
    def alike(self) -> float:
        """Part of the pixels that have the same class; NaN of what is no map of classes."""
        counts = np.array(self.counts, np.int64)
        return float(np.trace(counts) / counts.sum()) if counts.size else float("nan")

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def from_plain(raw: Mapping[str, Any]) -> Fidelity:
    """What `Fidelity.plain` wrote."""
    return Fidelity(closeness_of(raw["close"]), tuple(raw["errors"]), _nested(raw["counts"]))


def fidelity(task: str, found: np.ndarray, wanted: np.ndarray) -> Fidelity:
    """Compare an output of a network of this task, rows `(N, …)`, with what it should be.

    Args:
        task: of "segmentation", outputs `(N, classes, H, W)` are compared by class, and integers `(N, H, W)` are taken
            for classes; of "autoencoder" and "generator", outputs `(N, channels, H, W)` are pictures. What is neither
            is compared by its values alone.
        wanted: another's output, or the truth: classes, integers `(N, H, W)`, for a segmentation.

    Raises:
        BadInput: shapes differ, or a wanted class is none of the network's.
    """
    if task == "segmentation" and found.ndim == wanted.ndim + 1 and wanted.dtype.kind in "iu":
        return Fidelity(counts=_classes(found, wanted))
    _require_alike(found, wanted)
    close = closeness(wanted, found)
    if task == "segmentation" and (_is_scores(found) or _is_classes(found)):
        return Fidelity(close, counts=_classes(found, wanted))
    if task in ("autoencoder", "generator") and found.ndim == 4:
        return Fidelity(close, errors=tuple(_squares(found, wanted).tolist()))
    return Fidelity(close)


def _is_scores(array: np.ndarray) -> bool:
    return array.dtype.kind == "f" and array.ndim == 4 and array.shape[1] > 1


def _is_classes(array: np.ndarray) -> bool:
    return array.dtype.kind in "iu" and array.ndim == 3 and bool(array.min() >= 0)


def _classes(found: np.ndarray, wanted: np.ndarray) -> tuple[tuple[int, ...], ...]:
    known = found.shape[1] if _is_scores(found) else None
    one, other = (array.argmax(axis=1) if _is_scores(array) else array for array in (found, wanted))
    _require_alike(one, other)
    largest = int(max(one.max(), other.max()))
    classes = known or min(largest + 1, _MOST_CLASSES)
    if other.min() < 0 or largest >= classes:
        raise BadInput(f"classes from {other.min()} to {largest}", f"integers from 0 to {classes - 1}")
    return _nested(_counted(one, other, classes))


def _padded(counts: Sequence[Sequence[int]], size: int) -> np.ndarray:
    whole = np.zeros((size, size), np.int64)
    whole[: len(counts), : len(counts)] = np.array(counts, np.int64).reshape(len(counts), len(counts))
    return whole


def _nested(counts: Sequence[Sequence[int]] | np.ndarray) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(each) for each in row) for row in counts)


def _require_alike(found: np.ndarray, wanted: np.ndarray) -> None:
    if found.shape != wanted.shape or not found.size:
        raise BadInput(f"arrays of {found.shape} and {wanted.shape}", "two of one shape, with values in them")
