"""Datasets as they lie on disk → `Dataset`. One small reader a layout, in the order in which they are tried.

How splits become roles, where a set lacks one of train, val and test: `splits`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import BadDataset
from ..runtime.sources.files import is_photo
from .dataset import ROLES, Dataset, Photo
from .lists import class_index, class_name, folder_with, in_order, read_lines, read_rows
from .splits import SPLITS, lacking, roles_of

_log = logging.getLogger(__name__)
_MOST_CLASSES = 100_000  # a bare numeric label above is an error, not a class


class Layout(NamedTuple):
    """One way in which a dataset lies on disk.

    `detect` gives the folder, root itself or one below, that has this layout, or None; `read` takes it.
    """

    name: str
    detect: Callable[[Path], Path | None]
    read: Callable[[Path], Dataset]


def open_dataset(root: Path) -> Dataset:
    """Read the dataset in a folder, by whichever known layout it has.

    Raises:
        BadDataset: no folder, no known layout, a listed photo is missing, or a list cannot be read.
    """
    if not root.is_dir():
        what = f"{root} is {'no folder' if root.exists() else 'not there'}"
        raise BadDataset(what, "a folder with a dataset", "correct the path")
    for layout in LAYOUTS:
        base = layout.detect(root)
        if base is not None:
            return _checked(layout.read(base))
    tried = "; ".join(layout.name for layout in LAYOUTS)
    raise BadDataset(f"{root}: no known dataset layout", tried, "arrange the photos in one of these layouts")


def _checked(dataset: Dataset) -> Dataset:
    photos = dict.fromkeys(photo for role in ROLES for photo in dataset.roles.get(role, ()))
    if not photos:
        raise BadDataset(f"{dataset.root}: no photos", "at least one labelled photo", "fill its lists or folders")
    for photo in photos:
        if not 0 <= photo.label < len(dataset.labels):
            what, classes = f"{photo.path}: its class is not among the labels", len(dataset.labels)
            raise BadDataset(what, f"one of the {classes} classes, indices from 0", "correct the set's lists")
    missing = [photo.path for photo in photos if not photo.path.is_file()]
    if missing:
        shown = ", ".join(map(str, missing[:3])) + (", …" if len(missing) > 3 else "")
        what = f"{dataset.root}: {len(missing)} of {len(photos)} listed photos are missing: {shown}"
        raise BadDataset(what, "every photo that the set's lists name", "fetch or unpack the whole set again")
    return dataset


def _of_splits(
    name: str, base: Path, labels: tuple[str, ...], splits: Mapping[str, Sequence[Photo]],
    coarse: tuple[str, ...] | None = None,
) -> Dataset:  # fmt: skip
    return Dataset(name, base, labels, roles_of(splits, base), coarse=coarse, note=lacking(splits))


# Grocery Store (Klasson et al., WACV 2019): train.txt, val.txt, test.txt of `path, fine, coarse`; classes.csv


def _detect_grocery(root: Path) -> Path | None:
    return folder_with(root, ("dataset",), ("classes.csv", *(f"{split}.txt" for split in SPLITS)))


def _grocery_photos(base: Path, split: str) -> list[Photo]:
    path, photos = base / f"{split}.txt", []
    for line in read_lines(path):
        try:
            name, fine, _ = (word.strip() for word in line.rsplit(",", 2))
            photos.append(Photo(base / name, int(fine)))
        except ValueError as error:
            raise BadDataset(f"{path}: {line!r}", "`path, fine label, coarse label` in each line") from error
    return photos


def _read_grocery(base: Path) -> Dataset:
    listed = base / "classes.csv"
    rows = read_rows(listed, ("Class ID (int)", "Class Name (str)", "Coarse Class Name (str)"))
    classes = in_order({class_index(number, {}, listed): names for number, *names in rows}, listed)
    labels, coarse = (tuple(class_name(names[place]) for names in classes) for place in (0, 1))
    splits = {split: _grocery_photos(base, split) for split in SPLITS}
    return _of_splits("grocery-store", base, labels, splits, coarse)


# Food-101 (Bossard et al., ECCV 2014): meta/classes.txt, meta/train.txt, meta/test.txt of `class/id`; images/


def _detect_food101(root: Path) -> Path | None:
    return folder_with(root, ("food-101",), [f"meta/{name}.txt" for name in ("classes", "train", "test")])


def _read_food101(base: Path) -> Dataset:
    labels = tuple(map(class_name, read_lines(base / "meta/classes.txt")))
    places = {label: index for index, label in enumerate(labels)}
    splits = {}
    for split in ("train", "test"):
        listed = base / f"meta/{split}.txt"
        named = [(name, class_index(name.split("/")[0], places, listed)) for name in read_lines(listed)]
        splits[split] = [Photo(base / "images" / f"{name}.jpg", label) for name, label in named]
    return _of_splits("food-101", base, labels, splits)


# Tiffin's own synthesized set: synthesized.json; photos.csv with `role,path,label`


def _detect_synthesized(root: Path) -> Path | None:
    return folder_with(root, (), ("synthesized.json", "photos.csv"))


def _read_synthesized(base: Path) -> Dataset:
    listed = base / "photos.csv"
    labels = _synthesized_labels(base / "synthesized.json")
    places = {label: index for index, label in enumerate(labels)}
    roles: dict[str, list[Photo]] = {role: [] for role in ROLES}
    for role, name, label in read_rows(listed, ("role", "path", "label")):
        if role not in ROLES:
            raise BadDataset(f"{listed}: role {role!r}", f"one of {', '.join(ROLES)}")
        roles[role].append(Photo(base / name, class_index(label, places, listed)))
    filled = {role: tuple(photos) for role, photos in roles.items()}
    return Dataset("synthesized", base, labels, filled, kind="synthesized")


def _synthesized_labels(head: Path) -> tuple[str, ...]:
    try:
        raw = json.loads("\n".join(read_lines(head)))
        if raw["kind"] == "synthesized":
            return tuple(class_name(str(label)) for label in raw["labels"])
        reason = f"kind {raw['kind']!r}"
    except (ValueError, KeyError, TypeError) as error:
        reason = f"cannot be read ({error})"
    raise BadDataset(f"{head}: {reason}", 'JSON with "kind": "synthesized" and "labels"')


# CSV: a list a split with the header `path,label`; or iFood-2019 (Kaur et al., 2019): train_labels.csv with
# the header `img_name,label`, photos in train_set/, class names in class_list.txt


def _csv_of(base: Path) -> dict[str, Path]:
    """split → its list; a single labels.csv counts as test."""
    names = [(split, f"{split}{ending}.csv") for split in SPLITS for ending in ("", "_labels")]
    return {split: base / name for split, name in [("test", "labels.csv"), *names] if (base / name).is_file()}


def _detect_csv(root: Path) -> Path | None:
    return root if _csv_of(root) else None


def _csv_rows(path: Path) -> list[list[str]]:
    header = read_lines(path)[:1]
    first = "img_name" if header and "img_name" in header[0] else "path"
    return read_rows(path, (first, "label"))


def _listed_classes(path: Path) -> tuple[str, ...]:
    """Class names of a class_list.txt, `id name` in each line."""
    pairs = [line.partition(" ") for line in read_lines(path)]
    return tuple(in_order({class_index(number, {}, path): class_name(name.strip()) for number, _, name in pairs}, path))


def _named_classes(words: set[str], where: Path) -> tuple[str, ...]:
    """Class names out of the labels themselves: names are sorted; indices name themselves, gaps included."""
    if not all(word.isascii() and word.isdigit() for word in words):
        return tuple(sorted(set(map(class_name, words))))
    highest = max((class_index(word, {}, where) for word in words), default=0)
    if highest >= _MOST_CLASSES:
        raise BadDataset(f"{where}: label {highest}", f"class names, or indices below {_MOST_CLASSES}")
    return tuple(map(str, range(highest + 1)))


def _read_csv(base: Path) -> Dataset:
    rows = {split: _csv_rows(path) for split, path in _csv_of(base).items()}
    words, listed = {word for split in rows.values() for _, word in split}, base / "class_list.txt"
    labels = _listed_classes(listed) if listed.is_file() else _named_classes(words, base)
    places = {label: index for index, label in enumerate(labels)}
    splits = {}
    for split, named in rows.items():
        folder = base / f"{split}_set" if (base / f"{split}_set").is_dir() else base
        splits[split] = [Photo(folder / name, class_index(word, places, base)) for name, word in named]
    return _of_splits(base.resolve().name, base, labels, splits)


# A folder per class: train/CLASS/, val/CLASS/, test/CLASS/; or CLASS/ alone, which counts as test

_SPLIT_FOLDERS = (
    ("train", "train"),
    ("val", "validation"),
    ("val", "valid"),
    ("val", "val"),
    ("test", "test"),
)


def _photos_in(folder: Path) -> list[Path]:
    files = sorted(folder.iterdir()) if folder.is_dir() and not folder.name.startswith(".") else []
    return [file for file in files if is_photo(file.name)]


def _class_folders(folder: Path) -> dict[str, list[Path]]:
    """class name → its photos, for those folders in `folder` that hold any directly."""
    found: dict[str, list[Path]] = {}
    for entry in sorted(folder.iterdir()):
        if photos := _photos_in(entry):
            found.setdefault(class_name(entry.name), []).extend(photos)
    return found


def _folder_splits(root: Path) -> dict[str, dict[str, list[Path]]]:
    """split → class name → photos; no key where there are none."""
    present = {split: root / name for split, name in _SPLIT_FOLDERS if (root / name).is_dir()}
    found = {split: _class_folders(folder) for split, folder in (present or {"test": root}).items()}
    return {split: classes for split, classes in found.items() if classes}


def _without_photos(root: Path) -> set[str]:
    """Names of the folders beside the classes that hold no photos."""
    splits = [root / name for _, name in _SPLIT_FOLDERS if (root / name).is_dir()]
    entries = [entry for folder in splits or [root] for entry in folder.iterdir() if entry.is_dir()]
    return {class_name(entry.name) for entry in entries if not entry.name.startswith(".") and not _photos_in(entry)}


def _detect_folders(root: Path) -> Path | None:
    return root if _folder_splits(root) else None


def _read_folders(base: Path) -> Dataset:
    found = _folder_splits(base)
    labels = tuple(sorted({name for classes in found.values() for name in classes}))
    if empty := sorted(_without_photos(base) - set(labels)):
        _log.warning("%s: no class, for no photos: %s", base, ", ".join(empty[:5]) + (", …" if len(empty) > 5 else ""))
    places = {label: index for index, label in enumerate(labels)}
    splits = {
        split: [Photo(path, places[name]) for name, paths in classes.items() for path in paths]
        for split, classes in found.items()
    }
    return _of_splits(base.resolve().name, base, labels, splits)


LAYOUTS: tuple[Layout, ...] = (
    Layout("Tiffin's synthesized set (synthesized.json, photos.csv)", _detect_synthesized, _read_synthesized),
    Layout("Grocery Store (train.txt, val.txt, test.txt, classes.csv)", _detect_grocery, _read_grocery),
    Layout("Food-101 (meta/classes.txt, meta/train.txt, meta/test.txt)", _detect_food101, _read_food101),
    Layout("CSV (train.csv or train_labels.csv, likewise val and test; or labels.csv)", _detect_csv, _read_csv),
    Layout("folders (train/CLASS, val/CLASS, test/CLASS; or only CLASS)", _detect_folders, _read_folders),
)
