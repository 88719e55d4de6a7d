"""A dataset's classes and a model's labels: the same, the same by name in another order, or no pair at all."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from ..errors import BadDataset
from .dataset import Dataset
from .lists import class_name

_SHOWN = 5


def read_as(dataset: Dataset, labels: tuple[str, ...], model: str) -> tuple[Dataset, str]:
    """The dataset with its photos' classes as indices of a model's labels, and a sentence where that changed something.

    Classes are found by name, in whichever of Unicode's forms. Where no name fits but there are as many, they are
    taken by position, and that is said: the same classes may be written otherwise.

    Args:
        model: what to call it in errors.

    Raises:
        BadDataset: photos of classes that the model does not know, or has twice.
    """
    if dataset.labels == labels:
        return dataset, ""
    composed = dataclasses.replace(dataset, labels=tuple(map(class_name, dataset.labels)))
    found, note = _read_as(composed, tuple(map(class_name, labels)), model)
    return dataclasses.replace(found, labels=labels), note


def _read_as(dataset: Dataset, labels: tuple[str, ...], model: str) -> tuple[Dataset, str]:
    if dataset.labels == labels:
        return dataset, ""
    seen = {dataset.labels[photo.label] for photos in dataset.roles.values() for photo in photos}
    missing = [label for label in dataset.labels if label in seen and label not in labels]
    doubled = [label for label in dataset.labels if label in seen and labels.count(label) > 1]
    if doubled:
        raise BadDataset(f"{model} has several classes called {doubled[0]}", "labels that tell its classes apart",
                         "export it again, which numbers them, or name them by --labels")  # fmt: skip
    if not missing:
        return _moved(
            dataset, labels
        ), f"{dataset.name}: classes are found by name among the {len(labels)} labels of {model}"
    if len(dataset.labels) == len(labels) and not set(dataset.labels) & set(labels):
        pair = f"{dataset.labels[0]!r} as {labels[0]!r}"
        return dataclasses.replace(dataset, labels=labels), (
            f"WARNING: {dataset.name} and {model} share no class name; taken by position, {pair} and so on"
        )
    shown = ", ".join(missing[:_SHOWN]) + (", …" if len(missing) > _SHOWN else "")
    raise BadDataset(
        f"{len(missing)} of {len(seen)} classes of {dataset.name} are no labels of {model}: {shown}",
        f"photos of its {len(labels)} labels ({', '.join(labels[:_SHOWN])}{', …' if len(labels) > _SHOWN else ''})",
        "take the photos that it was trained for, or name its labels as the photos' classes by --labels when exporting",
    )


def _moved(dataset: Dataset, labels: tuple[str, ...]) -> Dataset:
    place = {label: index for index, label in enumerate(labels)}
    roles = {
        role: tuple(dataclasses.replace(photo, label=place[dataset.labels[photo.label]]) for photo in photos)
        for role, photos in dataset.roles.items()
    }
    return dataclasses.replace(dataset, labels=labels, roles=roles, coarse=_coarse(dataset, labels))


def _coarse(dataset: Dataset, labels: tuple[str, ...]) -> tuple[str, ...] | None:
    """Labels without photos are their own coarse class."""
    if dataset.coarse is None:
        return None
    known: Mapping[str, str] = dict(zip(dataset.labels, dataset.coarse, strict=True))
    return tuple(known.get(label, label) for label in labels)
