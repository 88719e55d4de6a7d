"""How a network is trained: options with a name, and what a command changes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

from ..artifact import Preprocess
from ..errors import BadInput
from .architecture import Architecture
from .augment import Augmentation
from .options import FitOptions

Mode = Literal["finetune", "features"]


@dataclass(frozen=True)
class TrainOptions:
    """How a classifier is trained.

    Args:
        mode: "finetune" fits all weights, "features" the head on what the frozen network makes of photos.
        train_size: side of the views in pixels; None for 5/7 of the input's, in steps of 32 (160 for 224): crops show
            things larger than they are when scored (Touvron et al. 2019, arXiv 1906.06423); the input's own for a
            network of one size. Features are always
            computed at the input's own size.
        views: of each photo in features mode: the first is the whole photo, further ones are augmented.
        held_out: part of each class's train photos that is not fitted but judges the epochs, in [0, 0.5].
        half: weights are saved as float16: half the size; they are computed in float32 when loaded.
        fit: options of the loop.
    """

    mode: Mode = "finetune"
    train_size: int | None = None
    views: int = 1
    held_out: float = 0.0
    half: bool = True
    fit: FitOptions = field(default_factory=FitOptions)

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise BadInput(f"unknown mode {self.mode!r}", " or ".join(get_args(Mode)))
        if not 0 <= self.held_out <= 0.5 or self.views < 1 or (self.train_size or 32) < 16:
            raise BadInput(
                f"held out {self.held_out}, views {self.views}, train size {self.train_size}",
                "a part from 0 to 0.5, at least one view, at least 16 pixels",
            )
        if self.mode == "finetune" and self.views > 1:
            raise BadInput(f"{self.views} views in finetune mode", "crops drawn anew each epoch there",
                           "take --mode features, or leave --views out")  # fmt: skip
        staged = self.fit.unfreeze_every or self.fit.rate_decay < 1
        if self.mode == "features" and (staged or self.train_size):
            raise BadInput("stages, rates or a train size in features mode", "a head alone is fitted there",
                           "take --mode finetune, or leave them out")  # fmt: skip


# The shipped checkpoint's own recipe, which no option changes.
DEFAULT = TrainOptions(
    fit=FitOptions(
        epochs=30, batch=32, learning_rate=1e-3, weight_decay=0.05, warmup=2 / 30, cosine="whole", clip=5.0,
        average=0.998, label_weight=1.0, label_smoothing=0.1,
        augmentation=Augmentation(
            min_area=0.25, ratio=4 / 3, interpolation="either", flip=0.5, colour=0.4,
            colour_chance=0.8, colour_changes=2, rotation=0.3, rotation_degrees=20.0, erasing=0.25,
            erasing_min=0.15, erasing_max=0.4, mixup=0.5, mixup_alpha=0.2,
        ),
    ),
)  # fmt: skip
# Without what changes pixels beyond recognition for a network that cannot adapt to it.
FEATURES = TrainOptions(
    mode="features",
    fit=replace(
        DEFAULT.fit,
        learning_rate=3e-3,
        augmentation=Augmentation(min_area=0.5, colour=0.2, mixup=0.0),
    ),
)
# Fields of what is drawn for each photo alone: whole photos, as they are scored, know none of it.
AUGMENTED = tuple(each.name for each in fields(Augmentation) if not each.name.startswith("mixup"))
RECIPES: dict[str, TrainOptions] = {"default": DEFAULT, "features": FEATURES}


def recipe(name: str | None, mode: str | None) -> TrainOptions:
    """A recipe by name; without one, that of the mode.

    Raises:
        BadInput: no such recipe.
    """
    name = name or ("features" if mode == "features" else "default")
    if name not in RECIPES:
        raise BadInput(f"unknown recipe {name!r}", f"one of {', '.join(RECIPES)}")
    return RECIPES[name]


def changed(chosen: TrainOptions, given: Mapping[str, Any]) -> TrainOptions:
    """The recipe with what is given of any of its fields, by name; None and foreign names change nothing.

    Raises:
        BadInput: a value out of its bounds.
    """
    augmentation = replace(chosen.fit.augmentation, **_of(Augmentation, given))
    fit = replace(chosen.fit, **_of(FitOptions, given), augmentation=augmentation)
    return replace(chosen, **_of(TrainOptions, given), fit=fit)


def applied(chosen: TrainOptions, architecture: Architecture, host: Preprocess) -> TrainOptions:
    """With the size that is fitted, where it was left to the network and its input's own."""
    if chosen.train_size or chosen.mode == "features":
        return chosen
    smaller = max(32, round(host.height * 5 / 7 / 32) * 32)
    return replace(chosen, train_size=smaller if architecture.any_size else host.height)


def _of(kind: type, given: Mapping[str, Any]) -> dict[str, Any]:
    names = {each.name for each in fields(kind)} - {"fit", "augmentation"}
    return {name: value for name, value in given.items() if name in names and value is not None}
