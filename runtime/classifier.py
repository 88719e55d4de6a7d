"""Classifier: photo in, labels out, with the preprocessing and temperature that travel in the artifact."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

import numpy as np

from ..errors import BadInput, EngineFailed, TiffinError
from .batches import grouped
from .decode import PhotoSource
from .items import Answer, Guess, Item
from .preprocess import prepare, prepare_batch, prepare_into
from .session import Session

if TYPE_CHECKING:
    from .ahead import Ahead, Group


def is_known(guesses: Sequence[Guess], least: float | None) -> bool:
    """False where the best score is below `least`, or there is none; None knows everything."""
    return least is None or bool(guesses and guesses[0].score >= least)


def not_finite(outputs: Mapping[str, np.ndarray]) -> EngineFailed | None:
    """The error that NaN and infinity are in answers, such as fp16's where it overflows; None where there are none."""
    if wrong := [name for name, array in outputs.items() if not np.isfinite(array).all()]:
        return EngineFailed(f"{', '.join(wrong)} holds NaN or infinity", "finite numbers",
                            "take another precision; docs/debug.md says how to find where they begin")  # fmt: skip
    return None


class Classifier:
    """Adds photos and labels to a Session.

    Raises:
        BadInput: the artifact is no classifier.
    """

    def __init__(self, session: Session) -> None:
        manifest = session.artifact.manifest
        if manifest.task != "classification" or manifest.preprocess is None or not manifest.labels:
            raise BadInput(
                f"{session.artifact.folder}: task {manifest.task}, no classifier",
                "an artifact with labels and preprocessing",
                "run it on named arrays: tiffin.load(folder).run(feeds); see docs/graphs.md",
            )
        self.session = session
        self.labels = manifest.labels
        self.preprocess = manifest.preprocess
        self._temperature = manifest.temperature
        self._input = manifest.inputs[0].name
        self._output = manifest.outputs[0].name

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Prepared photos, uint8 `(N, H, W, 3)` → float32 logits `(N, classes)`."""
        return self.session.run({self._input: images})[self._output]

    def warm_up(self, batch: int = 1) -> None:
        """Run zeros once: the first run of so many photos pays for set-up."""
        self(np.zeros((batch, self.preprocess.height, self.preprocess.width, 3), np.uint8))

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
        """The likeliest labels of each row of logits.

        Raises:
            EngineFailed: logits are NaN or infinite.
        """
        if error := not_finite({self._output: logits}):
            raise error
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
        _require_positive(batch=batch)
        for some in grouped(sources, batch):
            yield from self.rank(self(prepare_batch(some, self.preprocess)), top)

    def stream(
        self, items: Iterable[Item], top: int = 5, batch: int = 1, workers: int | None = None
    ) -> Iterator[Answer]:
        """Answers of a source's items, in order, photos prepared by threads ahead of the engine.

        At most a few runs are read ahead. An item whose photo cannot be read, whose run failed, or whose logits are
        not finite is answered with its error and the rest goes on; what the source itself raises ends the stream. The
        runs are submitted to the session, `lanes` at a time.

        Args:
            items: iterated in a thread of its own.
            top: guesses an answer.
            batch: photos a run; a run waits until it has so many, or the source ends.
            workers: threads that prepare photos; None takes as many as cores that may be used.

        Raises:
            BadInput: `batch` or `workers` is below 1.
        """
        _require_positive(batch=batch, workers=workers)
        return self._stream(items, top, batch, workers)

    def _stream(self, items: Iterable[Item], top: int, batch: int, workers: int | None) -> Iterator[Answer]:
        ahead = self._ahead(items, batch, workers)
        try:
            while (group := ahead.take()) is not None:
                answers = self._answers(group, top)
                ahead.taken()
                yield from answers
        finally:
            ahead.stop()
            ahead.join()

    def astream(
        self,
        items: Iterable[Item] | AsyncIterable[Item],
        top: int = 5,
        batch: int = 1,
        workers: int | None = None,
    ) -> AsyncIterator[Answer]:
        """As `stream`, in an event loop that is never blocked; an async source is iterated in that loop.

        Raises:
            BadInput: `batch` or `workers` is below 1.
        """
        _require_positive(batch=batch, workers=workers)
        return self._astream(items, top, batch, workers)

    async def _astream(
        self, items: Iterable[Item] | AsyncIterable[Item], top: int, batch: int, workers: int | None
    ) -> AsyncIterator[Answer]:
        import asyncio  # 20 ms that who streams in threads does not pay

        from .drawn import Drawn

        drawn = Drawn(items, asyncio.get_running_loop()) if isinstance(items, AsyncIterable) else None
        ahead = self._ahead(drawn or items, batch, workers)  # type: ignore[arg-type]
        try:
            while (group := await asyncio.to_thread(ahead.take)) is not None:
                await asyncio.wait([asyncio.wrap_future(group.answer)])
                answers = self._answers(group, top)
                ahead.taken()
                for answer in answers:
                    yield answer
        finally:
            ahead.stop()
            if drawn:
                drawn.cancel()
            await asyncio.to_thread(ahead.join)

    def _ahead(self, items: Iterable[Item], batch: int, workers: int | None) -> Ahead:
        from ..machine import usable_cores
        from .ahead import Ahead

        host = self.preprocess
        return Ahead(
            items,
            lambda source, row: prepare_into(source, host, row),
            self._submit,
            (host.height, host.width, 3),
            batch,
            workers or usable_cores(),
            self.session.requested.lanes,
        )

    def _submit(self, rows: np.ndarray) -> Future[dict[str, np.ndarray]]:
        return self.session.submit({self._input: rows})

    def _answers(self, group: Group, top: int) -> list[Answer]:
        """Waits for the group's run."""
        failed, outputs = None, None
        try:
            outputs = group.answer.result()
        except TiffinError as error:
            failed = error
        errors = [own or failed for own in group.errors]
        rows = iter(outputs[self._output] if outputs else ())
        share_s = group.run_s / max(1, errors.count(None))
        return [
            Answer(item.name, error=error, prepare_s=seconds)
            if error
            else self._answer(item.name, next(rows), top, seconds, share_s)
            for item, error, seconds in zip(group.items, errors, group.prepare_s, strict=True)
        ]

    def _answer(self, name: str, row: np.ndarray, top: int, prepare_s: float, run_s: float) -> Answer:
        try:
            return Answer(name, tuple(self.rank(row[None], top)[0]), None, prepare_s, run_s)
        except EngineFailed as error:
            return Answer(name, (), error, prepare_s, run_s)


def _require_positive(**numbers: int | None) -> None:
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise BadInput(f"{name} {value}", "at least 1")
