"""A loaded artifact behind the server: admission, batching, labels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import BadInput, Busy
from ...runtime import Classifier, Guess, Session
from ...runtime.classifier import is_known, not_finite
from .batching import Batcher, Ran
from .metrics import Metrics
from .protocol import tensor_json


@dataclass(frozen=True)
class Limits:
    """What a server takes.

    Args:
        max_batch: rows of a request, and of a joined run.
        max_delay_s: how long a free lane waits for more requests.
        queue: requests of a model that are admitted and not yet answered.
        deadline_s: from a request's admission to its answer.
        max_body_bytes: of a request, before and after inflating.
        bodies_bytes: of all requests together, but never less than one may have.
        body_s: for a request's body to arrive.
        header_s: for a request's head to arrive.
        grace_s: at the end, for what is being answered.
        unknown: an answer whose best score is lower is unknown; None knows everything.
    """

    max_batch: int = 8
    max_delay_s: float = 0.0
    queue: int = 64
    deadline_s: float = 30.0
    max_body_bytes: int = 32_000_000
    bodies_bytes: int = 256_000_000
    body_s: float = 20.0
    header_s: float = 10.0
    grace_s: float = 10.0
    unknown: float | None = None


@dataclass(frozen=True)
class Labelled:
    """One photo's labels and what the run took."""

    guesses: list[Guess]
    known: bool
    queue_s: float
    run_s: float


class Model:
    """One artifact under one name.

    Raises:
        BadInput: it is no classifier, or has a dtype that the protocol has no word for.
    """

    def __init__(self, name: str, session: Session, limits: Limits, metrics: Metrics) -> None:
        self.name, self.session, self.classifier = name, session, Classifier(session)
        self.manifest, self._limits, self._metrics = session.artifact.manifest, limits, metrics
        self._inputs = [tensor_json(spec) for spec in self.manifest.inputs]
        self._outputs = [tensor_json(spec) for spec in self.manifest.outputs]
        size = self.manifest.inputs[0].shape[0]
        self._batcher = Batcher(session, size or limits.max_batch, limits.max_delay_s)
        self._inside, self._lately_s = 0, 0.0

    @property
    def version(self) -> str:
        """The artifact's digest, as `tiffin export` prints it: what was loaded, whatever lies on the disk now."""
        return self.session.artifact.digest[:12]

    def about(self) -> dict[str, Any]:
        """Metadata of the protocol, and what Tiffin knows beyond."""
        applied = self.session.applied
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": f"{applied.run.backend}_{self.manifest.format}",
            "inputs": self._inputs,
            "outputs": self._outputs,
            "parameters": {
                "precision": self.manifest.precision,
                "engine_version": applied.version,
                "temperature": self.manifest.temperature,
            },
        }

    async def infer(self, feeds: dict[str, np.ndarray]) -> Ran:
        """Run tensors; the deadline is the caller's.

        Raises:
            Busy: too many requests are inside.
            TiffinError: as the session raises.
        """
        with self.admitted():
            ran = await self._run(feeds)
        if error := not_finite(ran.outputs):
            raise error
        return ran

    async def label(self, prepared: np.ndarray, top: int) -> Labelled:
        """Label a prepared photo, uint8 `(H, W, 3)`; admission and the deadline are the caller's.

        Raises:
            TiffinError: as the session raises.
        """
        ran = await self._run({self.manifest.inputs[0].name: prepared[None]})
        guesses = self.classifier.rank(ran.outputs[self.manifest.outputs[0].name], top)[0]
        return Labelled(guesses, is_known(guesses, self._limits.unknown), ran.queue_s, ran.run_s)

    async def _run(self, feeds: dict[str, np.ndarray]) -> Ran:
        ran = await self._batcher.run(feeds)
        self._lately_s += 0.1 * (ran.queue_s + ran.run_s - self._lately_s)
        self._metrics.stages.labels(self.name, "queue").observe(ran.queue_s)
        self._metrics.stages.labels(self.name, "run").observe(ran.run_s)
        self._metrics.batch.labels(self.name).observe(ran.batch)
        return ran

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """One request's place.

        Raises:
            Busy: too many requests are inside.
        """
        if self._inside >= self._limits.queue:
            self._metrics.refused.labels(self.name).inc()
            raise Busy(f"{self.name}: {self._inside} requests are waiting", "room in the queue", "ask again later")
        self._inside += 1
        self._metrics.inside.labels(self.name).set(self._inside)
        try:
            yield
        finally:
            self._inside -= 1
            self._metrics.inside.labels(self.name).set(self._inside)

    @property
    def retry_after_s(self) -> int:
        """Whole seconds after which there is likely room: what a request took lately."""
        return max(1, math.ceil(self._lately_s))


def by_name(models: dict[str, Model], name: str) -> Model:
    """Raises BadInput if there is no such model."""
    if name not in models:
        raise BadInput(f"no model {name!r}", f"one of {', '.join(models)}")
    return models[name]
