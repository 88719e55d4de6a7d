"""Where answers were lost on the way from the checkpoint to the device: flips and top-1, stage by stage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import BadInput
from .paired import paired_counts
from .record import Record


@dataclass(frozen=True)
class Stage:
    """One step of the way, against the step before it; the first has nothing before it and changes nothing.

    Photos are counted by top-1. `harmed` were right before this stage and are wrong after it, `healed` the other way
    round, `still_wrong` changed from one wrong answer to another: together they are the flips of this stage.
    `flipped` is the number of photos whose answer differs from the first stage's; of these `newly` were the first
    stage's answer just before, and `recovered` differed before and are its answer again: `flipped` is the one before
    plus newly minus recovered, so that the stages add up to the whole.

    Args:
        right: photos answered rightly after this stage, of n.
        rows: indices of the photos that flipped in this stage.
    """

    name: str
    n: int
    right: int
    harmed: int
    healed: int
    still_wrong: int
    flipped: int
    newly: int
    recovered: int
    rows: tuple[int, ...] = ()


def loss_budget(record: Record) -> tuple[Stage, ...]:
    """Stages of a record of kind "explain": its subjects in their order, those that answered.

    Raises:
        BadInput: another kind of record, fewer than two stages, or stages that answered other photos.
    """
    names = [subject.name for subject in record.subjects if subject.name in record.predictions and stage_like(subject)]
    if record.kind != "explain" or len(names) < 2:
        raise BadInput(
            f"a loss budget of a {record.kind} record with {len(names)} stages", "a record that `tiffin explain` wrote"
        )
    answers = [record.predictions[name] for name in names]
    first = answers[0].top[:, 0]
    found, before = [], answers[0]
    for name, now in zip(names, answers, strict=True):
        _, healed, harmed, _ = paired_counts(now, before)
        rows = np.flatnonzero(now.top[:, 0] != before.top[:, 0])
        was, differs = before.top[:, 0] != first, now.top[:, 0] != first
        found.append(
            Stage(
                name, len(now), int((now.top[:, 0] == now.truth).sum()), harmed, healed, len(rows) - harmed - healed,
                int(differs.sum()), int((differs & ~was).sum()), int((was & ~differs).sum()), tuple(rows.tolist()),
            )
        )  # fmt: skip
        before = now
    return tuple(found)


def stage_like(subject: object) -> bool:
    """False of what an explain record holds beside its stages: hypotheses about the cause."""
    return not str(getattr(subject, "place", "")).startswith("hypothesis: ")
