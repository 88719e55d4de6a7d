"""One network of several that were trained alike: the mean of their weights, a model soup.

Trainings that began with the same weights often end in one valley of the loss, and the middle of it does better than
its edges, at the price of one network (Wortsman et al., ICML 2022, arXiv 2203.05482).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data import Dataset
from ..data.prepared import PreparedPhotos, prepare_photos
from ..errors import BadInput
from ..machine import environment
from .checkpoint import Checkpoint, require_name, rounded, save_checkpoint
from .record import trained_with
from .score import score
from .train import Split, Trained, scored_roles


def average(
    parts: Sequence[Checkpoint], dataset: Dataset, out: Path, half: bool = True, score_test: bool = False
) -> Trained:
    """Save the mean of the weights as a checkpoint, scored as each part is on the select role.

    Args:
        dataset: with the labels of the parts.
        out: the .safetensors file to write; prepared photos are kept in the folder `cache` beside it.
        score_test: score the mean on the confirm role too, which whoever asks has to write down as a look.

    Returns:
        The record holds the mean's `scores`, and of each of `parts` its sha256 and scores.

    Raises:
        BadInput: fewer than two, one twice, other networks, labels or preprocessing, or no room to write.
        Overlap: a photo of the train role would be scored.
    """
    require_name(out)
    _require_alike(parts)
    host, cache = parts[0].preprocess, out.parent / "cache"
    roles = scored_roles(dataset, Split(dataset.roles.get("train", ()), ()), score_test, cache)
    shown = {role: prepare_photos(photos, host, cache, dataset.kind) for role, photos in roles.items()}
    module = rounded(mean_of([part.module for part in parts]), half)
    record = {
        "method": "average",
        "parts": [{"sha256": part.sha256, "scores": _scores(part.module, shown, part, ("select",))} for part in parts],
        "scores": _scores(module, shown, parts[0], tuple(shown)),
        "options": {"half": half},
        "versions": trained_with(),
        "machine": environment(),
    }
    kept = module.half() if half else module
    save_checkpoint(out, Checkpoint(kept, parts[0].architecture, parts[0].labels, host, sha256=""), record)
    return Trained(out, parts[0].labels, record)


def mean_of(modules: Sequence[nn.Module]) -> nn.Module:
    """A copy of the first with the mean of all weights and buffers, in float32; integers are the first's."""
    states = [module.state_dict() for module in modules]
    mean = {
        name: torch.stack([state[name].float() for state in states]).mean(0) if value.is_floating_point() else value
        for name, value in states[0].items()
    }
    made = copy.deepcopy(modules[0]).float()
    made.load_state_dict(mean)
    return made.eval()


def _scores(
    module: nn.Module, shown: dict[str, PreparedPhotos], part: Checkpoint, roles: tuple[str, ...]
) -> list[dict[str, Any]]:
    return [score(module, photos, part.preprocess, role) for role, photos in shown.items() if role in roles]


def _require_alike(parts: Sequence[Checkpoint]) -> None:
    if len(parts) < 2 or len({part.sha256 for part in parts}) < len(parts):
        raise BadInput(f"{len(parts)} checkpoints, {len({part.sha256 for part in parts})} different ones",
                       "at least two, each once")  # fmt: skip
    first = parts[0]
    for part in parts[1:]:
        odd = [
            word
            for word, one, other in (
                ("architecture", first.architecture, part.architecture),
                ("labels", first.labels, part.labels),
                ("preprocessing", first.preprocess.digest(), part.preprocess.digest()),
            )
            if one != other
        ]
        if odd:
            raise BadInput(f"checkpoints {first.sha256[:12]} and {part.sha256[:12]}: other {', '.join(odd)}",
                           "trainings of one network on the same labels")  # fmt: skip
