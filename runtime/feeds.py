"""What a session may be fed: the manifest's names, dtypes and shapes, with a batch of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..artifact import Artifact, TensorSpec
from ..errors import BadInput
from . import batches
from .backends import Feeds
from .device_array import is_device_array, read

Shape = tuple[int, ...]


class Inputs:
    """Checks feeds; what was like the last call's costs a microsecond.

    Args:
        ranges: (least, most) rows that the engine takes, where it takes only some.
        on_device: arrays that lie on its GPU are taken too.
    """

    def __init__(self, artifact: Artifact, ranges: Sequence[tuple[int, int]], on_device: bool = False) -> None:
        self._on_device = on_device
        inputs = artifact.manifest.inputs
        self._specs = {spec.name: (np.dtype(spec.dtype), spec.shape) for spec in inputs}
        self._floats = tuple(name for name, (dtype, _) in self._specs.items() if dtype.kind == "f")
        self.batched, self._ranges = _batch(artifact, ranges)
        self._accepted: tuple[tuple[str, np.dtype | None, Shape | None], ...] = tuple(
            (n, None, None) for n in self._specs
        )

    def as_before(self, feeds: Feeds) -> bool:
        """True if names, dtypes and shapes are those that were last accepted for one run.

        Raises:
            BadInput: a float input holds NaN, or they are no mapping.
        """
        if type(feeds) is not dict and not isinstance(feeds, Mapping):
            raise BadInput(f"fed {type(feeds).__name__}", f"a dict of arrays: {', '.join(self._specs)}",
                           f"session.run({{{next(iter(self._specs), '')!r}: array}})")  # fmt: skip
        accepted = self._accepted
        if len(feeds) != len(accepted):
            return False
        for name, dtype, shape in accepted:
            array = feeds.get(name)
            if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != dtype:
                return False
        if self._floats:
            self._refuse_nan(feeds)
        return True

    def accept(self, feeds: Feeds) -> list[batches.Part]:
        """The runs that answer them; none where one run takes them as they are, which is remembered of arrays
        of numpy.

        Raises:
            BadInput: a name, dtype or shape is not the manifest's, batches differ, or a float input holds NaN. Values
                on a GPU are not looked at, and no batch there is split.
        """
        found = {name: self._read(array, feeds) for name, array in feeds.items()}
        whole = all(isinstance(array, np.ndarray) for array in feeds.values())
        self._require(feeds, found, self.batched if whole else ())
        self._refuse_nan(feeds)
        rows = found[self.batched[0]][1][0] if self.batched and whole else 0
        if rows and self._ranges and not any(least <= rows <= most for least, most in self._ranges):
            return batches.split(rows, self._ranges)
        if whole:
            self._accepted = tuple((name, *found[name]) for name in self._specs)
        return []

    def _read(self, array: object, feeds: Feeds) -> tuple[np.dtype, Shape]:
        if isinstance(array, np.ndarray):
            return array.dtype, array.shape
        if self._on_device and is_device_array(array):
            where = read(array)
            return where.dtype, where.shape
        raise self._mismatch(feeds)

    def _require(self, feeds: Feeds, found: dict[str, tuple[np.dtype, Shape]], batched: Sequence[str]) -> None:
        """Where the first axis is the batch, any number of rows will do, if it is one number for all."""
        if found.keys() != self._specs.keys():
            raise self._mismatch(feeds)
        for name, (dtype, shape) in self._specs.items():
            given_dtype, given = found[name]
            free = (None, *shape[1:]) if name in batched else shape
            if given_dtype != dtype or len(given) != len(free):
                raise self._mismatch(feeds)
            if any(size == 0 or size != wanted is not None for size, wanted in zip(given, free, strict=True)):
                raise self._mismatch(feeds)
        if len({found[name][1][0] for name in batched}) > 1:
            raise self._mismatch(feeds)

    def _refuse_nan(self, feeds: Feeds) -> None:
        """The least of all values is NaN exactly if one is: one pass, no copy."""
        for name in self._floats:
            array = feeds[name]
            if isinstance(array, np.ndarray) and np.isnan(array.min()):
                raise BadInput(f"{name} holds NaN", "numbers", "look at what made it: the engine would answer NaN")

    def _mismatch(self, feeds: Feeds) -> BadInput:
        got = ", ".join(f"{name} {_shown(array)}" for name, array in feeds.items()) or "nothing"
        expected = ", ".join(
            f"{name} {dtype}({', '.join('N' if size is None else str(size) for size in self._shape(name, shape))})"
            for name, (dtype, shape) in self._specs.items()
        )
        return BadInput(f"fed {got}", expected)

    def _shape(self, name: str, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (None, *shape[1:]) if name in self.batched else shape


def _batch(
    artifact: Artifact, ranges: Sequence[tuple[int, int]]
) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...]]:
    """Inputs whose first axis is the batch, and how many rows a run takes; no ranges where it takes any number.

    Of a graph with fixed shapes only photos say that their first axis is a batch (`Preprocess`).
    """
    manifest = artifact.manifest
    free = tuple(spec.name for spec in manifest.inputs if spec.shape and spec.shape[0] is None)
    if free:
        splits = all(spec.shape and spec.shape[0] is None for spec in manifest.outputs)
        return free, tuple(ranges) if splits else ()
    tensors: tuple[TensorSpec, ...] = (*manifest.inputs, *manifest.outputs)
    sizes = {spec.shape[0] if spec.shape else None for spec in tensors}
    size = sizes.pop() if len(sizes) == 1 else None
    if size is None or manifest.preprocess is None:
        return (), ()
    return tuple(spec.name for spec in manifest.inputs), ((size, size),)


def _shown(array: object) -> str:
    if isinstance(array, np.ndarray):
        return f"{array.dtype}{array.shape}"
    found = read(array) if is_device_array(array) else None
    return f"{found.dtype}{found.shape} on a GPU" if found else f"of type {type(array).__name__}"
