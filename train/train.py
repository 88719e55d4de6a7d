"""A trained classifier from labelled photos: a network, photos of the train role, a recipe → a checkpoint on disk."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..data import Dataset, Photo, pixel_hashes, prove_disjoint
from ..data.prepared import PreparedPhotos, prepare_photos
from ..data.splits import hold_out_runs
from ..errors import BadDataset, BadInput
from .checkpoint import Checkpoint, require_name, rounded, save_checkpoint
from .fit import kept_epoch, require_fit
from .initial import Start
from .modes import Fitted, Task, Watch, finetune, fit_head, fitted_host
from .recipes import TrainOptions, applied
from .record import training_record
from .score import score
from .views import require_size

_log = logging.getLogger(__name__)
NO_WATCH = Watch()


@dataclass(frozen=True)
class Split:
    """Photos of the train role: those that are fitted, those that judge the epochs (or none)."""

    fitted: tuple[Photo, ...]
    held_out: tuple[Photo, ...]


@dataclass(frozen=True)
class Trained:
    """What was made: the weights' file, and the training record that the JSON beside it holds."""

    path: Path
    labels: tuple[str, ...]
    record: dict[str, Any]


def train(
    dataset: Dataset,
    start: Start,
    options: TrainOptions,
    out: Path,
    teacher: Checkpoint | None = None,
    score_test: bool = False,
    watch: Watch = NO_WATCH,
) -> Trained:
    """Train a network and save it as a checkpoint.

    An interrupted run goes on from `out` with the ending .state if it is given the same again, and ends with the same
    bytes. What is computed of photos is kept in the folder `cache` beside `out`.

    Args:
        start: from `initial.start`, for the labels of `dataset`; its module is trained in place.
        out: the .safetensors file to write.
        teacher: imitated as well; of the same labels in the same order.
        score_test: also score the confirm role, which whoever asks has to write down as a look.

    Raises:
        BadDataset: as `split_train`. Overlap: as `scored_roles`.
        BadInput: as `fit`, a teacher of other labels or in features mode, a size of input that the network does not
            take, weights beyond float16, or no room to write.
    """
    require_name(out)
    cache, options = out.parent / "cache", applied(options, start.architecture, start.host)
    _check_teacher(teacher, dataset.labels, options)
    for host in (start.host, fitted_host(start, options)):
        require_size(start.module, host, start.architecture.name)
    split = split_train(dataset, options.held_out, options.fit.seed, cache)
    require_fit(len(split.fitted), options.fit, teacher is not None, bool(split.held_out))
    scored = scored_roles(dataset, split, score_test, cache)
    held = prepare_photos(split.held_out, start.host, cache, dataset.kind) if split.held_out else None
    task = Task(start, options, dataset.kind, cache, out.with_suffix(".state"), teacher, watch)
    told_held = _told_held(task, held) if held else None
    began = time.perf_counter()
    fitted = (fit_head if options.mode == "features" else finetune)(task, split.fitted, held)
    seconds = time.perf_counter() - began
    module = rounded(start.module.eval(), options.half)
    scores = [
        score(module, prepare_photos(photos, start.host, cache, dataset.kind), start.host, role)
        for role, photos in scored.items()
    ]
    more = {"held_out": told_held, "last_run_seconds": seconds, "scores": scores}
    record = _record(task, dataset, fitted, more)
    kept = module.half() if options.half else module
    save_checkpoint(out, Checkpoint(kept, start.architecture.name, dataset.labels, start.host, sha256=""), record)
    task.state.unlink(missing_ok=True)
    return Trained(out, dataset.labels, record)


def split_train(dataset: Dataset, part: float, seed: int, cache: Path) -> Split:
    """Hold a part out of the train role (`data.splits.hold_out_runs`).

    Raises:
        BadDataset: fewer than two classes, a class without photos to fit, or no train role.
    """
    if len(dataset.labels) < 2:
        raise BadDataset(f"{dataset.name} has {len(dataset.labels)} class", "at least two classes to tell apart")
    photos = dataset.role("train")
    held, fitted = hold_out_runs(photos, part, seed, pixel_hashes(photos, cache / "pixel-hashes.json"))
    _require_every_class(dataset.labels, fitted)
    return Split(fitted, held)


