"""Where answers were lost on the way from the checkpoint to the device: flips and top-1, stage by stage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import BadInput
from .paired import paired_counts
from .predictions import Predictions
from .record import Record, Subject

HYPOTHESIS = "hypothesis: "  # begins the place of what an explain record holds beside its stages


@dataclass(frozen=True)
class Stage:
    """One step of the way, against the step before it; the first has nothing before it and changes nothing.

    Photos are counted by top-1. `harmed` were right before this stage and are wrong after it, `healed` the other way
    round, `still_wrong` changed from one wrong answer to another: together they are the flips of this stage.
    `flipped` is the number of photos whose answer differs from the first stage's; of these `newly` were the first
    stage's answer just before, and `recovered` differed before and are its answer again: `flipped` is the one before
    plus newly minus recovered, so that the stages add up to the whole.

    Args:
        n: photos that this stage answered. All figures are over these, those of the stage before too: a class of CPU
            may have answered a sample only.
        right: photos answered rightly after this stage, of n.
        rows: indices of the photos that flipped in this stage, among those that it answered.
        after: name of the stage before; empty for the first. Classes of CPU all come after one and the same.
        right_before, flipped_before: of the stage before, on the n photos.
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
    after: str = ""
    right_before: int = 0
    flipped_before: int = 0

    @property
    def adds_up(self) -> bool:
        """Whether what was lost and won in this stage leads from the figures before it to those after it."""
        right = self.right_before + self.healed - self.harmed == self.right
        flipped = self.flipped_before + self.newly - self.recovered == self.flipped
        return right and flipped and self.harmed + self.healed + self.still_wrong == len(self.rows)


def loss_budget(record: Record) -> tuple[Stage, ...]:
    """Stages of a record of kind "explain": its subjects in their order, those that answered.

    Each comes after the one before it in the record, save where `record.options["after"]` names another.

    Raises:
        BadInput: another kind of record, fewer than two stages, or a stage that answered photos which the one before
            it did not.
    """
    names = [subject.name for subject in record.subjects if subject.name in record.predictions and stage_like(subject)]
    if record.kind != "explain" or len(names) < 2:
        raise BadInput(
            f"a loss budget of a {record.kind} record with {len(names)} stages", "a record that `tiffin explain` wrote"
        )
    before = dict(zip(names[1:], names, strict=False)) | dict(record.options.get("after") or {})
    if unknown := sorted({stage for stage in before.values() if stage not in names}):
        raise BadInput(f"a stage after {unknown[0]!r}", f"one of {', '.join(names)}")
    first = record.predictions[names[0]]
    return tuple(_stage(record, name, before.get(name, ""), first) for name in names)


def _stage(record: Record, name: str, after: str, first: Predictions) -> Stage:
    now = record.predictions[name]
    before, origin = on_photos(record.predictions[after or name], now.photos), on_photos(first, now.photos)
    _, healed, harmed, _ = paired_counts(now, before)
    rows = np.flatnonzero(now.top[:, 0] != before.top[:, 0])
    was, differs = (np.asarray(answers.top[:, 0] != origin.top[:, 0]) for answers in (before, now))
    return Stage(
        name, len(now), right_of(now), harmed, healed, len(rows) - harmed - healed, int(differs.sum()),
        int((differs & ~was).sum()), int((was & ~differs).sum()), tuple(rows.tolist()), after, right_of(before),
        int(was.sum()),
    )  # fmt: skip


def adds_up(stages: tuple[Stage, ...]) -> bool:
    """Whether each stage adds up by itself, and the way from the first to each whose photos are those of all steps."""
    by_name = {stage.name: stage for stage in stages}
    for stage in stages:
        steps = _way(stage, by_name)
        if not stage.adds_up or steps[-1] is not stages[0]:
            return False
        if any(step.n != stage.n for step in steps):
            continue  # a sample, which adds up over the photos that it holds
        if stage.right != stages[0].right + sum(step.healed - step.harmed for step in steps):
            return False
        if stage.flipped != sum(step.newly - step.recovered for step in steps):
            return False
    return True


def _way(stage: Stage, by_name: dict[str, Stage]) -> list[Stage]:
    """From a stage back to the first; one step a stage at most, whatever names what."""
    steps = [stage]
    while steps[-1].after in by_name and len(steps) <= len(by_name):
        steps.append(by_name[steps[-1].after])
    return steps


def worst_stage(stages: tuple[Stage, ...]) -> Stage | None:
    """The stage that lost most: by harmed minus healed, then by flips, as shares of its photos; None if none did."""
    flipped = [stage for stage in stages[1:] if stage.rows]
    return max(flipped, key=lambda one: ((one.harmed - one.healed) / one.n, len(one.rows) / one.n), default=None)


def right_of(found: Predictions) -> int:
    """Photos whose likeliest label is the true one."""
    return int((found.top[:, 0] == found.truth).sum())


def on_photos(found: Predictions, photos: tuple[str, ...]) -> Predictions:
    """The answers to these photos, in this order.

    Raises:
        BadInput: one of them was not answered.
    """
    if found.photos == photos:
        return found
    places = {photo: place for place, photo in enumerate(found.photos)}
    missing = sum(photo not in places for photo in photos)
    if missing or not photos:
        raise BadInput(
            f"stages that answered other photos: {missing} of {len(photos)} are lacking", "the same photos, or a part"
        )
    return found.rows([places[photo] for photo in photos])


def stage_like(subject: Subject) -> bool:
    """False of what an explain record holds beside its stages: hypotheses about the cause."""
    return not subject.place.startswith(HYPOTHESIS)
