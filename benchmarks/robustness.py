"""Robustness: what artifacts answer to photos that were spoiled on purpose, as one record of kind "robustness"."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import machine
from ..artifact import Preprocess
from ..data import Photo
from ..data.corrupted import prepare_corrupted
from ..data.corruptions import CLEAN, parameter_of
from ..data.prepared import PreparedPhotos, prepare_photos
from ..errors import BadInput
from ..records import Predictions, Record, Subject
from ..records.corruption import Corruption
from ..records.predictions import joined
from .accuracy import score
from .candidate import Candidate

Bar = Callable[[str, int], Callable[[int], None]]


@dataclass(frozen=True)
class Spoiling:
    """Which photos are spoiled in which ways.

    Args:
        photos: clean, labelled, in the order of the record.
        kind: of the photos, as a dataset's.
        corruptions: without the clean one, which always comes first.
        preprocess: of all candidates.
        cache: folder for pixels and answers: an interrupted run goes on. The pixels go when all are answered.
    """

    photos: Sequence[Photo]
    kind: str
    corruptions: Sequence[Corruption]
    preprocess: Preprocess
    cache: Path


def measure(
    candidates: Sequence[Candidate], asked: Spoiling, about: dict[str, Any], options: dict[str, Any], bar: Bar
) -> Record:
    """Answer the clean photos, then those of each corruption, by every candidate in a worker of its own.

    The record keeps the five likeliest labels a photo, no logits: 25 blocks of photos would be 25 times as large.

    Args:
        about: what the record says of the data besides the corruptions.
        bar: by a name and a total makes what is told how many are done.

    Raises:
        BadInput: no photos, a photo that cannot be read, an unknown corruption, no room on the disk.
        Overlap: some of the photos have calibrated a candidate.
        WorkerFailed, EngineFailed: as a worker says.
    """
    environment, answers, applied = machine.environment(), dict[str, list[Predictions]](), dict[str, Any]()
    spoiled = []
    for name, prepared in _batches(asked, bar):
        for candidate in candidates:
            if not candidate.reason:
                progress = bar(f"{name}: scoring {candidate.name}", len(prepared))
                found, applied[candidate.name] = score(candidate, prepared, asked.cache, progress)
                answers.setdefault(candidate.name, []).append(replace(found, logits=None))
        spoiled.append(prepared)
    for prepared in spoiled[1:]:
        prepared.path.unlink(missing_ok=True)
    return Record(
        "robustness",
        environment,
        tuple(_subject(candidate, applied) for candidate in candidates),
        options,
        {**about, "corruptions": _blocks(asked)},
        predictions={name: joined(parts) for name, parts in answers.items()},
        created=machine.utc_now(),
    )


def _batches(asked: Spoiling, bar: Bar) -> Iterator[tuple[str, PreparedPhotos]]:
    """The clean photos, then all strengths of one kind of corruption at a time: no more is made before it is needed."""
    if not asked.photos:
        raise BadInput("robustness on no photos", "at least one photo")
    clean = prepare_photos(asked.photos, asked.preprocess, asked.cache, asked.kind)
    yield "clean", clean
    for name, strengths in _by_name(asked.corruptions).items():
        progress = bar(f"{name}: corrupting", len(clean))
        yield name, prepare_corrupted(asked.photos, clean, strengths, asked.preprocess, asked.cache, progress)


def _by_name(corruptions: Sequence[Corruption]) -> dict[str, list[Corruption]]:
    found: dict[str, list[Corruption]] = {}
    for one in corruptions:
        found.setdefault(one.name, []).append(one)
    return found


def _blocks(asked: Spoiling) -> list[dict[str, Any]]:
    """What `records.corruption.blocks` reads, and what each strength is in words."""
    ordered = [CLEAN, *(one for group in _by_name(asked.corruptions).values() for one in group)]
    count = len(asked.photos)
    return [
        {"name": one.name, "strength": one.strength, "start": index * count, "stop": (index + 1) * count,
         "parameter": parameter_of(one)}
        for index, one in enumerate(ordered)
    ]  # fmt: skip


def _subject(candidate: Candidate, applied: dict[str, Any]) -> Subject:
    return candidate.subject(**({"applied": applied[candidate.name]} if candidate.name in applied else {}))
