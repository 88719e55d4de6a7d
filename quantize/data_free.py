"""Calibration without photos: images made from the checkpoint that an artifact came from, once, then kept."""

from __future__ import annotations

import json
from pathlib import Path

from ..artifact import Artifact
from ..data import Dataset, open_dataset, synthesized
from ..errors import BadInput
from ..train import load_checkpoint
from .synthesis import Progress, SynthesisOptions, synthesize


def made_from(dataset: Dataset) -> str | None:
    """sha256 of the checkpoint that a synthesized set was made from; None for photos."""
    head = dataset.root / "synthesized.json"
    return json.loads(head.read_text())["checkpoint"] if dataset.kind == "synthesized" else None


def data_free(
    artifact: Artifact,
    checkpoint: Path | None,
    cache: Path,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> Dataset:
    """A set with photos for the calibrate role: the shipped one where it was made from this artifact's checkpoint.

    Args:
        checkpoint: the weights that the artifact was exported from; None where the shipped set will do.
        cache: folder in which made sets are kept, by checkpoint and seed.

    Raises:
        BadInput: the checkpoint is missing or another, or has no batch statistics to make images from.
    """
    shipped = synthesized()
    wanted = artifact.manifest.checkpoint
    if wanted is not None and made_from(shipped) == wanted:
        return shipped
    if checkpoint is None:
        raise BadInput(
            f"{artifact.folder}: no images are at hand that were made from its checkpoint {str(wanted)[:12]}",
            "the weights that it was exported from",
            "pass --checkpoint",
        )
    loaded = load_checkpoint(checkpoint)
    if loaded.sha256 != wanted:
        raise BadInput(f"{checkpoint}: {loaded.sha256[:12]}, not what {artifact.folder} came from",
                       f"checkpoint {str(wanted)[:12]}")  # fmt: skip
    out = cache / f"synthesized-{loaded.sha256[:12]}-{seed}"
    if not (out / "photos.csv").exists():
        synthesize(loaded, out, SynthesisOptions(seed=seed, confirm_batches=0, calibrate_batches=2), progress)
    return open_dataset(out)