def _require_every_class(labels: tuple[str, ...], photos: tuple[Photo, ...]) -> None:
    counts = Counter(photo.label for photo in photos)
    empty = [label for index, label in enumerate(labels) if not counts[index]]
    if empty:
        shown = ", ".join(empty[:5]) + (", …" if len(empty) > 5 else "")
        what = f"{len(empty)} of {len(labels)} classes have no photo to train with: {shown}"
        raise BadDataset(what, "photos of every class in the train split", "add photos, or take the class off the set")


def _check_teacher(teacher: Checkpoint | None, labels: tuple[str, ...], options: TrainOptions) -> None:
    if teacher is None:
        return
    if options.mode == "features":
        raise BadInput("a teacher in features mode", "finetune mode, where both see the same crops")
    if teacher.labels != labels:
        odd = sorted(set(teacher.labels) ^ set(labels))[:5]
        differ = f"such as {', '.join(odd)}" if odd else "in another order"
        raise BadInput(f"the teacher has other labels ({differ})", f"the {len(labels)} labels of the photos, in order",
                       "take a teacher that was trained with these photos' labels")  # fmt: skip


def scored_roles(dataset: Dataset, split: Split, score_test: bool, cache: Path) -> dict[str, tuple[Photo, ...]]:
    """Role → photos that are scored at the end: what was held out, else the select role; confirm where asked for.

    Raises:
        Overlap: a photo that is fitted, or held out to choose an epoch by, is among them.
    """
    select = dataset.roles.get("select", ())
    scored = {"held-out": split.held_out} if split.held_out else {"select": select} if select else {}
    if score_test:
        scored["confirm"] = dataset.role("confirm")
    for role, photos in scored.items():
        if role != "held-out":
            trained = (*split.fitted, *split.held_out)
            prove_disjoint(trained, photos, ("train", role), cache / "pixel-hashes.json")
    return scored


def _told_held(task: Task, held: PreparedPhotos) -> dict[str, Any]:
    """Warns of checkpoints that may have been fitted on the photos held out: all whose record does not tell that it
    held out the same ones.
    """
    given = {"checkpoint to start from": task.start.checkpoint, "teacher": task.teacher}
    digest = held.digest()
    may_know = [name for name, each in given.items() if each and each.held_out != digest]
    for name in may_know:
        _log.warning("the %s may have been fitted on the photos held out here, whose top-1 then says too much: "
                     "its record does not tell that it held out the same ones", name)  # fmt: skip
    return {"photos": len(held), "photos_sha256": digest, "may_know": may_know}


def _record(task: Task, dataset: Dataset, fitted: Fitted, more: dict[str, Any]) -> dict[str, Any]:
    photos, history = fitted
    options, start, teacher = task.options, task.start, task.teacher
    return training_record(
        options.mode, len(photos), photos.digest(), asdict(options), history,
        data={"name": dataset.name, "kind": dataset.kind, "classes": len(dataset.labels)},
        initial={"source": start.source, "sha256": start.sha256},
        teacher=teacher.sha256 if teacher else None,
        kept_epoch=kept_epoch(history, options.fit),
        **more,
    )  # fmt: skip


def score_lines(record: dict[str, Any]) -> Iterator[str]:
    """Such as `top-1 on 264 held-out photos: 87.50 % (95 %: 82.9–91.0)`, one line a role; where there is
    none, what would be one.
    """
    if not record["scores"]:
        yield "no photos to score: none were held out, and the set has none to select with"
    for told in record["scores"]:
        what = f"{told['photos']} {told['role']} photos"
        found = told.get("top_1")
        if found is None:
            yield f"{what} are synthesized: answers to them have no accuracy"
        else:
            low, high = (100 * found[end] for end in ("low", "high"))
            yield f"top-1 on {what}: {100 * found['value']:.2f} % (95 %: {low:.1f}–{high:.1f})"
