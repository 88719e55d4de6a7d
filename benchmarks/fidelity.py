"""How near artifacts of networks that are no classifiers stay to the first of them, or to the truth."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from .. import machine
from ..errors import BadInput, EngineFailed, TiffinError
from ..records import Record, Subject
from ..records.fidelity import Fidelity, fidelity
from ..runtime import Session
from .accuracy import NAN_FIX
from .candidate import Candidate

CHUNK = 8  # rows that all artifacts answer before the next ones: outputs may be large
Arrays = Mapping[str, np.ndarray]


def compare_outputs(
    rows: Sequence[Candidate],
    feeds: Sequence[Arrays],
    truth: Arrays | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Record:
    """Run every artifact on the same rows, in this process, a few at a time.

    Args:
        rows: the first is what the others are compared with where there is no `truth`.
        feeds: of each, by input's name, over the same rows.
        truth: by output's name, with as many rows; outputs that it lacks are left out.

    Returns:
        A record of kind "fidelity": by artifact and output, what `records.fidelity` derives figures from.

    Raises:
        BadInput: tasks or outputs that differ, or a truth that does not fit.
        EngineMissing, EngineFailed: the first artifact cannot run, or answers NaN. Another that does is a row with its
            reason.
    """
    if rows[0].reason:
        raise BadInput(
            f"{rows[0].name}: {rows[0].reason}", "a first artifact that runs: the others are compared with it"
        )
    task, environment = _one_task(rows), machine.environment()
    count = len(next(iter(feeds[0].values())))
    names = _outputs(rows, truth, count)
    with contextlib.ExitStack() as stack:
        sides = [_Side(row, fed, stack) for row, fed in zip(rows, feeds, strict=True)]
        for start in range(0, count, CHUNK):
            part = slice(start, start + CHUNK)
            first = sides[0].answer(part)
            wanted = {name: truth[name][part] for name in names} if truth else first
            sides[0].compare(task, first, wanted, names)
            for side in sides[1:]:
                side.try_to_compare(task, part, wanted, names)
            progress(min(start + CHUNK, count))
    options = {
        "task": task,
        "against": "truth" if truth else rows[0].name,
        "outputs": {side.row.name: {name: held.plain() for name, held in side.found.items()} for side in sides},
    }
    return Record("fidelity", environment, tuple(side.subject() for side in sides), options, created=machine.utc_now())


class _Side:
    """One artifact, open, and what is known of its outputs so far."""

    def __init__(self, row: Candidate, feeds: Arrays, stack: contextlib.ExitStack) -> None:
        assert row.artifact is not None and row.run is not None
        self.row, self.found, self._feeds = row, dict[str, Fidelity](), feeds
        self._session: Session | None = None
        self._reason, self._stack = row.reason, stack
        self._artifact, self._run = row.artifact, row.run

    def answer(self, part: slice) -> Arrays:
        """Of these rows; opens it first."""
        if self._session is None:
            self._session = self._stack.enter_context(Session(self._artifact, self._run))
        return self._session.run({name: array[part] for name, array in self._feeds.items()})

    def compare(self, task: str, given: Arrays, wanted: Arrays, names: Sequence[str]) -> None:
        """Add these rows' answers to what is known.

        Raises:
            EngineFailed: an answer holds NaN: the greatest of scores that are NaN would be the first class.
            BadInput: it is of another shape, or there is no such class.
        """
        for name in names:
            if given[name].dtype.kind == "f" and np.isnan(given[name]).any():
                raise EngineFailed(f"{self.row.name}: NaN in output {name!r}", "numbers", NAN_FIX)
            try:
                more = fidelity(task, given[name], wanted[name])
            except BadInput as error:
                raise BadInput(f"{self.row.name}, output {name!r}: {error.what}", error.expected) from error
            self.found[name] = self.found[name] + more if name in self.found else more

    def try_to_compare(self, task: str, part: slice, wanted: Arrays, names: Sequence[str]) -> None:
        """Where it runs; where it does not, from then on, there is a reason in place of figures."""
        if self._reason:
            return
        try:
            self.compare(task, self.answer(part), wanted, names)
        except TiffinError as error:
            self._reason = error.what
            self.found.clear()

    def subject(self) -> Subject:
        """What a record says of it."""
        if self._reason or self._session is None:
            return self.row.subject(reason=self._reason)
        return self.row.subject(applied=self._session.applied.plain())


def _one_task(rows: Sequence[Candidate]) -> str:
    tasks = {row.artifact.manifest.task for row in rows if row.artifact}
    if len(tasks) != 1:
        raise BadInput(f"artifacts of tasks {', '.join(sorted(tasks))}", "artifacts of one network")
    (task,) = tasks
    if task == "classification":
        raise BadInput("artifacts of a classifier", "artifacts of another task", "`tiffin score` counts their answers")
    return task


def _outputs(rows: Sequence[Candidate], truth: Arrays | None, count: int) -> list[str]:
    """Names of the outputs that are compared."""
    named = [[spec.name for spec in row.artifact.manifest.outputs] for row in rows if row.artifact]
    if any(set(names) != set(named[0]) for names in named):
        raise BadInput("artifacts with different outputs", "artifacts of one network")
    if truth is None:
        return named[0]
    known = [name for name in named[0] if name in truth]
    if not known:
        raise BadInput(f"a truth of {', '.join(truth) or 'nothing'}", f"one of {', '.join(named[0])}",
                       "name its arrays as the outputs")  # fmt: skip
    if short := [name for name in known if len(truth[name]) != count]:
        what = f"{len(truth[short[0]])} rows of truth {short[0]!r}"
        raise BadInput(what, f"{count}, one for each row that is fed")
    return known
