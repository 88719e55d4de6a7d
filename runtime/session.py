"""Session: an artifact opened on one engine, fed by name."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from types import TracebackType

import numpy as np

from ..artifact import Artifact, RunConfig
from ..errors import BadInput
from . import backends
from .backends import Applied, Feeds, Lane
from .device_array import is_device_array, read
from .dispatch import Dispatcher


class Session:
    """Runs feeds on `run.lanes` lanes of one backend.

    `run` uses the first lane in the caller's thread; `submit` spreads over all lanes behind one bounded queue.
    Once something was submitted, the lanes belong to the queue's threads and `run` waits in the queue too.
    Where a backend takes them, feeds may also hold arrays that lie on its GPU: objects with `__cuda_array_interface__`
    or DLPack. They are read where they lie, so leave them unchanged until the answer is there.
    """

    def __init__(self, artifact: Artifact, run: RunConfig) -> None:
        self.artifact = artifact
        self.requested = run
        self._dispatcher: Dispatcher | None = None
        self._starting = threading.Lock()
        self._closed = False
        module = backends.backend(run.backend)
        self._lanes: list[Lane] = []
        try:
            for _ in range(run.lanes):
                self._lanes.append(module.open(artifact, run))
        except BaseException:
            self.close()
            raise
        self._run = self._lanes[0].run
        self._specs = {spec.name: (np.dtype(spec.dtype), spec.shape) for spec in artifact.manifest.inputs}
        self._accepted: dict[str, tuple[np.dtype, tuple[int, ...]] | None] = dict.fromkeys(self._specs)

    @property
    def applied(self) -> Applied:
        """What took effect."""
        return self._lanes[0].applied

    def run(self, feeds: Feeds, out: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """Run once, in this thread.

        Args:
            feeds: input name → array of the manifest's dtype and shape.
            out: output name → array to write into.

        Raises:
            BadInput: a name, dtype or shape is not the manifest's, or the session is closed.
            EngineFailed: the engine failed.
        """
        self._check(feeds)
        return self._run(feeds, out) if self._dispatcher is None else self._dispatcher.submit(feeds, out).result()

    def _check(self, feeds: Feeds) -> None:
        if self._closed:
            raise BadInput("this session is closed", "an open session")
        if len(feeds) != len(self._specs):
            raise self._mismatch(feeds)
        for name, accepted in self._accepted.items():
            array = feeds.get(name)
            if not isinstance(array, np.ndarray):
                self._accept_on_device(name, array, feeds)
            elif (array.dtype, array.shape) != accepted:  # like the last call's: the usual case costs a microsecond
                self._accept(name, array.dtype, array.shape, feeds)
                self._accepted[name] = (array.dtype, array.shape)

    def _accept_on_device(self, name: str, array: object, feeds: Feeds) -> None:
        """An array on a GPU, where the backend takes such."""
        if not getattr(self._lanes[0], "takes_device_arrays", False) or not is_device_array(array):
            raise self._mismatch(feeds)
        found = read(array)
        self._accept(name, found.dtype, found.shape, feeds)

    def _accept(self, name: str, dtype: np.dtype, shape: tuple[int, ...], feeds: Feeds) -> None:
        """A dtype and shape that the manifest allows."""
        wanted_dtype, wanted_shape = self._specs[name]
        if dtype != wanted_dtype or len(shape) != len(wanted_shape):
            raise self._mismatch(feeds)
        for size, wanted in zip(shape, wanted_shape, strict=True):
            if size != wanted and wanted is not None or size == 0:
                raise self._mismatch(feeds)

    def submit(self, feeds: Feeds) -> Future[dict[str, np.ndarray]]:
        """Queue one run; blocks while the queue is full.

        Raises:
            BadInput: as `run` does, at once. What the engine raises comes with the future.
        """
        self._check(feeds)
        with self._starting:
            if self._dispatcher is None:
                self._dispatcher = Dispatcher([lane.run for lane in self._lanes])
        return self._dispatcher.submit(feeds)

    def device_ns(self, feeds: Feeds) -> int | None:
        """Run once more and say what the kernels alone took on the device.

        Returns:
            Nanoseconds without any copy, by the device's own clock; None where the backend does not tell.

        Raises:
            BadInput, EngineFailed: as `run` does.
        """
        self._check(feeds)
        measure = getattr(self._lanes[0], "device_ns", None)
        return measure(feeds) if measure else None

    def close(self) -> None:
        """Wait for what was submitted, then free the engine; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._dispatcher is not None:
            self._dispatcher.close()
        for lane in self._lanes:
            lane.close()

    def _mismatch(self, feeds: Feeds) -> BadInput:
        got = ", ".join(f"{name} {_shown(array)}" for name, array in feeds.items()) or "nothing"
        expected = ", ".join(
            f"{name} {dtype}({', '.join('N' if size is None else str(size) for size in shape)})"
            for name, (dtype, shape) in self._specs.items()
        )
        return BadInput(f"fed {got}", expected)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _shown(array: object) -> str:
    if isinstance(array, np.ndarray):
        return f"{array.dtype}{array.shape}"
    found = read(array) if is_device_array(array) else None
    return f"{found.dtype}{found.shape} on a GPU" if found else f"of type {type(array).__name__}"
