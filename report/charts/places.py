"""Where the numbers beside marks stand, so that they cover neither each other nor a mark."""

from __future__ import annotations

import math
from collections.abc import Sequence

_AROUND = [(math.cos(turn), -math.sin(turn)) for turn in (0.8, 2.4, -0.8, -2.4, 0, math.pi, math.pi / 2, -math.pi / 2)]
_REACH = (13, 19, 27, 36)  # CSS pixels from a mark's middle to a number's
_SIZE = (16, 13)


def places(
    marks: Sequence[tuple[float, float, str]],
    spans: tuple[tuple[float, float], tuple[float, float]],
    size: tuple[int, int],
) -> list[tuple[float, float]]:
    """Greedy: each number takes the first free place around its mark, the nearest of all if none is free.

    Args:
        marks: x on a log scale, y on a linear one, text.
        spans: domain of x and y.
        size: of the picture, CSS pixels.

    Returns:
        Middle of each number in CSS pixels from the top left.
    """
    dots = [_pixel(x, y, spans, size) for x, y, _ in marks]
    taken: list[tuple[float, float]] = []
    for x, y in dots:
        tries = [(x + reach * dx, y + reach * dy) for reach in _REACH for dx, dy in _AROUND]
        inside = [spot for spot in tries if 8 < spot[0] < size[0] - 8 and 7 < spot[1] < size[1] - 7]
        free = [
            spot
            for spot in inside
            if not any(_hits(spot, other, (14, 11)) for other in dots)
            and not any(_hits(spot, other, _SIZE) for other in taken)
        ]
        taken.append((free or inside or tries)[0])
    return taken


def _pixel(
    x: float, y: float, spans: tuple[tuple[float, float], tuple[float, float]], size: tuple[int, int]
) -> tuple[float, float]:
    (left, right), (low, high) = spans
    across = math.log(x / left) / math.log(right / left)
    return across * size[0], size[1] * (1 - (y - low) / (high - low))


def _hits(one: tuple[float, float], other: tuple[float, float], size: tuple[int, int]) -> bool:
    return abs(one[0] - other[0]) < size[0] and abs(one[1] - other[1]) < size[1]
