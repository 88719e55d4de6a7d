"""What is minimized: distance from labels, and from a teacher."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from .augment import Batch
from .options import FitOptions


def loss_of(
    logits: torch.Tensor,
    wanted: torch.Tensor | None,
    batch: Batch,
    options: FitOptions,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mixed labels' cross-entropy and KL divergence from the teacher, by their shares.

    Args:
        logits: `(N, classes)`; wanted: the teacher's, or None where labels alone count.
        weights: of a photo of each class, float `(classes,)`; None weighs all alike.

    Labels that count for nothing are not looked at: a teacher can be imitated on photos of classes that it lacks.
    """
    if wanted is None:
        return _cross_entropy(logits, batch, options.label_smoothing, weights)
    imitated = imitation(logits, wanted, options.temperature, options.margin_weight)
    if not options.label_weight:
        return imitated
    labelled = _cross_entropy(logits, batch, options.label_smoothing, weights)
    return options.label_weight * labelled + (1 - options.label_weight) * imitated


def _cross_entropy(logits: torch.Tensor, batch: Batch, smoothing: float, weights: torch.Tensor | None) -> torch.Tensor:
    """Weighted mean over both labels of every photo."""
    total, weight = torch.zeros(()), torch.zeros(())
    for labels, share in ((batch.labels, batch.share), (batch.others, 1 - batch.share)):
        counted = share * (torch.ones(len(labels)) if weights is None else weights[labels])
        total = total + (counted * F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)).sum()
        weight = weight + counted.sum()
    return total / weight


def imitation(logits: torch.Tensor, wanted: torch.Tensor, temperature: float, margin_weight: float) -> torch.Tensor:
    """Mean KL divergence of softmax(logits / T) from the teacher's, times T², weighted towards small margins."""
    log_target = F.log_softmax(wanted / temperature, 1)
    divergence = F.kl_div(F.log_softmax(logits / temperature, 1), log_target, reduction="none", log_target=True).sum(1)
    first, second = wanted.softmax(1).topk(2).values.unbind(1)
    weights = 1 + margin_weight * (1 - (first - second))
    return temperature**2 * (divergence * weights).sum() / weights.sum()


def inverse_frequency(truth: np.ndarray) -> np.ndarray:
    """Weight of a photo by its class, float64 `(max(truth) + 1,)`, 1 in the mean over photos; 0 where it has none."""
    counts = np.bincount(truth)
    present = counts > 0
    return np.where(present, len(truth) / (present.sum() * np.maximum(counts, 1)), 0.0)
