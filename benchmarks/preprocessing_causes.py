"""Why a transform prepares photos otherwise: every other way that is usual is tried on the photos that differ most."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from ..artifact import Preprocess
from ..artifact.manifest import FITS, ROUNDINGS
from ..runtime.decode import decode
from ..runtime.preprocess import FILTERS, fit, prepare
from .explain.feeds import without_antialias
from .preprocessing import Pair, levels, opened

# Of the shorter side: all of it, and what torchvision and timm resize to for 224: 256, 232, 236 and 248 pixels.
_CROPS = (1.0, 0.875, 224 / 232, 0.95, 0.9)
_STRIDE = 3  # every so-many-th pixel decides
_EXPLAINED = 1.5  # levels at most that are left by what is the same but for rounding
_SAME = 0.1  # levels of mean difference below which nothing is left to explain
_WORTH = 2.0  # each further change must halve what is left

# Mean and std in levels.
_NORMALIZATIONS = {
    "values from 0 to 255, not normalized": ((0.0,) * 3, (1.0,) * 3),
    "values from 0 to 1, not normalized further": ((0.0,) * 3, (255.0,) * 3),
    "values from -1 to 1 (mean and std 0.5)": ((127.5,) * 3, (127.5,) * 3),
    "ImageNet's mean and std": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}

_ROUNDED = {
    "nearest": "size of the resized photo rounded to the nearest, corner of the crop down",
    "torchvision": "size and corner of the crop rounded as torchvision does",
    "transformers": "size and corner of the crop rounded as transformers does",
}

Way = Callable[[Path], np.ndarray]


@dataclass(frozen=True)
class Cause:
    """What would explain the difference.

    Args:
        changes: what the transform does otherwise, such as "photos resized by bilinear".
        left: largest difference that stays when ours does so too, levels; on every third pixel.
    """

    changes: tuple[str, ...]
    left: float


def likeliest(host: Preprocess, pairs: Sequence[Pair]) -> Cause | None:
    """The simplest way of preparing that explains the difference, else most of it; None where none explains half."""
    found = [_judged(changes, pairs, way, host) for changes, way in _ways(host)]
    scored = [each for more in found for each in more]
    _, cause = min(scored, key=_cost)
    return cause if cause.changes else None


def _cost(scored: tuple[float, Cause]) -> tuple[bool, float, float]:
    """What explains it wholly comes first, by the number of changes; the rest by how far each change helps."""
    mean, cause = scored
    count = len(cause.changes)
    explained = cause.left <= _EXPLAINED
    return not explained, count if explained else max(mean, _SAME) * _WORTH**count, mean


def _judged(changes: tuple[str, ...], pairs: Sequence[Pair], way: Way, host: Preprocess) -> list[tuple[float, Cause]]:
    """One way of resizing, with either order of the channels and the artifact's or any other normalization."""
    ours = np.stack([way(pair.path)[::_STRIDE, ::_STRIDE] for pair in pairs]).astype(np.float32)
    raw = np.stack([pair.raw[::_STRIDE, ::_STRIDE] for pair in pairs])
    scored = []
    for order, seen in (((), raw), (("channels in the order BGR",), raw[..., ::-1])):
        held: list[tuple[tuple[str, ...], np.ndarray]] = [((), levels(seen, host))]
        if order:  # turned round after mean and std were taken off, or before
            held.append(((), levels(raw, host)[..., ::-1]))
        if seen.dtype.kind == "f":
            mean, std = _fitted(seen, ours)
            held.append(((_named(mean, std),), seen * std + mean))
        for normalized, theirs in held:
            gap = np.abs(theirs - ours)
            scored.append((float(gap.mean()), Cause((*changes, *order, *normalized), float(gap.max()))))
    return scored


def _fitted(raw: np.ndarray, ours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean and std, in levels, under which a channel's values fit ours best: least squares of `raw` on `ours`."""
    x, y = (values.reshape(-1, 3).astype(np.float64) for values in (ours, raw))
    slope = ((x - x.mean(0)) * (y - y.mean(0))).mean(0) / np.maximum(x.var(0), 1e-9)
    slope = np.where(np.abs(slope) < 1e-6, 1e-6, slope)
    return (x.mean(0) - y.mean(0) / slope).astype(np.float32), (1 / slope).astype(np.float32)


def _named(mean: np.ndarray, std: np.ndarray) -> str:
    for words, (known_mean, known_std) in _NORMALIZATIONS.items():
        if np.allclose(mean, known_mean, atol=1.0) and np.allclose(std, known_std, rtol=0.01):
            return words
    told = (f"({', '.join(f'{value:.1f}' for value in values)})" for values in (mean, std))
    return "normalized by mean {} and std {} in levels of 255".format(*told)


def _ways(host: Preprocess) -> Iterator[tuple[tuple[str, ...], Way]]:
    """Ours first, then each that differs in filter, antialias, crop, fit, rounding or how the file is opened."""
    yield (), lambda path: prepare(decode(path), host)
    yield ("photos opened without EXIF orientation, alpha dropped",), lambda path: fit(opened(path), host)
    for shape in FITS:
        for crop in dict.fromkeys((host.crop_fraction, *_CROPS)):
            shaped = replace(host, fit=shape, crop_fraction=crop)
            placed = _placed(host, shaped)
            plain = (*placed, "photos resized without antialias")
            yield plain, _by(without_antialias, shaped)
            for words, rounded in _rounded(shaped):
                yield (*plain, words), _by(without_antialias, rounded)
            for name in FILTERS:
                tried = replace(shaped, interpolation=name)
                changes = (*placed, *([f"photos resized by {name}"] if name != host.interpolation else []))
                if changes:
                    yield changes, _by(prepare, tried)
                for words, rounded in _rounded(tried):
                    yield (*changes, words), _by(prepare, rounded)


def _rounded(host: Preprocess) -> Iterator[tuple[str, Preprocess]]:
    """The other roundings; of a whole photo that is squeezed nothing is rounded."""
    if host.fit == "squeeze" and host.crop_fraction == 1:
        return
    for rounding in ROUNDINGS:
        if rounding != host.rounding:
            yield _ROUNDED[rounding], replace(host, rounding=rounding)


def _by(way: Callable[[Image.Image, Preprocess], np.ndarray], host: Preprocess) -> Way:
    return lambda path: way(decode(path), host)


def _placed(host: Preprocess, tried: Preprocess) -> tuple[str, ...]:
    other_fit = {"squeeze": "whole photos squeezed", "crop": "photos cropped instead of squeezed"}
    crop = f"centre crop of {tried.crop_fraction:.3g} of the resized side"
    return (
        *([other_fit[tried.fit]] if tried.fit != host.fit else []),
        *([crop] if tried.crop_fraction != host.crop_fraction else []),
    )
