"""Batches of any size on an engine that takes only some: split, and padded only where it demands more rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")
Arrays = Mapping[str, np.ndarray]
Part = tuple[int, int]  # rows that are answered, rows that the engine is fed


def grouped(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of so many, in order; the last may have fewer (`itertools.batched`, which Python 3.10 lacks)."""
    some: list[Item] = []
    for item in items:
        some.append(item)
        if len(some) == size:
            yield some
            some = []
    if some:
        yield some


def split(count: int, ranges: Sequence[tuple[int, int]]) -> list[Part]:
    """The runs that answer `count` rows, as few as can be, each within a range (least, most).

    What is left at the end and is too little for any range takes rows from the run before; only where there are none
    to take it is padded.
    """
    parts: list[Part] = []
    while count:
        rows = max((min(count, most) for least, most in ranges if least <= count), default=0)
        if not rows:
            return _with_rest(parts, count, ranges)
        parts.append((rows, rows))
        count -= rows
    return parts


def _with_rest(parts: list[Part], rest: int, ranges: Sequence[tuple[int, int]]) -> list[Part]:
    wanted = min(least for least, _ in ranges)
    shorter = parts[-1][0] - (wanted - rest) if parts else 0
    if any(least <= shorter <= most for least, most in ranges):
        return [*parts[:-1], (shorter, shorter), (wanted, wanted)]
    return [*parts, (rest, wanted)]


def run_parts(
    run: Callable[[Arrays], dict[str, np.ndarray]], feeds: Arrays, batched: Collection[str], parts: Sequence[Part]
) -> dict[str, np.ndarray]:
    """Run part after part and put the answers together.

    Args:
        batched: inputs whose first axis is the batch; the others are fed as they are, every time.
    """
    found: list[dict[str, np.ndarray]] = []
    start = 0
    for rows, fed in parts:
        taken = {
            name: _padded(array[start : start + rows], fed) if name in batched else array
            for name, array in feeds.items()
        }
        found.append({name: answer[:rows] for name, answer in run(taken).items()})
        start += rows
    return {name: np.concatenate([answers[name] for answers in found]) for name in found[0]}


def _padded(rows: np.ndarray, count: int) -> np.ndarray:
    """The last row again: no value that the model might not know."""
    lacking = count - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], lacking, axis=0)]) if lacking else rows
