"""How near artifacts of networks that are no classifiers stay to the first of them, or to the truth."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from .. import machine
from ..errors import BadInput, TiffinError
from ..records import Record
from ..records.fidelity import Fidelity, fidelity
from ..runtime import Session
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
        EngineMissing, EngineFailed: the first artifact cannot run. Another that cannot is a row with its reason.
    """
    task = _one_task(rows)
    environment = machine.environment()
    count = len(next(iter(feeds[0].values())))
    with contextlib.ExitStack() as stack:
        sessions, subjects = _opened(rows, stack)
        names = _outputs(rows, truth, count)
        found: dict[str, dict[str, Fidelity]] = {name: {} for name in sessions}
        for start in range(0, count, CHUNK):
            part = slice(start, start + CHUNK)
            wanted: Arrays | None = {name: truth[name][part] for name in names} if truth else None
            for row, fed in zip(rows, feeds, strict=True):
                if row.name not in sessions:
                    continue
                given = sessions[row.name].run({name: array[part] for name, array in fed.items()})
                wanted = wanted if wanted is not None else given
                for name in names:
                    known = found[row.name].get(name, Fidelity())
                    found[row.name][name] = known + _compared(task, row, name, given, wanted)
            progress(min(start + CHUNK, count))
    outputs = {name: {output: held.plain() for output, held in each.items()} for name, each in found.items()}
    options = {"task": task, "against": "truth" if truth else rows[0].name, "outputs": outputs}
    return Record("fidelity", environment, tuple(subjects), options, created=machine.utc_now())


def _compared(task: str, row: Candidate, name: str, given: Arrays, wanted: Arrays) -> Fidelity:
    try:
        return fidelity(task, given[name], wanted[name])
    except BadInput as error:
        raise BadInput(f"{row.name}, output {name!r}: {error.what}", error.expected or "", error.fix or "") from error


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
    if rows_off := [name for name in known if len(truth[name]) != count]:
        what = f"{len(truth[rows_off[0]])} rows of truth {rows_off[0]!r}"
        raise BadInput(what, f"{count}, one for each row that is fed")
    return known


def _opened(rows: Sequence[Candidate], stack: contextlib.ExitStack) -> tuple[dict[str, Session], list[Any]]:
    sessions: dict[str, Session] = {}
    subjects = []
    for row in rows:
        assert row.artifact is not None and row.run is not None
        try:
            session = stack.enter_context(Session(row.artifact, row.run))
        except TiffinError as error:
            if row is rows[0]:
                raise
            subjects.append(row.subject(reason=error.what))
            continue
        sessions[row.name] = session
        subjects.append(row.subject(applied=_told(session)))
    return sessions, subjects


def _told(session: Session) -> dict[str, Any]:
    applied = session.applied
    return {**asdict(applied.run), "version": applied.version, "details": dict(applied.details)}
