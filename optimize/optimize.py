"""Trained classifier, photos and a budget in; the fastest artifact for this device that keeps the promise out."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .. import machine
from ..artifact import Artifact, Preprocess
from ..artifact.claims import write_claim
from ..artifact.store import save
from ..benchmarks.accuracy import score
from ..benchmarks.candidate import Candidate
from ..data import Dataset, balanced
from ..data.dataset import Photo
from ..data.overlap import prove_all_disjoint
from ..data.prepared import PreparedPhotos, prepare_photos
from ..errors import BadInput
from ..export.confidence import HeldOut, held_out
from ..export.loaders import Source
from ..records import Record
from .answer import Answer
from .budget import Budget, SearchOptions
from .candidates import without_vnni
from .choice import choose
from .confirmation import Confirmation, certify_from, confirm, log_look
from .demo import Progress
from .pipeline import PARITY_PHOTOS
from .search import Search
from .stages import Stages
from .variants import Model

_ENDINGS = (".safetensors", ".onnx", ".pt2", ".pt", ".pth", ".ckpt", ".bin", ".torchscript")


@dataclass(frozen=True)
class Roles:
    """Photos by role, proven disjoint."""

    dataset: Dataset
    calibrate: tuple[Photo, ...]
    select: tuple[Photo, ...]
    confirm: tuple[Photo, ...]
    cache: Path

    def prepared(self, role: str, host: Preprocess) -> PreparedPhotos:
        """A role's photos as one model takes them."""
        return prepare_photos(getattr(self, role), host, self.cache, self.dataset.kind)

    def held_out(self, labels: tuple[str, ...], host: Preprocess) -> HeldOut:
        """What the temperature of a model with these labels is fitted on."""
        return held_out(self.dataset, labels, host, self.cache)

    def about(self) -> dict[str, object]:
        """For a record."""
        return {"name": self.dataset.name, "kind": self.dataset.kind, "labels": self.dataset.labels,
                "calibration": len(self.calibrate)}  # fmt: skip


def roles(dataset: Dataset, per_class: int, seed: int, cache: Path) -> Roles:
    """Draw the photos of calibrate, take all of select and confirm, and prove that no photo has two roles.

    Raises:
        BadDataset: a role is empty. Overlap: a photo has two.
    """
    drawn = balanced(dataset.role("calibrate"), per_class, seed)
    found = Roles(dataset, drawn, dataset.role("select"), dataset.role("confirm"), cache)
    named = {"calibrate": drawn, "select": found.select, "confirm": found.confirm}
    prove_all_disjoint(named, cache / "pixel-hashes.json")
    return found


Given = Source | Artifact


def labels_of(given: Given) -> tuple[str, ...]:
    """A model's labels, whichever way it came."""
    return given.model.labels if isinstance(given, Source) else given.manifest.labels


def optimize(
    sources: Sequence[Given], photos: Roles, budget: Budget, options: SearchOptions, progress: Progress
) -> Answer:
    """Search on calibrate and select, confirm the winner once on confirm, ship it or what it was compared with.

    Args:
        sources: the given model first, a source or an fp32 ONNX artifact; then whatever else may compete: a source with
            a smaller input, an artifact that is quantized already.

    Raises:
        BadInput: a source cannot be used, or two have different labels.
        ParityFailed: an exported model is not the trained one.
    """
    models = load_models(sources, photos, options.out / "artifacts", progress)
    select = {model.name: photos.prepared("select", model.artifact.preprocess) for model in models}
    search = Search(models, select, budget, options, photos.about(), progress)
    record = search.run()
    record.save(options.out / "search.json")
    choice = choose(record, budget, search.reference)
    if choice.winner is None:
        _forget(options.out, models, "winner", "confirm.json", "confirm.npz")
        return Answer(record, choice)
    if choice.winner == choice.reference:
        _forget(options.out, models, "confirm.json", "confirm.npz")
        artifact = _ship(search.candidates[choice.winner], options.out / "winner")
        return Answer(record, choice, None, choice.winner, artifact)
    pair = [search.candidates[choice.reference], search.candidates[choice.winner]]
    confirmation, looks, seen = _confirm(pair, photos, budget, options.out, progress)
    shipped = choice.winner if confirmation.passed else choice.fallback or choice.reference
    artifact = _ship(search.candidates[shipped], options.out / "winner")
    if confirmation.passed:
        _claim(artifact, confirmation, budget)
        certify_from(seen, artifact, shipped, choice.reference, budget.max_drop)
    return Answer(record, choice, confirmation, shipped, artifact, looks)


