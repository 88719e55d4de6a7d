"""One training loop: cross-entropy on labels, imitation of a teacher, or both; resumable after each epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..data.prepared import PreparedPhotos
from ..errors import BadInput
from ..machine import usable_cores
from .options import FitOptions
from .run import Epoch, Evaluate, Run
from .views import PhotoViews, Student, Views

__all__ = ["Epoch", "FitOptions", "FitStatus", "Progress", "Student", "fit", "fit_views", "kept_epoch"]


@dataclass(frozen=True)
class FitStatus:
    """Where a run stands: steps of `batch` photos, mean loss of the last twenty."""

    epoch: int
    epochs: int
    step: int
    steps: int
    batch: int
    loss: float
    photos_per_s: float


Progress = Callable[[FitStatus], None]


def fit(
    student: Student,
    photos: PreparedPhotos,
    options: FitOptions,
    teacher: Student | None = None,
    progress: Progress = lambda status: None,
    state: Path | None = None,
    evaluate: Evaluate | None = None,
) -> list[Epoch]:
    """Fit the student's module in place; it ends in eval mode with the weights that are kept.

    Args:
        photos: of the train role, prepared at least as large as the student's input.
        teacher: imitated on the same crop at its own size; None fits labels alone.
        state: file kept after each epoch, from which an interrupted run with the same options goes on; removed at
            the end by whoever saves the weights.
        evaluate: loss and top-1 of a module in eval mode on photos that are not fitted, asked after each epoch.

    Raises:
        BadInput: photos too few, smaller than the input, no teacher for a loss that needs one, a foreign state, a loss
            that is no number, or a state that cannot be written.
    """
    largest = max(student.host.height, student.host.width)
    if (given := min(photos.array().shape[1:3])) < largest:
        raise BadInput(f"photos prepared at {given} pixels", f"at least the student's {largest}")
    hosts = [student.host, *([teacher.host] if teacher else [])]
    views = PhotoViews(photos, tuple((host.height, host.width) for host in hosts))
    return fit_views(student, views, options, teacher, progress, state, evaluate)


def fit_views(
    student: Student,
    views: Views,
    options: FitOptions,
    teacher: Student | None = None,
    progress: Progress = lambda status: None,
    state: Path | None = None,
    evaluate: Evaluate | None = None,
) -> list[Epoch]:
    """`fit` on whatever views."""
    require_fit(len(views.truth), options, teacher is not None, evaluate is not None)
    run = Run(student, views, options, teacher, evaluate)
    done = run.resume(state) if state else 0

    def tell(epoch: int, step: int, loss: float, photos_per_s: float) -> None:
        progress(FitStatus(epoch, options.epochs, step, run.steps, options.batch, loss, photos_per_s))

    with ThreadPoolExecutor(usable_cores()) as pool:
        for epoch in range(done, options.epochs):
            if run.is_over:
                break
            run.epoch(epoch, pool, tell)
            if state:
                run.keep(state)
    run.finish()
    return run.history


def require_fit(photos: int, options: FitOptions, taught: bool, judged: bool) -> None:
    """Whoever prepares photos asks before.

    Args:
        taught, judged: there is a teacher, and there are photos held out.

    Raises:
        BadInput: too few photos, or an option for what there is not.
    """
    if photos < options.batch:
        raise BadInput(f"{photos} photos to fit", f"at least one batch of {options.batch}",
                       "take more photos or a smaller batch")  # fmt: skip
    if not taught and options.label_weight < 1:
        raise BadInput(f"label weight {options.label_weight} without a teacher", "1, or a teacher to imitate")
    if options.patience and not judged:
        raise BadInput(f"patience {options.patience} without photos held out", "photos to judge each epoch by",
                       "hold a part of train out, such as --held-out 0.1")  # fmt: skip


def kept_epoch(history: Sequence[Epoch], options: FitOptions) -> int:
    """Number of the epoch whose weights are kept: the best on held-out photos with patience, else the last."""
    return max(history, key=Epoch.merit).epoch if options.patience else history[-1].epoch
