"""Photos made from the checkpoint alone: images whose batch statistics match those that its BatchNorm layers hold.

ZeroQ (Cai et al., CVPR 2020, arXiv 2001.00281) for the statistics, DeepInversion (Yin et al., CVPR 2020,
arXiv 1912.08795) for the class term and the smoothness prior. They serve calibration and agreement with fp32 where
there are no photos; they say nothing about accuracy, since their labels are the network's own.
"""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from ..artifact.store import atomic_folder
from ..errors import BadInput
from ..train import Checkpoint

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]  # steps done, of how many


@dataclass(frozen=True)
class SynthesisOptions:
    """Batches of `batch` images; the first `confirm_batches` are scored, the rest calibrate."""

    seed: int = 0
    batch: int = 27
    confirm_batches: int = 3
    calibrate_batches: int = 2
    coarse_steps: int = 120
    fine_steps: int = 40
    learning_rate: float = 0.08
    statistics_weight: float = 0.3
    smoothness_weight: float = 1e-3
    jpeg_quality: int = 90


class _Statistics:
    """Sums, over every BatchNorm, the distance of a batch's mean and deviation from the running ones."""

    def __init__(self, module: nn.Module) -> None:
        self.loss: torch.Tensor | float = 0.0
        self._hooks = [
            layer.register_forward_pre_hook(self._add)
            for layer in module.modules()
            if isinstance(layer, nn.BatchNorm2d)
        ]

    def _add(self, layer: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        assert isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None
        values = inputs[0]
        deviation = (layer.running_var + layer.eps).sqrt()
        mean_gap = (values.mean((0, 2, 3)) - layer.running_mean) / deviation
        deviation_gap = (values.var((0, 2, 3), unbiased=False) + layer.eps).sqrt() / deviation - 1
        self.loss = self.loss + mean_gap.square().mean() + deviation_gap.square().mean()

    def take(self) -> torch.Tensor | float:
        """The sum since the last call."""
        loss, self.loss = self.loss, 0.0
        return loss

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()


def synthesize(
    checkpoint: Checkpoint, out: Path, options: SynthesisOptions, progress: Progress = lambda done, total: None
) -> Path:
    """Make the set and write it as a dataset folder: JPEGs, `photos.csv` (role, path, label), `synthesized.json`.

    Args:
        checkpoint: any network with batch norm.
        progress: called after each step of all batches.

    Raises:
        BadInput: `out` cannot be written, or the network holds no batch statistics.
    """
    if not any(isinstance(layer, nn.BatchNorm2d) for layer in checkpoint.module.modules()):
        raise BadInput(
            f"{checkpoint.architecture} has no batch norm", "a network whose statistics photos can be made from",
            "calibrate on photos: --data",
        )  # fmt: skip
    torch.manual_seed(options.seed)
    checkpoint.module.requires_grad_(False)
    step = _Steps(options, progress)
    rows = []
    with atomic_folder(out) as draft:
        for index in range(options.confirm_batches + options.calibrate_batches):
            role = "confirm" if index < options.confirm_batches else "calibrate"
            first = (index if role == "confirm" else index - options.confirm_batches) * options.batch
            labels = torch.arange(first, first + options.batch) % len(checkpoint.labels)
            images = _make_batch(checkpoint, labels, options, step)
            log.info("batch %d of %d", index + 1, options.confirm_batches + options.calibrate_batches)
            for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True), first):
                name = f"{role}-{number:03d}.jpg"
                Image.fromarray(image).save(draft / name, quality=options.jpeg_quality, subsampling=0)
                rows.append((role, name, label))
        _write_lists(draft, rows, checkpoint, options)
    return out


class _Steps:
    """Counts the steps of all batches."""

    def __init__(self, options: SynthesisOptions, progress: Progress) -> None:
        batches = options.confirm_batches + options.calibrate_batches
        self._total, self._done = batches * (options.coarse_steps + options.fine_steps), 0
        self._progress = progress

    def __call__(self) -> None:
        self._done += 1
        self._progress(self._done, self._total)


def _write_lists(
    folder: Path, rows: list[tuple[str, str, int]], checkpoint: Checkpoint, options: SynthesisOptions
) -> None:
    with (folder / "photos.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([("role", "path", "label"), *rows])
    meta = {
        "kind": "synthesized",
        "name": "synthesized",
        "checkpoint": checkpoint.sha256,
        "options": asdict(options),
        "labels": list(checkpoint.labels),
    }
    (folder / "synthesized.json").write_text(json.dumps(meta, indent=1, ensure_ascii=False) + "\n")


def _make_batch(
    checkpoint: Checkpoint, labels: torch.Tensor, options: SynthesisOptions, step: Callable[[], None]
) -> np.ndarray:
    """Coarse at half size, then fine at full size → uint8 `(batch, H, W, 3)` of the size before the crop."""
    host = checkpoint.preprocess
    full = host.resized
    half = (full[0] // 2, full[1] // 2)
    images = torch.randn(len(labels), 3, *half) * 0.3
    statistics = _Statistics(checkpoint.module)
    try:
        images = _optimize(checkpoint, images, labels, options.coarse_steps, options, statistics, step)
        images = F.interpolate(images, full, mode="bicubic", align_corners=False)
        images = _optimize(checkpoint, images, labels, options.fine_steps, options, statistics, step)
    finally:
        statistics.remove()
    std, mean = (torch.tensor(value).view(1, 3, 1, 1) for value in (host.std, host.mean))
    pixels = (images * std + mean).round().clamp(0, 255).to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).numpy()


def _optimize(
    checkpoint: Checkpoint,
    images: torch.Tensor,
    labels: torch.Tensor,
    steps: int,
    options: SynthesisOptions,
    statistics: _Statistics,
    step: Callable[[], None],
) -> torch.Tensor:
    """Adam on the pixels, through random crops and flips, with a cosine schedule."""
    host = checkpoint.preprocess
    low, high = ((edge - torch.tensor(host.mean)) / torch.tensor(host.std) for edge in (0.0, 255.0))
    low, high = low.view(1, 3, 1, 1), high.view(1, 3, 1, 1)
    images = images.clone().requires_grad_()
    optimizer = torch.optim.Adam([images], lr=options.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps), options.learning_rate / 20)
    for _ in range(steps):
        optimizer.zero_grad()
        logits = checkpoint.module(_view(images, host.crop_fraction).contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits, labels) + options.statistics_weight * statistics.take()
        loss = loss + options.smoothness_weight * _roughness(images)
        loss.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            images.clamp_(low, high)
        step()
    log.info("loss %.3f, agreement %.2f", loss.item(), (logits.argmax(1) == labels).float().mean().item())
    return images.detach()


def _view(images: torch.Tensor, fraction: float) -> torch.Tensor:
    """A random crop of the model's size, flipped at random."""
    height, width = (round(side * fraction) for side in images.shape[2:])
    top = int(torch.randint(0, images.shape[2] - height + 1, ()))
    left = int(torch.randint(0, images.shape[3] - width + 1, ()))
    view = images[:, :, top : top + height, left : left + width]
    return view.flip(3) if torch.rand(()) < 0.5 else view


def _roughness(images: torch.Tensor) -> torch.Tensor:
    """Squared differences of neighbours, summed over an image, averaged over the batch."""
    down, right = images.diff(dim=2), images.diff(dim=3)
    return (down.square().sum() + right.square().sum()) / len(images)
