"""Photos whose answer changed: what was answered before and now, with scores, and the photo where it is found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..records import Predictions
from ..records.divergence import log_softmax
from ..records.loss_budget import loss_budget, on_photos
from .rows import Row
from .story import Story

TOP = 3
HARMED, HEALED, STILL_WRONG, CHANGED = "harmed", "healed", "still wrong", "changed"
_ORDER = (HARMED, HEALED, STILL_WRONG, CHANGED)


@dataclass(frozen=True)
class Guess:
    """One label of a top-3 with its score in words."""

    label: int
    score: str


@dataclass(frozen=True)
class Flip:
    """One artifact's (or stage's) changed answer to a photo.

    Args:
        kind: "harmed", "healed", "still wrong"; "changed" on synthesized images, whose truth nobody knows.
        stage: of the loss budget; empty for a row of the table.
        record: file that holds both answers.
    """

    row: str
    kind: str
    stage: str
    before: tuple[Guess, ...]
    now: tuple[Guess, ...]
    record: str


@dataclass(frozen=True)
class Item:
    """One photo with all flips of it.

    Args:
        picture: data URI; empty where it is not shown, for the reason in `absent`.
        name: file name below the dataset's folder, where known.
    """

    photo: str
    truth: int | None
    flips: tuple[Flip, ...]
    picture: str = ""
    absent: str = ""
    name: str = ""


@dataclass(frozen=True)
class Gallery:
    """What the page lists.

    Args:
        items: most telling first; the page lists these, JSON all of them.
        left_out: photos that are not listed.
        notes: what is not shown, and why.
        scores: what the numbers are: "softmax" or "logit".
    """

    items: tuple[Item, ...] = ()
    left_out: tuple[Item, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def plain(self) -> list[dict[str, Any]]:
        """For JSON, without pictures: photos by their pixel hash, labels by index."""
        return [
            {
                "photo": item.photo,
                "truth": item.truth,
                "file": item.name,
                "flips": [
                    {
                        "row": flip.row,
                        "stage": flip.stage,
                        "kind": flip.kind,
                        "record": flip.record,
                        "before": [[one.label, one.score] for one in flip.before],
                        "now": [[one.label, one.score] for one in flip.now],
                    }
                    for flip in item.flips
                ],
            }
            for item in (*self.items, *self.left_out)
        ]


def gallery(story: Story, most: int) -> Gallery:
    """Every flipped photo of every row and stage; `most` photos are listed, the rest is counted.

    Photos that the row in focus flipped come first, harmed ones before others.
    """
    held: dict[str, list[Flip]] = {}
    truths: dict[str, int | None] = {}
    names: dict[str, str] = {}
    for photo, truth, name, flip in (*_of_rows(story), *_of_stages(story)):
        held.setdefault(photo, []).append(flip)
        truths[photo], names[photo] = truth, name or names.get(photo, "")
    items = [Item(photo, truths[photo], tuple(flips), name=names[photo]) for photo, flips in held.items()]
    items.sort(key=lambda item: _rank(item, story.focus))
    notes = []
    if len(items) > most:
        notes.append(f"{len(items) - most:,} more photos changed and are not listed here; `--json` has all of them.")
    return Gallery(tuple(items[:most]), tuple(items[most:]), tuple(notes))


def _rank(item: Item, focus: str) -> tuple[int, int, int, str]:
    mine = [flip for flip in item.flips if flip.row == focus or flip.stage]
    best = min((_ORDER.index(flip.kind) for flip in (mine or item.flips)), default=len(_ORDER))
    return 0 if mine else 1, best, -len(item.flips), item.photo


_Found = tuple[str, "int | None", str, Flip]


def _of_rows(story: Story) -> Iterator[_Found]:
    for row in story.rows:
        if row.answered is None or row.answered.base is None or row.name == story.reference:
            continue
        yield from _pair(row.answered.found, row.answered.base, row.name, "", row.answered.source.name, _files(row))


def _files(row: Row) -> Sequence[str]:
    assert row.answered is not None
    return row.answered.source.record.data.get("files") or ()


def _of_stages(story: Story) -> Iterator[_Found]:
    source = story.of_kind("explain")
    if source is None:
        return
    record = source.record
    for stage in loss_budget(record):
        if stage.after and stage.rows:
            now = record.predictions[stage.name]
            before = on_photos(record.predictions[stage.after], now.photos)
            yield from _pair(now, before, stage.name, stage.name, source.name, ())


def _pair(
    now: Predictions, before: Predictions, row: str, stage: str, record: str, files: Sequence[str]
) -> Iterator[_Found]:
    changed = np.flatnonzero(now.top[:, 0] != before.top[:, 0])
    tops = [_tops(each, changed) for each in (before, now)]
    known = len(files) == len(now)
    for place, index in enumerate(changed.tolist()):
        truth = int(now.truth[index]) if now.kind == "photos" else None
        was, is_ = tops[0][place], tops[1][place]
        flip = Flip(row, _kind(truth, was[0].label, is_[0].label), stage, was, is_, record)
        yield now.photos[index], truth, str(files[index]) if known else "", flip


def _kind(truth: int | None, before: int, now: int) -> str:
    if truth is None:
        return CHANGED
    return HARMED if before == truth else HEALED if now == truth else STILL_WRONG


def _tops(found: Predictions, rows: np.ndarray) -> list[tuple[Guess, ...]]:
    """Softmax of all logits where they are held, else the logits as they are, named so."""
    if found.logits is None:
        return [
            tuple(
                Guess(int(label), f"logit {score:.2f}")
                for label, score in zip(found.top[row, :TOP], found.scores[row, :TOP], strict=True)
            )
            for row in rows
        ]
    chances = np.exp(log_softmax(found.logits[rows])) if len(rows) else np.zeros((0, 0))
    return [
        tuple(Guess(int(label), f"{100 * chances[place, label]:.1f} %") for label in found.top[row, :TOP])
        for place, row in enumerate(rows)
    ]


def with_pictures(
    found: Gallery, pictures: dict[str, str], absent: dict[str, str], names: dict[str, str], note: str
) -> Gallery:
    """The same with pictures, and words where there are none."""
    items = tuple(
        replace(
            item,
            picture=pictures.get(item.photo, ""),
            absent="" if item.photo in pictures else absent.get(item.photo, "not shown"),
            name=item.name or names.get(item.photo, ""),
        )
        for item in found.items
    )
    return replace(found, items=items, notes=(*found.notes, *((note,) if note else ())))
