"""Classifier: photo in, labels out, with the preprocessing and temperature that travel in the artifact."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import BadInput
from .decode import PhotoSource
from .preprocess import prepare, prepare_batch
from .session import Session


@dataclass(frozen=True)
class Guess:
    """One label with its probability, 0 to 1."""

    label: str
    index: int
    score: float


class Classifier:
    """Adds photos and labels to a Session.

    Raises:
        BadInput: the artifact is no classifier.
    """

    def __init__(self, session: Session) -> None:
        manifest = session.artifact.manifest
        if manifest.task != "classification" or manifest.preprocess is None or not manifest.labels:
            raise BadInput(f"{session.artifact.folder}: task {manifest.task}, no classifier", "labels and preprocess")
        self.session = session
        self.labels = manifest.labels
        self.preprocess = manifest.preprocess
        self._temperature = manifest.temperature
        self._input = manifest.inputs[0].name
        self._output = manifest.outputs[0].name

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Prepared photos, uint8 `(N, H, W, 3)` → float32 logits `(N, classes)`."""
        return self.session.run({self._input: images})[self._output]

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Softmax of logits divided by the artifact's temperature."""
        scaled = logits.astype(np.float64) / self._temperature
        scaled -= scaled.max(axis=-1, keepdims=True)
        powers = np.exp(scaled)
        return powers / powers.sum(axis=-1, keepdims=True)

    def predict(self, source: PhotoSource, top: int = 5) -> list[Guess]:
        """The `top` likeliest labels of one photo, best first."""
        return self.rank(self(prepare(source, self.preprocess)[None]), top)[0]

    def rank(self, logits: np.ndarray, top: int = 5) -> list[list[Guess]]:
        """The likeliest labels of each row of logits."""
        return [
            [
                Guess(self.labels[index], int(index), float(row[index]))
                for index in np.argsort(-row, kind="stable")[:top]
            ]
            for row in self.probabilities(logits)
        ]

    def iterate(self, sources: Iterable[PhotoSource], batch: int = 1, top: int = 5) -> Iterator[list[Guess]]:
        """Guesses of each photo, in order, `batch` photos a run.

        Raises:
            BadInput: `batch` is below 1, or a photo cannot be read.
        """
        if batch < 1:
            raise BadInput(f"batch {batch}", "at least 1")
        waiting: list[PhotoSource] = []
        for source in sources:
            waiting.append(source)
            if len(waiting) == batch:
                yield from self._flush(waiting, top)
                waiting = []
        if waiting:
            yield from self._flush(waiting, top)

    def _flush(self, sources: Sequence[PhotoSource], top: int) -> list[list[Guess]]:
        return self.rank(self(prepare_batch(sources, self.preprocess)), top)
