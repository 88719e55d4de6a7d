"""The state of one run of the training loop: optimizer, schedule, moving average, history."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import BadInput
from ..machine import cpu_features
from .augment import Batch
from .checkpoint import state_digest
from .loss import inverse_frequency, loss_of
from .options import FitOptions
from .schedule import groups, moving_average, open_stages, rate, stages_of
from .views import Student, Views

Evaluate = Callable[[nn.Module], tuple[float, float]]
Tell = Callable[[int, int, float, float], None]
_SHOWN = 20  # steps that the loss that is shown is a mean of


@dataclass(frozen=True)
class Epoch:
    """One pass: mean loss over its steps, agreement with the target, wall seconds; the kept weights' loss and top-1 on
    photos held out, where there are any.
    """

    epoch: int
    loss: float
    agreement: float
    seconds: float
    held_out_loss: float | None = None
    held_out_top_1: float | None = None

    def merit(self) -> tuple[float, float]:
        """The greater, the better: top-1, then the smaller loss."""
        return self.held_out_top_1 or 0.0, -(self.held_out_loss or 0.0)


class Run:
    """One run: `epoch` after `epoch`, `keep` and `resume` between them, `finish` at the end."""

    def __init__(
        self, student: Student, views: Views, options: FitOptions, teacher: Student | None, evaluate: Evaluate | None
    ) -> None:
        self._student, self._teacher, self._options, self._views = student, teacher, options, views
        self._evaluate = evaluate
        self.history: list[Epoch] = []
        self.steps = len(views.truth) // options.batch
        self._key = self._identity()
        module = student.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        module.requires_grad_(True)
        if teacher:
            teacher.module.eval().requires_grad_(False)
        self._stages = stages_of(module, student.stages)
        total = options.epochs * self.steps
        self._optimizer = torch.optim.AdamW(groups(self._stages, options))
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, lambda step: rate(step, total, options))
        self._average = moving_average(module, options.average) if options.average else None
        self._best: dict[str, torch.Tensor] | None = None
        frequency = inverse_frequency(views.truth) if options.balance == "loss" else None
        self._weights = None if frequency is None else torch.from_numpy(frequency).float()

    def _identity(self) -> str:
        """What an interrupted run must share with the one that goes on."""
        weights = [each.module for each in (self._student, self._teacher) if each]
        host = self._student.host
        about = [asdict(self._options), self._views.digest(), self._views.truth.tolist(), host.digest(), host.mean,
                 host.std, self._student.stages, [state_digest(module.state_dict()) for module in weights]]  # fmt: skip
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()

    @property
    def is_over(self) -> bool:
        """True once no epoch of the last `patience` was better than one before."""
        patience = self._options.patience
        if not patience or len(self.history) <= patience:
            return False
        return max(map(Epoch.merit, self.history[-patience:])) <= max(map(Epoch.merit, self.history[:-patience]))

    def epoch(self, epoch: int, pool: Executor, tell: Tell) -> None:
        """One pass over the views. Dropout draws from torch's own generator: seeded here, put back at the end."""
        chosen, began = self._options, time.perf_counter()
        losses, agreed = [], []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(np.random.SeedSequence([chosen.seed, epoch]).generate_state(1, np.uint64)[0]))
            for step, batch in enumerate(self._views.batches(chosen, epoch, pool)):
                self._open(epoch * self.steps + step, first=step == 0)
                loss, same = self._step(batch)
                losses.append(loss)
                agreed.append(same)
                speed = (step + 1) * chosen.batch / (time.perf_counter() - began)
                tell(epoch + 1, step + 1, float(np.mean(losses[-_SHOWN:])), speed)
        judged = self._judge()
        took = time.perf_counter() - began
        self.history.append(Epoch(epoch + 1, float(np.mean(losses)), float(np.mean(agreed)), took, *judged))
        if chosen.patience and self.history[-1] is max(self.history, key=Epoch.merit):
            self._best = {name: value.clone() for name, value in self._kept().state_dict().items()}

    def _open(self, step: int, first: bool) -> None:
        """Train as many stages as the step has, and what is in none, such as dropout before the head; the first step of
        an epoch sets all of them.
        """
        count = len(self._stages)
        now = open_stages(step, self.steps, count, self._options)
        if not first and now == open_stages(step - 1, self.steps, count, self._options):
            return
        self._student.module.train()
        for depth, stage in enumerate(self._stages):
            stage.train(depth < now)
        if not self._options.train_batch_norm:
            for layer in self._student.module.modules():
                if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                    layer.eval()

    def _step(self, batch: Batch) -> tuple[float, float]:
        self._optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=computes_bf16()):
            with torch.no_grad():
                wanted = self._teacher.logits(batch.views[-1]).float() if self._teacher else None
            logits = self._student.logits(batch.views[0])
        loss = loss_of(logits.float(), wanted, batch, self._options, self._weights)
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

    def _kept(self) -> nn.Module:
        return self._average.module if self._average else self._student.module

    def _judge(self) -> tuple[float, float] | tuple[()]:
        return self._evaluate(self._kept().eval()) if self._evaluate else ()

    def _parts(self) -> dict[str, Any]:
        parts = {"module": self._student.module, "optimizer": self._optimizer, "schedule": self._schedule}
        return {**parts, "average": self._average} if self._average else parts

    def keep(self, path: Path) -> None:
        """Write all that the next epoch needs, whole or not at all.

        Raises:
            BadInput: it cannot be written; what was kept before is left.
        """
        raw: dict[str, Any] = {name: part.state_dict() for name, part in self._parts().items()}
        raw |= {"key": self._key, "best": self._best, "history": [asdict(epoch) for epoch in self.history]}
        draft = path.with_suffix(".tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("wb") as file:
                torch.save(raw, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except (OSError, RuntimeError) as error:  # torch's writer raises its own
            draft.unlink(missing_ok=True)
            raise BadInput(f"cannot write {path} ({error})", "room and permission to write",
                           "make room and run it again: it goes on from the epoch kept before") from error  # fmt: skip

    def resume(self, path: Path) -> int:
        """Epochs done in an earlier run of the same options, photos and labels."""
        if not path.exists():
            return 0
        try:
            raw = torch.load(path, weights_only=True)
        except Exception as error:  # torch.load raises what pickle, zipfile and torch raise
            raise BadInput(f"{path}: no training state ({error})", "one kept by this command", "remove it") from error
        if not isinstance(raw, dict) or raw.get("key") != self._key:
            raise BadInput(f"{path}: of a run with other options, weights, photos or labels",
                           "the same as it was started with",
                           "remove it to start anew, or choose another --out")  # fmt: skip
        for name, part in self._parts().items():
            part.load_state_dict(raw[name])
        self._best, self.history = raw["best"], [Epoch(**epoch) for epoch in raw["history"]]
        return len(self.history)

    def finish(self) -> None:
        """Put the weights that are kept into the student."""
        state = self._best or (self._average.module.state_dict() if self._average else None)
        if state:
            self._student.module.load_state_dict(state)
        self._student.module.eval().requires_grad_(False)


def computes_bf16() -> bool:
    """True where the CPU multiplies bf16, which then is what convolutions are fitted in."""
    return bool({"avx512_bf16", "amx_bf16"} & set(cpu_features()))
