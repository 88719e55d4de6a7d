"""Session: an artifact opened on one engine, fed by name."""

from __future__ import annotations

from concurrent.futures import Future
from types import TracebackType

import numpy as np

from ..artifact import Artifact, RunConfig
from ..errors import BadInput
from . import backends
from .backends import Applied, Feeds
from .dispatch import Dispatcher


class Session:
    """Runs feeds on `run.lanes` lanes of one backend.

    `run` uses the first lane in the caller's thread; `submit` spreads over all lanes behind one bounded queue.
    """

    def __init__(self, artifact: Artifact, run: RunConfig) -> None:
        self.artifact = artifact
        self.requested = run
        module = backends.backend(run.backend)
        self._lanes = [module.open(artifact, run) for _ in range(run.lanes)]
        self._run = self._lanes[0].run
        self._specs = {spec.name: (np.dtype(spec.dtype), spec.shape) for spec in artifact.manifest.inputs}
        self._dispatcher: Dispatcher | None = None

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
            BadInput: a name, dtype or shape is not the manifest's.
            EngineFailed: the engine failed.
        """
        for name, (dtype, shape) in self._specs.items():
            array = feeds.get(name)
            if array is None or array.dtype != dtype or len(array.shape) != len(shape):
                raise self._mismatch(feeds)
            for size, wanted in zip(array.shape, shape, strict=True):
                if size != wanted and wanted is not None or size == 0:
                    raise self._mismatch(feeds)
        return self._run(feeds, out)

    def submit(self, feeds: Feeds) -> Future[dict[str, np.ndarray]]:
        """Queue one run; blocks while the queue is full."""
        if self._dispatcher is None:
            self._dispatcher = Dispatcher([lane.run for lane in self._lanes])
        return self._dispatcher.submit(feeds)

    def close(self) -> None:
        """Wait for what was submitted, then free the engine."""
        if self._dispatcher is not None:
            self._dispatcher.close()
        for lane in self._lanes:
            lane.close()

    def _mismatch(self, feeds: Feeds) -> BadInput:
        got = ", ".join(f"{name} {array.dtype}{array.shape}" for name, array in feeds.items()) or "nothing"
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
