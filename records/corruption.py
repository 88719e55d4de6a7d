"""Answers to photos that were corrupted on purpose: blocks of one record of kind "robustness"."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import BadInput
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
        yield Corruption(block["name"], int(block["strength"])), {
            name: part(found, rows) for name, found in record.predictions.items()
        }


def part(found: Predictions, rows: slice) -> Predictions:
    """Some of the photos."""
    logits = None if found.logits is None else found.logits[rows]
    return Predictions(found.photos[rows], found.truth[rows], found.top[rows], found.scores[rows], found.kind, logits)
