"""How fast which weights are fitted: rates over time, stages of a network, the moving average that is kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from ..errors import BadInput
from .options import FitOptions


def rate(step: int, total: int, options: FitOptions) -> float:
    """Linear warm-up and a cosine to 0 (Loshchilov and Hutter 2016, arXiv 1608.03983), as part of the peak."""
    rise = max(1, round(options.warmup * total))
    if options.cosine == "whole":
        return min(1.0, (step + 1) / rise) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / total)))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, total - rise))))


@dataclass(frozen=True)
class Stage:
    """Submodules that are trained, or not, together, and the weights that they hold."""

    modules: tuple[nn.Module, ...]
    weights: tuple[nn.Parameter, ...]

    def train(self, on: bool) -> None:
        """Train it, or leave it as it is: its batch norms then use the statistics that they have."""
        for module in self.modules:
            module.train(on)
        for weight in self.weights:
            weight.requires_grad_(on)


def stages_of(module: nn.Module, names: Sequence[str]) -> list[Stage]:
    """Stages from the head to the input; weights outside all of them belong to the one nearest to the input.

    Args:
        names: submodules in the order of the graph, the head last; none makes the whole network one stage.

    Raises:
        BadInput: the network has no such submodule.
    """
    if not names:
        return [Stage((module,), tuple(module.parameters()))]
    known = dict(module.named_modules())
    missing = [name for name in names if name not in known]
    if missing:
        raise BadInput(f"no submodules {', '.join(missing[:5])}", "stages that the network has")
    owners: dict[str, list[nn.Parameter]] = {name: [] for name in names}
    for key, weight in module.named_parameters():
        owner = next((name for name in names if key.startswith(f"{name}.")), names[0])
        owners[owner].append(weight)
    return [Stage((known[name],), tuple(owners[name])) for name in reversed(names)]


def open_stages(step: int, steps: int, count: int, options: FitOptions) -> int:
    """How many of `count` stages are trained at a step, of `steps` an epoch."""
    if not options.unfreeze_every:
        return count
    return min(count, 1 + int(step / (options.unfreeze_every * steps)))


def groups(stages: Sequence[Stage], options: FitOptions) -> list[dict[str, Any]]:
    """The optimizer's: kernels and matrices decay; biases, norms, and a ViT's token and positions, which have three
    axes, do not (DeiT's recipe, arXiv 2012.12877). Each stage at its own rate.
    """
    found = []
    for depth, stage in enumerate(stages):
        peak = options.learning_rate * options.rate_decay**depth
        kernels = [value for value in stage.weights if value.ndim in (2, 4)]
        others = [value for value in stage.weights if value.ndim not in (2, 4)]
        found += [
            {"params": kernels, "weight_decay": options.weight_decay, "lr": peak},
            {"params": others, "weight_decay": 0.0, "lr": peak},
        ]
    return [group for group in found if group["params"]]


def moving_average(module: nn.Module, decay: float) -> AveragedModel:
    """Weights and buffers; the decay starts low, so that the first steps are forgotten."""

    def average(kept: torch.Tensor, value: torch.Tensor, count: Any) -> torch.Tensor:
        now = min(decay, (float(count) + 1) / (float(count) + 10))
        return kept * now + value * (1 - now) if kept.is_floating_point() else value

    return AveragedModel(module, avg_fn=average, use_buffers=True)
