"""A smaller input at the same accuracy: the network taught by itself at full size on the same crops."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from ..artifact import Preprocess
from ..data.dataset import Photo
from ..data.prepared import PreparedPhotos, prepare_photos
from ..errors import BadInput
from ..runtime.preprocess import with_golden
from .checkpoint import Checkpoint, require_name, rounded, save_checkpoint
from .fit import FitOptions, Progress, Student, fit
from .record import training_record
from .views import require_size


def training_photos(
    photos: Sequence[Photo],
    host: Preprocess,
    cache: Path,
    kind: str,
    larger: float = 9 / 8,
    progress: Callable[[int], None] = lambda done: None,
) -> PreparedPhotos:
    """Squares to crop from, the side `larger` times what a photo is resized to before a network sees a part.

    They are the photos' centres, as in scoring but to the shorter side's whole length; all of a photo where it is
    squeezed. What lies beyond the square is never fitted.
    """
    side = round(max(host.height, host.width) / host.crop_fraction * larger)
    square = dataclasses.replace(host, height=side, width=side, crop_fraction=1.0)
    return prepare_photos(photos, square, cache, kind, progress)


def student_of(teacher: Checkpoint, size: int) -> Student:
    """A copy of the teacher that takes `size`×`size` photos.

    Raises:
        BadInput: its input is no smaller than the teacher's, or of a size that the network does not take.
    """
    host = teacher.preprocess
    if size >= host.height:
        raise BadInput(f"a student of {size} pixels", f"fewer than its teacher's {host.height}")
    smaller = with_golden(dataclasses.replace(host, height=size, width=size, golden={}))
    require_size(teacher.module, smaller, teacher.architecture)
    return Student(copy.deepcopy(teacher.module), smaller)


def distill(
    teacher: Checkpoint,
    size: int,
    photos: PreparedPhotos,
    options: FitOptions,
    out: Path,
    progress: Progress = lambda status: None,
    half: bool = True,
) -> Path:
    """Fit a copy of the teacher that takes `size`×`size` photos, and save it as a checkpoint.

    Args:
        size: side of the student's input in pixels; the part of the photo that is seen stays the same.
        photos: `training_photos` of the train role.
        out: the .safetensors file to write; an interrupted run goes on from `out` with the ending .state.
        half: weights are saved as float16.

    Raises:
        BadInput: as `fit` and `student_of`, `out` has another ending, or weights beyond float16.
    """
    require_name(out)
    student, host = student_of(teacher, size), teacher.preprocess
    state = out.with_suffix(".state")
    history = fit(student, photos, options, Student(teacher.module, host), progress, state)
    module = rounded(student.module, half)
    made = dataclasses.replace(teacher, module=module.half() if half else module, preprocess=student.host)
    save_checkpoint(out, made, training_record("distillation", len(photos), photos.digest(), asdict(options), history,
                                               teacher=teacher.sha256))  # fmt: skip
    state.unlink(missing_ok=True)
    return out
