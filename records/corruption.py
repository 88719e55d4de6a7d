"""Answers to photos that were corrupted on purpose: blocks of one record of kind "robustness"."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..errors import BadInput
from .differences import mean_difference, p_above
from .estimate import Estimate
from .multiple import holm
from .paired import losses, paired_counts
from .predictions import Predictions
from .record import Record


@dataclass(frozen=True)
class Corruption:
    """One way to spoil a photo, such as "blur", at strength 1 to 3; strength 0 is the clean photo ("none")."""

    name: str
    strength: int

    def __str__(self) -> str:
        return f"{self.name} {self.strength}" if self.strength else self.name


def blocks(record: Record) -> Iterator[tuple[Corruption, dict[str, Predictions]]]:
    """Each corruption with what every subject answered under it, on the same photos in the same order.

    A robustness record's predictions hold all blocks one after the other; `data["corruptions"]` lists them as
    {"name", "strength", "start", "stop"}, the clean photos first.

    Raises:
        BadInput: another kind of record.
    """
    if record.kind != "robustness" or not record.data.get("corruptions"):
        raise BadInput(f"corruptions of a {record.kind} record", "a record that `tiffin robustness` wrote")
    for block in record.data["corruptions"]:
        rows = slice(int(block["start"]), int(block["stop"]))
        yield (
            Corruption(block["name"], int(block["strength"])),
            {name: found.rows(rows) for name, found in record.predictions.items()},
        )


@dataclass(frozen=True)
class FasterFall:
    """How much more top-1 a subject loses to a corruption than its reference does.

    Args:
        extra: the subject's fall less the reference's, 0.01 = one point; above 0 where the subject falls faster.
        p_value: one-sided, of the claim that it is above the margin asked for.
    """

    extra: Estimate
    p_value: float


def faster_fall(
    clean_subject: Predictions,
    clean_reference: Predictions,
    subject: Predictions,
    reference: Predictions,
    margin: float = 0.0,
    confidence: float = 0.95,
) -> FasterFall:
    """Compare two falls from the clean photos to the same photos corrupted: a difference of differences.

    Each photo counts once, with what it adds to the subject's fall less what it adds to the reference's, -2 to 2
    (`differences.mean_difference`): photos that are hard, or that the subject had lost before, weigh nothing.

    Args:
        margin: 0.01 = one point.
        confidence: of the interval with both its ends; each end alone holds with (1 + confidence) / 2.

    Raises:
        BadInput: not the same photos and truths in the same order, or synthesized images.
    """
    for one, other in ((clean_subject, clean_reference), (subject, reference)):
        paired_counts(one, other)  # refuses what cannot be compared
    if not np.array_equal(clean_subject.truth, subject.truth):
        raise BadInput("a fall from other photos", "the clean photos and the same corrupted, in the same order")
    falls = losses(subject, clean_subject) - losses(reference, clean_reference)
    return FasterFall(mean_difference(falls, confidence), p_above(falls, margin))


def faster_falls(record: Record, reference: str, margin: float = 0.0) -> dict[tuple[str, Corruption], FasterFall]:
    """Each subject but the reference under each corruption; p values adjusted by Holm over all of them.

    Raises:
        BadInput: another kind of record, or one without the reference.
    """
    (_, clean), *corrupted = blocks(record)
    if reference not in clean:
        raise BadInput(f"no answers of {reference!r}", f"one of {', '.join(clean)}")
    found = {
        (name, corruption): faster_fall(clean[name], clean[reference], answers[name], answers[reference], margin)
        for corruption, answers in corrupted
        for name in clean
        if name != reference
    }
    adjusted = holm([one.p_value for one in found.values()])
    return {key: replace(one, p_value=float(p)) for (key, one), p in zip(found.items(), adjusted, strict=True)}
