"""Labelled photos in roles, and seeded draws from them.

    train      what weights are fitted on
    calibrate  the pool that int8 calibration draws from: the same photos as train
    select     val, else held out: searches and thresholds look here
    confirm    test: looked at once, for the winner

calibrate draws from train, so these two overlap by definition; every other pair must be disjoint
(`overlap.prove_disjoint`).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..artifact.manifest import require_shown
from ..errors import BadDataset, BadInput

ROLES = ("train", "calibrate", "select", "confirm")

_LACKING = {
    "train": "add a train split, or train on another set",
    "calibrate": "add a train split, or a few more photos: calibration draws from it",
    "select": "add a val split, or a few more photos: a tenth is held out where there is none",
    "confirm": "add a test split: the winner is confirmed on photos that nothing else has seen",
}


@dataclass(frozen=True)
class Photo:
    """One photo file and the index of its class in `Dataset.labels`."""

    path: Path
    label: int


@dataclass(frozen=True)
class Dataset:
    """Photos of one labelled set, by role.

    Args:
        name: short name, for records.
        root: folder that the layout was found in; photo paths lie below it, save for absolute ones in a CSV.
        labels: fine class names; `Photo.label` indexes them.
        roles: role → photos; a role that the set cannot fill is absent or empty.
        kind: "photos" or "synthesized": pictures drawn by a program prove nothing about accuracy.
        coarse: coarse class name of each fine class, in the order of `labels`, or None.
        note: how the roles were filled where the set lacks a split, in words; empty where it has all.
    """

    name: str
    root: Path
    labels: tuple[str, ...]
    roles: Mapping[str, tuple[Photo, ...]]
    kind: Literal["photos", "synthesized"] = "photos"
    coarse: tuple[str, ...] | None = None
    note: str = ""

    def __post_init__(self) -> None:
        try:
            require_shown((*self.labels, *(self.coarse or ())), f"{self.root}: a class")
        except BadInput as error:
            raise BadDataset(error.what, error.expected, "rename the class") from error

    def role(self, name: str) -> tuple[Photo, ...]:
        """Photos of a role, at least one.

        Raises:
            BadDataset: no such role, or this set has no photos for it.
        """
        if name not in ROLES:
            raise BadDataset(f"role {name!r}", f"one of {', '.join(ROLES)}")
        photos = self.roles.get(name, ())
        if not photos:
            filled = ", ".join(role for role in ROLES if self.roles.get(role)) or "none"
            what = f"{self.name} ({self.root}) has no photos to {name} with"
            raise BadDataset(what, f"photos in the role {name!r}; filled are: {filled}", _LACKING[name])
        return photos

    def about(self, role: str, photos: Sequence[Photo]) -> dict[str, Any]:
        """What a record's `data` says of photos that were scored; files are named below the root, never by a machine's
        path.
        """
        files = [_below(photo.path, self.root) for photo in photos]
        return {"name": self.name, "kind": self.kind, "role": role, "count": len(photos), "labels": self.labels,
                "coarse": self.coarse, "files": files}  # fmt: skip


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _shuffled(photos: Iterable[Photo], seed: int) -> dict[int, list[Photo]]:
    """label → its photos in a seeded order that depends on no other class and not on the order given."""
    classes: dict[int, list[Photo]] = defaultdict(list)
    for photo in sorted(photos, key=lambda photo: (photo.path, photo.label)):
        classes[photo.label].append(photo)
    for label, members in classes.items():
        # Python promises that random() of a string seed stays the same; not so shuffle() and sample().
        draw = random.Random(f"{seed}:{label}").random
        members.sort(key=lambda _: draw())
    return classes


def balanced(photos: Iterable[Photo], per_class: int, seed: int) -> tuple[Photo, ...]:
    """Seeded draw of up to `per_class` photos of each class; a smaller class gives all it has.

    The same photos in any order, below any root, give the same draw. A larger `per_class` adds to the draw.

    Returns:
        Photos sorted by path.

    Raises:
        BadInput: `per_class` is below 1.
    """
    if per_class < 1:
        raise BadInput(f"{per_class} photos per class", "at least 1")
    drawn = [photo for members in _shuffled(photos, seed).values() for photo in members[:per_class]]
    return tuple(sorted(drawn, key=lambda photo: photo.path))


def sample(photos: Iterable[Photo], count: int, seed: int) -> tuple[Photo, ...]:
    """Seeded subset of `count` photos, spread evenly over the classes; all photos if there are no more.

    Class counts differ by at most one, except where a class has run out: the subset does not keep the
    proportions of an uneven set. A larger `count` adds to the subset.

    Returns:
        Photos sorted by path.

    Raises:
        BadInput: `count` is below 1.
    """
    if count < 1:
        raise BadInput(f"{count} photos", "at least 1")
    turns = []
    for label, members in sorted(_shuffled(photos, seed).items()):
        draw = random.Random(f"{seed}:{label}:turn").random  # who comes first within a round is drawn as well
        turns += [(rank, draw(), label, photo) for rank, photo in enumerate(members)]
    turns.sort(key=lambda turn: turn[:3])
    return tuple(sorted((turn[3] for turn in turns[:count]), key=lambda photo: photo.path))
