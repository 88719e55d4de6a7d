"""How weights are fitted: what the training loop is told."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Literal, get_args

from ..errors import BadInput
from .augment import Augmentation

Balance = Literal["none", "loss", "sampler"]
Cosine = Literal["rest", "whole"]
_LEAST_PART = 0.001  # of an epoch: fewer than one step of most


@dataclass(frozen=True)
class FitOptions:
    """How weights are fitted.

    Args:
        epochs, batch: passes over the photos, photos a step, at least 2: batch norms compare them.
        learning_rate, weight_decay: AdamW's; decay on kernels and matrices only.
        warmup: part of all steps in which the rate rises to its peak.
        cosine: the rate falls to 0 along a cosine over the "rest" of the steps, or over the "whole" run times the rise.
        clip: greatest norm of the gradient.
        average: decay of the moving average of weights, which is what is kept; 0 keeps the last weights.
        train_batch_norm: False leaves running statistics as they are, and uses them.
        label_weight: share of the labels' cross-entropy in the loss; the teacher's has the rest.
        label_smoothing: part of each label that all classes share (Szegedy et al. 2016, arXiv 1512.00567).
        temperature: of the softmax that is imitated (Hinton et al. 2015, arXiv 1503.02531).
        margin_weight: a photo with no distance between the teacher's first two answers weighs 1 + this, one with all
            of it weighs 1: flips happen at small margins (Kuhn et al. 2022, arXiv 2204.04220).
        balance: classes with fewer photos count for more: "loss" weighs each photo by the inverse of its class's
            count, "sampler" draws photos with replacement, every class as often as any other.
        patience: epochs without a better answer to the held-out photos after which to stop; the best weights are kept
            then. 0 runs to the end and keeps the last.
        unfreeze_every: epochs, parts allowed, after which one more stage is trained, the head first (gradual
            unfreezing, Howard and Ruder 2018, arXiv 1801.06146, 3.3); 0 trains all from the start.
        rate_decay: learning rate of a stage as a part of that of the next one nearer to the head (discriminative
            rates, the same, 3.2).
        seed: of every draw.
    """

    epochs: int = 8
    batch: int = 32
    learning_rate: float = 5e-4
    weight_decay: float = 0.05
    warmup: float = 0.05
    cosine: Cosine = "rest"
    clip: float = 5.0
    average: float = 0.998
    train_batch_norm: bool = True
    label_weight: float = 0.0
    label_smoothing: float = 0.0
    temperature: float = 1.0
    margin_weight: float = 0.0
    balance: Balance = "none"
    patience: int = 0
    unfreeze_every: float = 0.0
    rate_decay: float = 1.0
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for part in (self, self.augmentation):
            _require_finite(part)
        if self.epochs < 1 or self.batch < 2 or self.learning_rate <= 0 or self.temperature <= 0:
            raise BadInput(
                f"epochs {self.epochs}, batch {self.batch}, learning rate {self.learning_rate}, "
                f"temperature {self.temperature}",
                "all above 0, a batch of at least 2 photos",
            )
        if self.balance not in get_args(Balance) or self.cosine not in get_args(Cosine):
            raise BadInput(
                f"balance {self.balance!r}, cosine {self.cosine!r}",
                f"balance {', '.join(get_args(Balance))}; cosine {', '.join(get_args(Cosine))}",
            )
        if self.patience < 0 or self.unfreeze_every < 0 or self.weight_decay < 0 or self.clip <= 0:
            raise BadInput(
                f"patience {self.patience}, unfreeze every {self.unfreeze_every}, weight decay {self.weight_decay}, "
                f"clip {self.clip}",
                "none below 0, clip above",
            )
        if 0 < self.unfreeze_every < _LEAST_PART:
            raise BadInput(f"unfreeze every {self.unfreeze_every}", f"0, or from {_LEAST_PART} epochs")
        for name, low, high in _BOUNDS:
            if not low <= getattr(self, name) <= high:
                raise BadInput(f"{name.replace('_', ' ')} {getattr(self, name)}", f"between {low} and {high}")


def _require_finite(part: FitOptions | Augmentation) -> None:
    """NaN is beyond no bound."""
    for each in fields(part):
        value = getattr(part, each.name)
        if isinstance(value, float) and not math.isfinite(value):
            raise BadInput(f"{each.name.replace('_', ' ')} {value}", "a finite number")


_BOUNDS = (
    ("label_weight", 0, 1),
    ("label_smoothing", 0, 0.9),
    ("warmup", 0, 1),
    ("average", 0, 0.999999),
    ("rate_decay", 0.01, 1),
)
