"""The splits that a set comes with → roles, by one rule for every layout.

- train fills train, and calibrate draws from the same photos; val fills select; test fills confirm.
- No test (iFood-2019 gives no test labels): val fills confirm.
- No val left for select (iFood-2019, Food-101): a tenth of train is held out of train and fills select.
- Neither train nor val: a fifth of the photos fills train and calibrate, a tenth select, the rest confirm.

Photos are held out by a hash of their path below the root: any machine and any order of listing give the
same, and photos that are added later move none of the others, save in a class of a few and save their copies.
"""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path

from ..artifact.files import sha256_file
from ..errors import BadDataset
from .dataset import Photo

SPLITS = ("train", "val", "test")
_SEED = 0

Photos = tuple[Photo, ...]


def roles_of(splits: Mapping[str, Sequence[Photo]], root: Path) -> dict[str, Photos]:
    """Roles of the photos in `SPLITS`, each of which may be absent; holds out by paths below `root`."""
    train, val, test = (tuple(splits.get(split, ())) for split in SPLITS)
    if not test:
        val, test = (), val
    if not train and not val:
        calibrate, rest = hold_out(test, root, 0.2)
        select, confirm = hold_out(rest, root, 0.3)  # of the same draw: a tenth of all
        return {"train": calibrate, "calibrate": calibrate, "select": select, "confirm": confirm}
    if not val:
        val, train = hold_out(train, root, 0.1)
    return {"train": train, "calibrate": train, "select": val, "confirm": test}


def lacking(splits: Mapping[str, Sequence[Photo]]) -> str:
    """By what `roles_of` fills the roles of a split that is absent, empty where none is."""
    train, val, test = (bool(splits.get(split)) for split in SPLITS)
    if not train and not (val and test):
        return "no train split: a fifth of the photos is train, a tenth select, the rest confirm"
    if val and not test:
        return "no test split: val is confirm, and a tenth of train is held out as select"
    return "" if val else "no val split: a tenth of train is held out as select"


def hold_out(photos: Sequence[Photo], root: Path, part: float) -> tuple[Photos, Photos]:
    """(held out, kept): photos whose draw from [0, 1) is below `part`, and the rest.

    A class of two or more photos gives at least one and keeps at least one; files of a class with the same bytes go
    together, as one photo.
    """
    classes: dict[int, list[Path]] = defaultdict(list)
    for photo in photos:
        classes[photo.label].append(photo.path)
    held: set[Path] = set()
    for paths in classes.values():
        originals = _originals(paths)
        draws = {original: _draw(original, root) for original in originals.values()}
        first = sorted(draws, key=lambda path: draws[path])
        below = sum(draw < part for draw in draws.values())
        apart = set(first[: min(max(1, below), len(first) - 1)])
        held.update(path for path in paths if originals[path] in apart)
    return tuple(p for p in photos if p.path in held), tuple(p for p in photos if p.path not in held)


def _draw(path: Path, root: Path) -> float:
    below = path.relative_to(root) if path.is_relative_to(root) else path
    digest = hashlib.sha256(f"{_SEED}:{below.as_posix()}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _originals(paths: Iterable[Path]) -> dict[Path, Path]:
    """Each path → the first by name of those with the same bytes. Only files of one size are read."""
    originals = {path: path for path in paths}
    groups = [sorted(path for path in originals if path.is_file())]
    for kind in (_size, sha256_file):
        groups = [alike for group in groups for alike in _by(kind, group) if len(alike) > 1]
    return {**originals, **{path: group[0] for group in groups for path in group}}


def _by(kind: Callable[[Path], Hashable], paths: Sequence[Path]) -> Iterable[list[Path]]:
    found: dict[Hashable, list[Path]] = defaultdict(list)
    for path in paths:
        try:
            found[kind(path)].append(path)
        except OSError as error:
            raise BadDataset(f"{path}: {error.strerror}", "a photo that can be read") from error
    return found.values()


def _size(path: Path) -> int:
    return path.stat().st_size


def hold_out_runs(photos: Iterable[Photo], part: float, seed: int, hashes: Mapping[Path, str]) -> tuple[Photos, Photos]:
    """(held out, kept): of each class one run of photos that follow one another by name, the rest.

    Neighbours by name are often of one scene: held out one by one, each would leave its twin among those fitted.
    A copy of a photo held out follows it, whatever its name.

    Args:
        part: of each class's photos, in [0, 1); a class of two or more gives at least one and keeps at least one.
        seed: of where the run begins.
        hashes: pixel hash of each photo's path.
    """
    classes: dict[int, list[Photo]] = defaultdict(list)
    for photo in sorted(photos, key=lambda photo: photo.path):
        classes[photo.label].append(photo)
    held: set[str] = set()
    for label, members in classes.items():
        count = min(max(1, round(part * len(members))), len(members) - 1) if part else 0
        # Python promises that random() of a string seed stays the same.
        first = int(random.Random(f"{seed}:{label}:run").random() * (len(members) - count + 1))
        held.update(hashes[photo.path] for photo in members[first : first + count])
    every = [photo for members in classes.values() for photo in members]
    apart = tuple(photo for photo in every if hashes[photo.path] in held)
    return apart, tuple(photo for photo in every if hashes[photo.path] not in held)
