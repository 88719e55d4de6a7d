"""Accuracy: a separate, batched pass over prepared photos, which goes on where it was interrupted."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import machine
from ..artifact import Artifact
from ..data.prepared import PreparedPhotos
from ..errors import BadInput, EngineFailed, Overlap
from ..records import Predictions
from .candidate import Candidate
from .rounds import random_feeds
from .workers.client import WorkerClient
from .workers.place import KERNEL_SWITCHES

BATCH = 16
_CHUNK = 8  # calls between two moments at which an interrupted pass can go on
# What an engine tells that is otherwise at its next opening and changes no answer.
_OF_AN_OPENING = ("cache", "device_bytes_engine", "device_bytes_lane", "device_bytes_scratch")
NAN_FIX = "half precision ends at 65504: compute in fp32; docs/debug.md finds the layer"

Progress = Callable[[int], None]


def score(
    candidate: Candidate,
    photos: PreparedPhotos,
    cache: Path,
    progress: Progress = lambda done: None,
    batch: int = BATCH,
) -> tuple[Predictions, dict[str, object]]:
    """Answer every photo.

    Args:
        cache: folder for logits by content; what is answered there, by whomever, is not asked again.
        batch: photos a call; float kernels may round the same photo another way in another batch.

    Returns:
        The predictions, and what the engine applied.

    Raises:
        BadInput: nothing to score, labels that do not fit, or no room for the answers.
        Overlap: some of the photos have calibrated the artifact.
        EngineFailed: an answer holds NaN, which would count as the first class.
        WorkerFailed, EngineFailed: as the worker says.
    """
    artifact, run = candidate.artifact, candidate.run
    if artifact is None or run is None or len(photos) == 0:
        raise BadInput(f"{candidate.name}: nothing to score", "an artifact that can run, and photos")
    classes = len(artifact.manifest.labels)
    outside = photos.truth[(photos.truth < 0) | (photos.truth >= classes)]
    if len(outside):
        raise BadInput(f"a photo of class {outside[0]}", f"labels 0 to {classes - 1}, as in {artifact.folder}")
    refuse_calibration_photos(candidate.name, artifact, photos)
    cache.mkdir(parents=True, exist_ok=True)
    with WorkerClient(artifact, run, candidate.place, random_feeds(artifact, batch, 0)) as worker:
        path = cache / f"logits-{_key(candidate, photos, worker.applied, batch)}.npy"
        _fill(worker, path, photos, (classes, batch), progress)
        logits = np.load(path)
        applied = worker.applied
    if lost := int(np.isnan(logits).any(axis=1).sum()):
        what = f"{candidate.name}: NaN in the answers to {lost} of {len(photos)} photos"
        raise EngineFailed(what, "numbers", NAN_FIX)
    return Predictions.from_logits(photos.hashes, photos.truth, logits, photos.kind), applied


def temperatures(candidates: Sequence[Candidate]) -> dict[str, float]:
    """Name → what its artifact divides logits by, for a record's `options["temperatures"]`."""
    return {row.name: row.artifact.manifest.temperature for row in candidates if row.artifact is not None}


def refuse_calibration_photos(name: str, artifact: Artifact, photos: PreparedPhotos) -> None:
    """Raises Overlap if a photo to score has calibrated the artifact."""
    seen = set(artifact.manifest.calibration)
    shared = sum(digest[:16] in seen for digest in photos.hashes)
    if shared:
        raise Overlap(
            f"{name}: {shared} of {len(photos)} photos to score have calibrated this artifact",
            "photos that calibration has not seen",
            "score the confirm role, or quantize again with other photos",
        )


def _key(candidate: Candidate, photos: PreparedPhotos, applied: dict[str, Any], batch: int) -> str:
    """Everything that an answer depends on."""
    assert candidate.artifact is not None
    place = [candidate.place.name, list(candidate.place.argv_prefix), dict(candidate.place.env)]
    cpu = [machine.cpu_model(), machine.cpu_features()]
    details = {name: told for name, told in applied.get("details", {}).items() if name not in _OF_AN_OPENING}
    kept = {**applied, "cache": None, "details": details}
    parts: list[object] = [candidate.artifact.digest, kept, place, cpu, photos.digest(), batch]
    switches = {name: os.environ[name] for name in KERNEL_SWITCHES if name in os.environ}
    inherited = sorted((name, value) for name, value in switches.items() if name not in candidate.place.env)
    parts += [part for part in (inherited, candidate.place.identity) if part]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def _fill(worker: WorkerClient, path: Path, photos: PreparedPhotos, sizes: tuple[int, int], progress: Progress) -> None:
    """Rows not answered yet are NaN in the file. `sizes`: classes, and photos a call."""
    classes, batch = sizes
    chunk = _CHUNK * batch
    _begin(path, (len(photos), classes))
    waiting = np.isnan(np.load(path)).any(axis=1)
    for start in range(0, len(photos), chunk):
        stop = min(start + chunk, len(photos))
        if waiting[start:stop].any():
            worker.infer(photos.path, (start, stop), batch, path)
        progress(stop)


def _begin(path: Path, shape: tuple[int, int]) -> None:
    """A file of NaN, unless one is there that another pass, interrupted or still running, has begun.

    Written in full: a sparse file that is mapped would kill the worker on a full disk, and be zeros where it ended.

    Raises:
        BadInput: it cannot be written (a full disk).
    """
    if _usable(path, shape):
        return
    try:
        with tempfile.TemporaryDirectory(prefix=".logits-", dir=path.parent) as folder:
            np.save(draft := Path(folder, path.name), np.full(shape, np.nan, np.float32))
            if not _usable(path, shape):
                draft.replace(path)
    except OSError as error:
        raise BadInput(f"cannot write {path} ({error.strerror or error})", "room and permission to write") from error


def _usable(path: Path, shape: tuple[int, int]) -> bool:
    try:
        found = np.load(path, mmap_mode="r")
        return found.shape == shape and found.dtype == np.float32
    except (OSError, ValueError, EOFError):  # an empty file is EOFError
        return False
