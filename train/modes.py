"""Two ways to train: all weights on crops of photos, or the head alone on what the frozen network makes of them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..artifact import Preprocess
from ..data import Photo
from ..data.prepared import PreparedPhotos, prepare_photos
from .checkpoint import Checkpoint
from .distill import training_photos
from .features import Backbone, Counted, FeatureViews, Head, drawn_features, plain_features
from .fit import Epoch, Progress, Student, fit, fit_views
from .initial import Start
from .options import FitOptions
from .recipes import TrainOptions
from .run import Evaluate
from .score import evaluation, loss_and_top_1

_log = logging.getLogger(__name__)
Fitted = tuple[PreparedPhotos, list[Epoch]]


@dataclass(frozen=True)
class Watch:
    """Who is told how far a training is: each step of an epoch, and photos done of work with a name."""

    step: Progress = lambda status: None
    counted: Callable[[str], Counted] = lambda name: lambda done, total: None


@dataclass(frozen=True)
class Task:
    """One training.

    Args:
        kind: of the photos, "photos" or "synthesized".
        cache: folder for what is computed of photos.
        state: file that an interrupted run goes on from.
    """

    start: Start
    options: TrainOptions
    kind: str
    cache: Path
    state: Path
    teacher: Checkpoint | None
    watch: Watch

    def preparing(self, total: int) -> Callable[[int], None]:
        """Who is told how many of `total` photos are prepared."""
        counted = self.watch.counted("preparing photos")
        return lambda done: counted(done, total)


def fitted_host(start: Start, options: TrainOptions) -> Preprocess:
    """How what is fitted takes photos: as what is scored does, at another size where the options say one."""
    side = options.train_size
    return replace(start.host, height=side, width=side, golden={}) if side else start.host


def finetune(task: Task, photos: Sequence[Photo], held: PreparedPhotos | None) -> Fitted:
    """Fit all weights, or stage after stage; the photos as they were prepared, and the epochs."""
    start, chosen, teacher = task.start, task.options.fit, task.teacher
    host = fitted_host(start, task.options)
    student = Student(start.module, host, _stages(start, chosen))
    shown = Student(teacher.module, teacher.preprocess) if teacher else None
    largest = max((start.host, *([teacher.preprocess] if teacher else [])), key=lambda each: each.height)
    larger = max(1.0, host.height / largest.height)
    prepared = training_photos(photos, largest, task.cache, task.kind, larger, task.preparing(len(photos)))
    judge = evaluation(held, start.host) if held else None
    return prepared, fit(student, prepared, chosen, shown, task.watch.step, task.state, judge)


def _stages(start: Start, options: FitOptions) -> tuple[str, ...]:
    """The architecture's, where any option tells them apart."""
    if not options.unfreeze_every and options.rate_decay == 1:
        return ()
    names = start.architecture.stages
    reached = math.ceil(options.epochs / options.unfreeze_every) if options.unfreeze_every else len(names)
    if reached < len(names):
        _log.warning("%d of %d stages are never fitted: the epochs end before", len(names) - reached, len(names))
    return names


def fit_head(task: Task, photos: Sequence[Photo], held: PreparedPhotos | None) -> Fitted:
    """Fit the head on features; the photos as they are scored, and the epochs."""
    start = task.start
    backbone = Backbone(start.module, start.architecture.head, start.host, task.cache)
    plain = prepare_photos(photos, start.host, task.cache, task.kind, task.preparing(len(photos)))
    features = _feature_views(task, backbone, photos, plain)
    views = FeatureViews(features, plain.truth, f"{backbone.digest()} {plain.digest()} {len(features)}")
    judge = _head_evaluation(task, backbone, held) if held else None
    head = Head(start.module.get_submodule(start.architecture.head), start.host)
    return plain, fit_views(head, views, task.options.fit, None, task.watch.step, task.state, judge)


def _feature_views(
    task: Task, backbone: Backbone, photos: Sequence[Photo], plain: PreparedPhotos
) -> tuple[np.ndarray, ...]:
    count, chosen = task.options.views, task.options.fit
    found = [plain_features(backbone, plain, task.watch.counted("features of whole photos"))]
    if count > 1:
        preparing = task.preparing(len(photos))
        larger = training_photos(photos, task.start.host, task.cache, task.kind, 1.0, preparing)
        for view in range(1, count):
            counted = task.watch.counted(f"features of view {view + 1} of {count}")
            found.append(drawn_features(backbone, larger, chosen.augmentation, (chosen.seed, view), counted))
    return tuple(found)


def _head_evaluation(task: Task, backbone: Backbone, held: PreparedPhotos) -> Evaluate:
    found = plain_features(backbone, held, task.watch.counted("features of held-out photos"))
    features, truth = torch.from_numpy(np.array(found)), torch.from_numpy(held.truth)

    def judge(head: nn.Module) -> tuple[float, float]:
        with torch.inference_mode():
            return loss_and_top_1(head(features), truth)

    return judge
