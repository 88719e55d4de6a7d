"""A smaller input at the same accuracy: the network taught by itself at full size on the same crops."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ..artifact import Preprocess
from ..data.dataset import Photo
from ..data.prepared import PreparedPhotos, prepare_photos
from ..errors import BadInput
from ..runtime.preprocess import with_golden
from .checkpoint import Checkpoint, save_checkpoint
from .fit import FitOptions, Progress, Student, fit


def training_photos(photos: Sequence[Photo], host: Preprocess, cache: Path, kind: str) -> PreparedPhotos:
    """Whole photos, the shorter side a little larger than what the network sees of one, to crop from."""
    side = round(max(host.height, host.width) / host.crop_fraction * 9 / 8)
    return prepare_photos(photos, dataclasses.replace(host, height=side, width=side, crop_fraction=1.0), cache, kind)


def distill(
    teacher: Checkpoint,
    size: int,
    photos: PreparedPhotos,
    options: FitOptions,
    out: Path,
    progress: Progress = lambda status: None,
) -> Path:
    """Fit a copy of the teacher that takes `size`×`size` photos, and save it as a checkpoint.

    Args:
        size: side of the student's input in pixels; the part of the photo that is seen stays the same.
        photos: `training_photos` of the train role.
        out: the .safetensors file to write; an interrupted run goes on from `out` with the ending .state.

    Raises:
        BadInput: as `fit`, or the student's input is no smaller than the teacher's.
    """
    host = teacher.preprocess
    if size >= host.height:
        raise BadInput(f"a student of {size} pixels", f"fewer than its teacher's {host.height}")
    smaller = with_golden(dataclasses.replace(host, height=size, width=size, golden={}))
    student = Student(copy.deepcopy(teacher.module), smaller)
    state = out.with_suffix(".state")
    history = fit(student, photos, options, Student(teacher.module, host), progress, state)
    made = dataclasses.replace(teacher, module=student.module.half(), preprocess=smaller)
    training = {
        "method": "distillation",
        "teacher": teacher.sha256,
        "photos": len(photos),
        "photos_sha256": photos.digest(),
        "options": asdict(options),
        "history": [asdict(epoch) for epoch in history],
    }
    save_checkpoint(out, made, training)
    state.unlink(missing_ok=True)
    return out
