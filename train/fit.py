"""One training loop: cross-entropy on labels, imitation of a teacher, or both; resumable after each epoch."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from ..artifact import Preprocess
from ..data.prepared import PreparedPhotos
from ..errors import BadInput
from ..machine import cpu_features, usable_cores
from .augment import Augmentation, Batch, batches
from .loss import loss_of


@dataclass(frozen=True)
class FitOptions:
    """How weights are fitted.

    Args:
        epochs, batch: passes over the photos, photos a step.
        learning_rate, weight_decay: AdamW's; decay on kernels and matrices only.
        warmup: part of all steps in which the rate rises to its peak, before it falls to 0 along a cosine.
        clip: greatest norm of the gradient.
        average: decay of the moving average of weights, which is what is kept; 0 keeps the last weights.
        train_batch_norm: False leaves running statistics as they are, and uses them.
        label_weight: share of the labels' cross-entropy in the loss; the teacher's has the rest.
        temperature: of the softmax that is imitated (Hinton et al. 2015, arXiv 1503.02531).
        margin_weight: a photo with no distance between the teacher's first two answers weighs 1 + this, one with all
            of it weighs 1: flips happen at small margins (Kuhn et al. 2022, arXiv 2204.04220).
        seed: of every draw.
    """

    epochs: int = 8
    batch: int = 32
    learning_rate: float = 5e-4
    weight_decay: float = 0.05
    warmup: float = 0.05
    clip: float = 5.0
    average: float = 0.998
    train_batch_norm: bool = True
    label_weight: float = 0.0
    temperature: float = 1.0
    margin_weight: float = 0.0
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1 or self.learning_rate <= 0 or self.temperature <= 0:
            raise BadInput(
                f"epochs {self.epochs}, batch {self.batch}, learning rate {self.learning_rate}, "
                f"temperature {self.temperature}",
                "all above 0",
            )
        if not 0 <= self.label_weight <= 1:
            raise BadInput(f"label weight {self.label_weight}", "between 0 and 1")


@dataclass(frozen=True)
class Student:
    """What is fitted, or imitated: normalized float `(N, 3, H, W)` → logits, and the preprocessing that it takes."""

    module: nn.Module
    host: Preprocess

    def logits(self, pixels: torch.Tensor) -> torch.Tensor:
        """Of float `(N, 3, H, W)` in pixel units 0–255."""
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (self.host.mean, self.host.std))
        return self.module(((pixels - mean) / std).contiguous(memory_format=torch.channels_last))


@dataclass(frozen=True)
class Epoch:
    """One pass: mean loss over its steps, agreement with the target, wall seconds."""

    epoch: int
    loss: float
    agreement: float
    seconds: float


@dataclass(frozen=True)
class FitStatus:
    """Where a run stands: steps of `batch` photos, mean loss of the last twenty."""

    epoch: int
    epochs: int
    step: int
    steps: int
    batch: int
    loss: float
    photos_per_s: float


Progress = Callable[[FitStatus], None]


def fit(
    student: Student,
    photos: PreparedPhotos,
    options: FitOptions,
    teacher: Student | None = None,
    progress: Progress = lambda status: None,
    state: Path | None = None,
) -> list[Epoch]:
    """Fit the student's module in place; it ends in eval mode with the weights that are kept.

    Args:
        photos: of the train role, prepared at least as large as the student's input.
        teacher: imitated on the same crop at its own size; None fits labels alone.
        state: file kept after each epoch, from which an interrupted run with the same options goes on; removed at
            the end by whoever saves the weights.

    Raises:
        BadInput: photos too few, smaller than the input, no teacher for a loss that needs one, or a foreign state.
    """
    _check(student, photos, options, teacher)
    run = _Run(student, photos, options, teacher)
    done = run.resume(state) if state else 0
    with ThreadPoolExecutor(usable_cores()) as pool:
        for epoch in range(done, options.epochs):
            run.epoch(epoch, pool, progress)
            if state:
                run.keep(state)
    run.finish()
    return run.history


def _check(student: Student, photos: PreparedPhotos, options: FitOptions, teacher: Student | None) -> None:
    if len(photos) < options.batch:
        raise BadInput(f"{len(photos)} photos to train on", f"at least one batch of {options.batch}")
    height, width = photos.array().shape[1:3]
    if min(height, width) < max(student.host.height, student.host.width):
        raise BadInput(f"photos prepared at {height}×{width}", f"at least {student.host.height}×{student.host.width}")
    if teacher is None and options.label_weight < 1:
        raise BadInput(f"label weight {options.label_weight} without a teacher", "1, or a teacher to imitate")


class _Run:
    """The state of one run: optimizer, schedule, moving average, history."""

    def __init__(self, student: Student, photos: PreparedPhotos, options: FitOptions, teacher: Student | None) -> None:
        self._student, self._teacher, self._options = student, teacher, options
        self._photos, self._labels = photos.array(), photos.truth
        self.history: list[Epoch] = []
        self._steps = len(photos) // options.batch
        module = student.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        module.requires_grad_(True)
        if teacher:
            teacher.module.eval().requires_grad_(False)
        self._optimizer = torch.optim.AdamW(_groups(module, options.weight_decay), lr=options.learning_rate)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, self._rate)
        self._average = _moving_average(module, options.average) if options.average else None
        about = [asdict(options), photos.digest(), asdict(student.host)]
        self._key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()

    def _rate(self, step: int) -> float:
        """Linear warm-up, then a cosine to 0, as parts of the peak."""
        total = self._options.epochs * self._steps
        rise = max(1, round(self._options.warmup * total))
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, total - rise))))

    def epoch(self, epoch: int, pool: ThreadPoolExecutor, progress: Progress) -> None:
        """One pass over the photos."""
        chosen, began = self._options, time.perf_counter()
        self._mode()
        hosts = [self._student.host, *([self._teacher.host] if self._teacher else [])]
        drawn = batches(self._photos, self._labels, [(host.height, host.width) for host in hosts], chosen.batch,
                        chosen.augmentation, (chosen.seed, epoch), pool)  # fmt: skip
        losses, agreed = [], []
        for step, batch in enumerate(drawn, 1):
            loss, same = self._step(batch)
            losses.append(loss)
            agreed.append(same)
            speed = step * chosen.batch / (time.perf_counter() - began)
            recent = float(np.mean(losses[-20:]))
            progress(FitStatus(epoch + 1, chosen.epochs, step, self._steps, chosen.batch, recent, speed))
        took = time.perf_counter() - began
        self.history.append(Epoch(epoch + 1, float(np.mean(losses)), float(np.mean(agreed)), took))

    def _mode(self) -> None:
        self._student.module.train()
        if not self._options.train_batch_norm:
            for layer in self._student.module.modules():
                if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                    layer.eval()

    def _step(self, batch: Batch) -> tuple[float, float]:
        self._optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=_computes_bf16()):
            with torch.no_grad():
                wanted = self._teacher.logits(batch.views[-1]).float() if self._teacher else None
            logits = self._student.logits(batch.views[0])
        chosen = self._options
        loss = loss_of(logits.float(), wanted, batch, chosen.label_weight, chosen.temperature, chosen.margin_weight)
        if not torch.isfinite(loss):
            raise BadInput("the loss became NaN or infinite", "finite losses", "take a lower learning rate")
        loss.backward()
        nn.utils.clip_grad_norm_(self._student.module.parameters(), self._options.clip)
        self._optimizer.step()
        self._schedule.step()
        if self._average:
            self._average.update_parameters(self._student.module)
        target = batch.labels if wanted is None else wanted.argmax(1)
        return loss.item(), (logits.argmax(1) == target).float().mean().item()

    def _parts(self) -> dict[str, Any]:
        parts = {"module": self._student.module, "optimizer": self._optimizer, "schedule": self._schedule}
        return {**parts, "average": self._average} if self._average else parts

    def keep(self, path: Path) -> None:
        """Write all that the next epoch needs, whole or not at all."""
        draft = path.with_suffix(".tmp")
        raw = {name: part.state_dict() for name, part in self._parts().items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({**raw, "key": self._key, "history": [asdict(epoch) for epoch in self.history]}, draft)
        draft.replace(path)

    def resume(self, path: Path) -> int:
        """Epochs done in an earlier run of the same options and photos."""
        if not path.exists():
            return 0
        try:
            raw = torch.load(path, weights_only=True)
        except Exception as error:  # torch.load raises what pickle, zipfile and torch raise
            raise BadInput(f"{path}: no training state ({error})", "one kept by this command", "remove it") from error
        if raw.get("key") != self._key:
            raise BadInput(f"{path}: of a run with other options or photos", "the same options", "remove it")
        for name, part in self._parts().items():
            part.load_state_dict(raw[name])
        self.history = [Epoch(**epoch) for epoch in raw["history"]]
        return len(self.history)

    def finish(self) -> None:
        """Put the weights that are kept into the student."""
        if self._average:
            self._student.module.load_state_dict(self._average.module.state_dict())
        self._student.module.eval().requires_grad_(False)


def _groups(module: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Kernels and matrices decay; biases and norms do not."""
    kernels = [value for value in module.parameters() if value.ndim > 1]
    others = [value for value in module.parameters() if value.ndim <= 1]
    return [{"params": kernels, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def _moving_average(module: nn.Module, decay: float) -> AveragedModel:
    """Weights and buffers; the decay starts low, so that the first steps are forgotten."""

    def average(kept: torch.Tensor, value: torch.Tensor, count: Any) -> torch.Tensor:
        now = min(decay, (float(count) + 1) / (float(count) + 10))
        return kept * now + value * (1 - now) if kept.is_floating_point() else value

    return AveragedModel(module, avg_fn=average, use_buffers=True)


def _computes_bf16() -> bool:
    return bool({"avx512_bf16", "amx_bf16"} & set(cpu_features()))
