"""Hypotheses about what the artifact is fed: channels in another order, photos resized or cropped another way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
from PIL import Image

from ...artifact import Preprocess
from ...runtime.decode import decode
from ...runtime.preprocess import FILTERS, corner, prepare, resized
from .hypothesis import Hypothesis, Suspect

CHANNELS, RESIZE = "channel order", "resize"
_CROPS = (1.0, 0.875)  # the whole of the shorter side, and ImageNet's usual 224 of 256
Prepare = Callable[[Image.Image], np.ndarray]


def channel_order(suspect: Suspect) -> Iterator[Hypothesis]:
    """Red and blue exchanged, as OpenCV reads photos."""
    words = "photos fed as BGR"
    yield Hypothesis(CHANNELS, words, suspect.name, suspect.own, lambda: suspect.photos.array()[..., ::-1])


def resize(suspect: Suspect) -> Iterator[Hypothesis]:
    """Without antialias, squeezed, by other filters and crops, and as the checkpoint has it where that differs."""
    assert suspect.own.artifact is not None
    host = suspect.own.artifact.preprocess
    ways: dict[str, Prepare] = {
        "photos resized without antialias": lambda photo: without_antialias(photo, host),
        **_other_fit(host),
    }
    ways |= {f"photos resized by {filter_}": _by(replace(host, interpolation=filter_))
             for filter_ in FILTERS if filter_ != host.interpolation}  # fmt: skip
    ways |= {f"centre crop of {crop:g}": _by(replace(host, crop_fraction=crop))
             for crop in _CROPS if crop != host.crop_fraction}  # fmt: skip
    wanted = suspect.wanted
    if wanted and wanted.digest() != host.digest() and (wanted.height, wanted.width) == (host.height, host.width):
        ways["photos prepared as the checkpoint says"] = _by(wanted)
    for words, way in ways.items():
        yield Hypothesis(RESIZE, words, suspect.name, suspect.own, partial(_prepared, suspect, way))


def _other_fit(host: Preprocess) -> dict[str, Prepare]:
    if host.fit == "squeeze":
        return {"photos cropped instead of squeezed": _by(replace(host, fit="crop"))}
    return {"whole photos squeezed into the input": lambda photo: squeezed(photo, host)}


def _prepared(suspect: Suspect, way: Prepare) -> np.ndarray:
    return np.stack([way(decode(photo.path)) for photo in suspect.files])


def _by(host: Preprocess) -> Prepare:
    return lambda photo: prepare(photo, host)


def squeezed(photo: Image.Image, host: Preprocess) -> np.ndarray:
    """The whole photo, its sides scaled apart: uint8 `(height, width, 3)`."""
    return np.asarray(photo.resize((host.width, host.height), FILTERS[host.interpolation]))


def without_antialias(photo: Image.Image, host: Preprocess) -> np.ndarray:
    """Resized and cropped as `host` says, each pixel from the nearest 2×2 alone, as cv2 and many engines do.

    Pixel centres and the crop's corner fall together with the host part's.
    """
    width, height = resized(photo.size, host)
    step_x, step_y = photo.width / width, photo.height / height
    left, top = corner((width, height), host)
    matrix = (step_x, 0.0, left * step_x, 0.0, step_y, top * step_y)
    taken = photo.transform((host.width, host.height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return np.asarray(taken)
