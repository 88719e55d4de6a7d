"""Which tensors of two graphs are the same one.

By name, where both graphs come from one ONNX model: names survive quantization and compiling. Else by the alignment
of both sequences with the greatest sum of scores (Needleman and Wunsch, 1970): operator and shape must agree, and a
layer counts more where its weights have one name.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .point import Point

Pair = tuple[Point, Point]
_NAMED = 0.5  # share of the smaller graph's points that must have a namesake


def aligned(ours: Sequence[Point], theirs: Sequence[Point]) -> tuple[Pair, ...]:
    """Pairs in the order of the first graph; each point is in one at most."""
    known = {point.name: point for point in theirs}
    named = [(point, known[point.name]) for point in ours if point.name in known and _fit(point, known[point.name])]
    found = named if len(named) >= _NAMED * min(len(ours), len(theirs)) else _by_score(ours, theirs)
    return tuple({pair[1].tap: pair for pair in reversed(found)}.values())[::-1]


def _fit(one: Point, other: Point) -> bool:
    """Shapes agree as far as both are known."""
    if one.shape is None or other.shape is None:
        return True
    if len(one.shape) != len(other.shape):
        return False
    return all(None in (a, b) or a == b for a, b in zip(one.shape, other.shape, strict=True))


def _score(one: Point, other: Point) -> int:
    """0 where they cannot be the same."""
    if one.is_output and other.is_output and _fit(one, other):
        return 4
    if one.kind != other.kind or not _fit(one, other):
        return 0
    if one.weight and other.weight:
        return 4 if one.weight == other.weight else 1
    return 2


def _by_score(ours: Sequence[Point], theirs: Sequence[Point]) -> list[Pair]:
    scores = np.array([[_score(a, b) for b in theirs] for a in ours], np.int32).reshape(len(ours), len(theirs))
    best = np.zeros((len(ours) + 1, len(theirs) + 1), np.int32)
    for i in range(len(ours)):
        for j in range(len(theirs)):
            both = best[i, j] + scores[i, j] if scores[i, j] else 0
            best[i + 1, j + 1] = max(best[i, j + 1], best[i + 1, j], both)
    i, j, pairs = len(ours), len(theirs), []
    while i and j:
        if scores[i - 1, j - 1] and best[i, j] == best[i - 1, j - 1] + scores[i - 1, j - 1]:
            i, j = i - 1, j - 1
            pairs.append((ours[i], theirs[j]))
        elif best[i, j] == best[i - 1, j]:
            i -= 1
        else:
            j -= 1
    return pairs[::-1]