def _forget(out: Path, models: Sequence[Model], *names: str) -> None:
    """Remove what an earlier search in this folder ended with and this one did not, save what this one was given."""
    given = [model.artifact.folder.resolve() for model in models]
    for path in ((out / name).resolve() for name in names):
        if path.is_dir() and path not in given:
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()


def load_models(sources: Sequence[Given], photos: Roles, folder: Path, progress: Progress) -> list[Model]:
    """What is no artifact is exported, its parity proven on photos of select."""
    stages, models = Stages(folder, progress.say), list[Model]()
    for given in sources:
        name = _short_name(given, {model.name for model in models})
        artifact = _exported(given, name, stages, photos) if isinstance(given, Source) else given
        host = artifact.preprocess
        if models and artifact.manifest.labels != models[0].artifact.manifest.labels:
            raise BadInput(f"{name} has other labels than {models[0].name}", "models of the same classes")
        held = photos.held_out(artifact.manifest.labels, host)
        models.append(Model(name, artifact, photos.prepared("calibrate", host), held))
    labels = len(models[0].artifact.manifest.labels)
    if labels != len(photos.dataset.labels):
        raise BadInput(f"{models[0].name} has {labels} labels, {photos.dataset.name} {len(photos.dataset.labels)}",
                       "photos of the model's own classes")  # fmt: skip
    return models


def _short_name(given: Given, taken: set[str]) -> str:
    """Such as `resnet50` of `timm:resnet50`: of letters that a folder's name may have."""
    name = given.folder.resolve().name if isinstance(given, Artifact) else short_name(given.text)
    if name in taken:
        raise BadInput(f"two sources are called {name}", "different names", "rename a folder")
    return name


def short_name(text: str) -> str:
    """A source's last word, without the ending of a file."""
    last = re.split(r"[/\\:]", text.rstrip("/"))[-1]
    return re.sub(r"[^\w.-]", "-", Path(last).stem if Path(last).suffix in _ENDINGS else last) or "model"


def _exported(source: Source, name: str, stages: Stages, photos: Roles) -> Artifact:
    from ..export.from_source import export_source

    trained = source.model
    some = photos.prepared("select", trained.preprocess)
    seen = np.asarray(some.array()[:PARITY_PHOTOS])
    held = photos.held_out(trained.labels, trained.preprocess)
    options = {"parity": some.hashes[:PARITY_PHOTOS], "held_out": held.digest()}
    return stages.needed(name, source.key, options, lambda out: export_source(source, out, seen, held)[0])


def _confirm(
    pair: Sequence[Candidate], photos: Roles, budget: Budget, out: Path, progress: Progress
) -> tuple[Confirmation, int, Record]:
    """Score reference and winner on the whole confirm role; the record and the list of looks are kept."""
    reference, winner = pair
    places = [*pair, *(without_vnni([winner]) if budget.portable else ())]
    environment, subjects, answers = machine.environment(), [], {}
    for row in places:
        assert row.artifact is not None
        prepared = photos.prepared("confirm", row.artifact.preprocess)
        bar = progress.bar(f"confirming {row.name}", len(prepared))
        answers[row.name], applied = score(row, prepared, photos.cache, bar)
        subjects.append(row.subject(applied=applied))
    about = {**photos.about(), "role": "confirm", "count": len(photos.confirm)}
    record = Record("score", environment, tuple(subjects), {"max_drop": budget.max_drop}, about,
                    predictions=answers, created=machine.utc_now())  # fmt: skip
    found = confirm(record, winner.name, reference.name, budget)
    assert winner.artifact is not None and winner.run is not None
    looks = log_look(out / "looks.json", winner.artifact.digest, winner.run, prepared.digest(), budget.max_drop, found)
    replace(record, options={**record.options, "looks": looks}).save(out / "confirm.json")
    return found, sum(look["photos"] == prepared.digest() for look in looks), record


def _ship(candidate: Candidate, out: Path) -> Artifact:
    """The artifact with the RunConfig that won as its default."""
    artifact = candidate.artifact
    assert artifact is not None
    files: Mapping[str, Path] = {file.name: artifact.folder / file.name for file in artifact.manifest.files}
    return save(out, replace(artifact.manifest, run=candidate.run), dict(files))


def _claim(shipped: Artifact, passed: Confirmation, budget: Budget) -> None:
    """What was confirmed, beside the artifact."""
    verdicts = {"native": passed.verdict, **passed.places}
    write_claim(shipped, "confirmed", {
        "max_drop": budget.max_drop,
        "verdicts": {place: [found.decision.value, found.reason] for place, found in verdicts.items()},
        "flips": [passed.flips.count, passed.flips.n],
        "machine": machine.environment(),
    })  # fmt: skip
