"""Calibration without photos: images made from the checkpoint that an artifact came from, once, then kept."""

from __future__ import annotations

import json
from pathlib import Path

from ..artifact import Artifact
from ..data import Dataset, open_dataset, synthesized
from ..errors import BadInput
from ..export.loaders import reopened
from .synthesis import Progress, SynthesisOptions, synthesize


def made_from(dataset: Dataset) -> str | None:
    """sha256 of the checkpoint that a synthesized set was made from; None for photos."""
    head = dataset.root / "synthesized.json"
    return json.loads(head.read_text())["checkpoint"] if dataset.kind == "synthesized" else None


def data_free(
    artifact: Artifact,
    checkpoint: str | None,
    cache: Path,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> Dataset:
    """A set with photos for the calibrate role: the shipped one where it was made from this artifact's checkpoint.

    Args:
        checkpoint: the source that the artifact was exported from (docs/sources.md); None where the shipped set will
            do.
        cache: folder in which made sets are kept, by checkpoint and seed.

    Raises:
        BadInput: the checkpoint is missing, another or prepares photos otherwise, or has no batch statistics to make
            images from.
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
    source = reopened(artifact, checkpoint)
    if source.model.preprocess != artifact.preprocess:
        raise BadInput(
            f"{artifact.folder} prepares photos otherwise than {checkpoint} says: more was told at its export",
            "a source that says all of itself",
            "`tiffin synthesize OUT --checkpoint SOURCE` with the same options, then --data OUT",
        )
    out = cache / f"synthesized-{source.key[:12]}-{seed}"
    if not (out / "photos.csv").exists():
        synthesize(source.module(), out, SynthesisOptions(seed=seed, confirm_batches=0, calibrate_batches=2), progress)
    return open_dataset(out)
