"""What is minimized: distance from labels, and from a teacher."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from .augment import Batch


def loss_of(
    logits: torch.Tensor,
    wanted: torch.Tensor | None,
    batch: Batch,
    label_weight: float,
    temperature: float,
    margin_weight: float,
) -> torch.Tensor:
    """Mixed labels' cross-entropy and KL divergence from the teacher, by their shares.

    Args:
        logits: `(N, classes)`; wanted: the teacher's, or None where labels alone count.
    """
    labelled = batch.share * F.cross_entropy(logits, batch.labels)
    labelled = labelled + (1 - batch.share) * F.cross_entropy(logits, batch.others)
    if wanted is None:
        return labelled
    imitated = imitation(logits, wanted, temperature, margin_weight)
    return label_weight * labelled + (1 - label_weight) * imitated


def imitation(logits: torch.Tensor, wanted: torch.Tensor, temperature: float, margin_weight: float) -> torch.Tensor:
    """Mean KL divergence of softmax(logits / T) from the teacher's, times T², weighted towards small margins."""
    log_target = F.log_softmax(wanted / temperature, 1)
    divergence = F.kl_div(F.log_softmax(logits / temperature, 1), log_target, reduction="none", log_target=True).sum(1)
    first, second = wanted.softmax(1).topk(2).values.unbind(1)
    weights = 1 + margin_weight * (1 - (first - second))
    return temperature**2 * (divergence * weights).sum() / weights.sum()
