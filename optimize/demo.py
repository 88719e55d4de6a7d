"""The main job: build all, time all, score all → one record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Protocol

from .. import machine
from ..benchmarks.accuracy import score, temperatures
from ..benchmarks.candidate import Candidate
from ..benchmarks.options import RoundOptions, Status
from ..benchmarks.rounds import Measurement
from ..data import Dataset
from ..data.prepared import PreparedPhotos
from ..errors import TiffinError
from ..records import Predictions, Record, Subject
from .candidates import plan, without_vnni
from .pipeline import Recipe, build, gather


class Progress(Protocol):
    """Where a long run says what it does."""

    def say(self, line: str) -> None:
        """One line."""
        ...

    def bar(self, name: str, total: int) -> Callable[[int], None]:
        """A bar for `total` items; call the result with the number done."""
        ...

    def timing(self, status: Status) -> None:
        """Where timing stands."""
        ...

    def timed(self) -> None:
        """Timing is over."""
        ...


def run_demo(recipe: Recipe, rounds: RoundOptions, dataset: Dataset, progress: Progress) -> Record:
    """Everything, in order; what cannot run here is a subject with a reason.

    Raises:
        BadInput, BadDataset, Overlap: the inputs cannot be used.
        ParityFailed: the exported model is not the trained one.
    """
    environment = machine.environment()
    materials = gather(recipe, dataset, progress.say)
    built = build(recipe, materials, progress.say)
    candidates = plan(built)
    progress.say(f"timing: {len(candidates)} candidates, {rounds.launches} launches each")
    run = Measurement(candidates, rounds, progress.timing)
    run.run()
    progress.timed()
    subjects, times = run.subjects(), run.rounds()
    limited = without_vnni(candidates)
    subjects += tuple(candidate.subject() for candidate in limited)
    subjects, answers = score_all([*candidates, *limited], subjects, materials.confirm, recipe, progress)
    return Record(
        kind="bench",
        environment=environment,
        subjects=subjects,
        options={
            "photos": recipe.photos,
            "per_class": recipe.per_class,
            "seed": recipe.seed,
            **asdict(rounds),
            "temperatures": temperatures([*candidates, *limited]),
        },
        data={
            "name": dataset.name,
            "kind": dataset.kind,
            "role": "confirm",
            "count": len(materials.confirm),
            "calibration": len(materials.calibration),
            "labels": dataset.labels,
            "coarse": dataset.coarse,
        },
        rounds=times,
        predictions=answers,
        created=machine.utc_now(),
    )


def score_all(
    candidates: list[Candidate],
    subjects: tuple[Subject, ...],
    photos: PreparedPhotos,
    recipe: Recipe,
    progress: Progress,
) -> tuple[tuple[Subject, ...], dict[str, Predictions]]:
    """Score every candidate that ran; one that fails now gets its reason."""
    answers: dict[str, Predictions] = {}
    found = []
    for candidate, subject in zip(candidates, subjects, strict=True):
        if not subject.reason:
            bar = progress.bar(f"scoring {candidate.name}", len(photos))
            try:
                answers[candidate.name], applied = score(candidate, photos, recipe.out / "cache", bar)
                subject = subject if subject.applied else replace(subject, applied=applied)
            except TiffinError as error:
                subject = replace(subject, reason=error.what)
        found.append(subject)
    return tuple(found), answers
