"""Hypotheses about two tensors alone: they need no graph, and so hold for any engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from ...records.parting import Tried
from .scene import Scene

_FP16_MOST = 65504.0
_SHIFTS = ((1, 1), (-1, -1), (1, 0), (0, 1), (-1, 0), (0, -1))
_BORDER = 2  # pixels that a wrong padding reaches in one layer of a 3×3 or 5×5 window
_LEAST_CHANNEL = 64  # values of a channel that a line through them may be trusted with


_erf = np.vectorize(math.erf, otypes=[np.float64])


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * values))


_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Relu": lambda x: np.maximum(x, 0),
    "Clip 0 to 6 (ReLU6)": lambda x: np.clip(x, 0, 6),
    "LeakyRelu 0.01": lambda x: np.where(x > 0, x, 0.01 * x),
    "LeakyRelu 0.2": lambda x: np.where(x > 0, x, 0.2 * x),
    "Sigmoid": _sigmoid,
    "Swish": lambda x: x * _sigmoid(x),
    "HardSwish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "HardSigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "Gelu": lambda x: x * 0.5 * (1 + _erf(x / math.sqrt(2))),
    "Tanh": np.tanh,
}


def hypotheses(scene: Scene) -> Iterator[Tried]:
    """All of them."""
    wanted = np.asarray(scene.ours.value, np.float64)
    found = np.asarray(scene.theirs.value, np.float64).reshape(wanted.shape)
    yield from _overflow(scene, wanted, found)
    with np.errstate(all="ignore"):
        for each in (_activation, _order, _affine, _shifted, _border):
            yield from each(scene, wanted, found)


def _overflow(scene: Scene, wanted: np.ndarray, found: np.ndarray) -> Iterator[Tried]:
    """Where fp16 has no number: infinite, or held at its greatest."""
    if "fp16" not in (scene.ours.side.precision, scene.theirs.side.precision):
        return
    lost = np.isfinite(wanted) & ~np.isfinite(found)
    most = float(np.abs(wanted).max(initial=0.0, where=np.isfinite(wanted)))
    if lost.any():
        where = f"its values reach {most:.3g}" if most > _FP16_MOST else "a sum inside the layer is more"
        words = f"{lost.mean() * 100:.2g} % are infinite or NaN: {where}; fp16 holds {_FP16_MOST:.0f}"
        with np.errstate(over="ignore"):
            held = np.where(lost, found, wanted)
        yield scene.tried("fp16 overflow", words, held, found, certain=True)
    elif most > _FP16_MOST:
        words = f"held at {_FP16_MOST:.0f}, the most of fp16; its values reach {most:.3g}"
        yield scene.tried("fp16 overflow", words, np.clip(wanted, -_FP16_MOST, _FP16_MOST), found)


def _activation(scene: Scene, wanted: np.ndarray, found: np.ndarray) -> Iterator[Tried]:
    for name, function in _ACTIVATIONS.items():
        yield scene.tried("activation", f"{scene.theirs.side.name} lacks {name} here", wanted, function(found))
        yield scene.tried("activation", f"{scene.theirs.side.name} has {name} here, {scene.ours.side.name} has not",
                          function(wanted), found)  # fmt: skip


def _order(scene: Scene, wanted: np.ndarray, found: np.ndarray) -> Iterator[Tried]:
    for axis in (1, wanted.ndim - 1):
        if wanted.ndim == 4 and wanted.shape[axis] == 3:
            yield scene.tried("channel order", "red and blue exchanged", np.flip(wanted, axis), found)


def _affine(scene: Scene, wanted: np.ndarray, found: np.ndarray) -> Iterator[Tried]:
    """A scale and a shift for each channel, by least squares."""
    axis = 3 if wanted.ndim == 4 and wanted.shape[3] == 3 else 1
    if wanted.ndim < 2 or wanted.size // wanted.shape[axis] < _LEAST_CHANNEL:
        return
    others = tuple(each for each in range(wanted.ndim) if each != axis)
    mean, seen = wanted.mean(others, keepdims=True), found.mean(others, keepdims=True)
    spread = np.maximum(((wanted - mean) ** 2).mean(others, keepdims=True), 1e-30)
    slope = ((wanted - mean) * (found - seen)).mean(others, keepdims=True) / spread
    shift = seen - slope * mean
    if not np.isfinite(shift).all():  # of a NaN, which no line explains
        return
    near_one = float(np.abs(slope - 1).max())
    told = f"scale {_span(slope)}, shift {_span(shift)}"
    if scene.prepared and wanted.shape[axis] == 3:
        kind, words = "normalization", f"another mean and std: {told}"
    elif near_one < 0.02:  # rounding's own slope is within it
        kind, words = "bias", f"another bias: shift {_span(shift)}"
    else:
        kind, words = "scale", f"another scale of its channels (batch norm, weights): {told}"
    yield scene.tried(kind, words, slope * wanted + shift, found)


def _span(values: np.ndarray) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:.3g}" if math.isclose(low, high, rel_tol=1e-3) else f"{low:.3g} to {high:.3g}"


def _shifted(scene: Scene, wanted: np.ndarray, found: np.ndarray) -> Iterator[Tried]:
    """A pixel aside, borders left out: what SAME_UPPER and SAME_LOWER differ by where the stride is 1."""
    if wanted.ndim != 4 or min(wanted.shape[2:]) < 5:
        return
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    for down, right in _SHIFTS:
        moved = np.roll(wanted, (down, right), (2, 3))
        words = f"shifted by {down} down and {right} right: padded at the other side"
        yield scene.tried("padding", words, moved[inner], found[inner])


def _border(scene: Scene, wanted: np.ndarray, found: np.ndarray) -> Iterator[Tried]:
    """Right inside, wrong at the border."""
    if wanted.ndim != 4 or min(wanted.shape[2:]) < 3 * _BORDER:
        return
    inner = (slice(None), slice(None), slice(_BORDER, -_BORDER), slice(_BORDER, -_BORDER))
    words = f"inside, {_BORDER} pixels from the border on, both agree"
    yield scene.tried("padding", words, wanted[inner], found[inner])
