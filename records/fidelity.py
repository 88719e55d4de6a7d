"""How near answers that are no class stay to those they should be: pictures by PSNR, maps of classes by IoU."""

from __future__ import annotations

import numpy as np

from ..errors import BadInput


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
    if not peak > 0:
        raise BadInput(f"peak {peak}", "more than 0: 255 of uint8 pictures, 1 of a sigmoid's, 2 of a tanh's")
    gap = np.asarray(found, np.float64) - np.asarray(wanted, np.float64)
    error = np.square(gap).reshape(len(gap), -1).mean(axis=1)
    with np.errstate(divide="ignore"):
        return 10 * np.log10(peak**2 / error)


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
    pairs = np.bincount(wanted.ravel().astype(np.int64) * classes + found.ravel(), minlength=classes**2)
    counts = pairs.reshape(classes, classes)
    both, either = np.diag(counts), counts.sum(axis=0) + counts.sum(axis=1) - np.diag(counts)
    with np.errstate(invalid="ignore"):
        return both / either


def _require_alike(found: np.ndarray, wanted: np.ndarray) -> None:
    if found.shape != wanted.shape or not found.size:
        raise BadInput(f"arrays of {found.shape} and {wanted.shape}", "two of one shape, with values in them")
