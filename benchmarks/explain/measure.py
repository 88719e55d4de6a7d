"""Answer every stage and every hypothesis about one artifact, and write it all down: a record of kind "explain"."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ... import machine
from ...artifact import Artifact
from ...artifact.cpu_class import CPU_CLASSES, class_here
from ...data import Dataset, Photo
from ...data.prepared import PreparedPhotos, part_of, prepare_photos
from ...errors import BadInput, Overlap, TiffinError
from ...records import Predictions, Record, Subject
from ...records.loss_budget import HYPOTHESIS, on_photos
from ..accuracy import score
from ..candidate import Candidate
from ..workers.place import Place
from . import activations, feeds, graph_resize, labels, normalization, ranges, stages
from .hypothesis import Hypothesis, Suspect, written
from .lineage import Lineage
from .stages import Planned

Bar = Callable[[str, int], Callable[[int], None]]
SATURATION = "saturation"


@dataclass(frozen=True)
class Asked:
    """What is to be explained.

    Args:
        own: the artifact as it is run.
        dataset: whose photos of `role` are answered.
        photos: of these, those that each stage answers.
        checkpoint: the trained weights; None looks for them.
        classes: of CPU; None as `stages.classes` says.
        tries: photos that hypotheses are tried on; 0 for none.
        seed: of their draw.
        work: folder for answers and for what is made on the way.
    """

    own: Candidate
    dataset: Dataset
    role: str
    photos: Sequence[Photo]
    work: Path
    checkpoint: str | None = None
    classes: Sequence[str] | None = None
    tries: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        artifact = self.own.artifact
        if artifact is None or self.own.run is None or artifact.manifest.preprocess is None:
            raise BadInput(f"{self.own.name}: no classifier that can run", "an artifact with labels and preprocessing")
        if not self.photos or self.dataset.kind != "photos":
            raise BadInput(f"{self.dataset.name}: no photos with true labels", "photos of the model's own classes",
                           "name a dataset with --data")  # fmt: skip
        if self.tries < 0:
            raise BadInput(f"{self.tries} photos to try hypotheses on", "0 for none, or more")
        odd = sorted(set(artifact.manifest.labels) ^ set(self.dataset.labels))
        if odd:
            raise BadInput(f"{artifact.folder}: other labels than {self.dataset.name} has ({odd[0]!r})",
                           "photos of the artifact's own labels")  # fmt: skip

    @property
    def artifact(self) -> Artifact:
        """The one that is explained."""
        assert self.own.artifact is not None
        return self.own.artifact


@dataclass
class Answered:
    """What was found so far, in the order of the record."""

    subjects: list[Subject] = field(default_factory=list)
    predictions: dict[str, Predictions] = field(default_factory=dict)
    after: dict[str, str] = field(default_factory=dict)
    hypotheses: dict[str, dict[str, str]] = field(default_factory=dict)

    def keep(self, row: Candidate, found: Predictions | None, applied: dict[str, Any], reason: str = "") -> None:
        """One more subject; only the top of the logits is kept, a tenth of their size."""
        self.subjects.append(row.subject(applied=applied, reason=reason))
        if found is not None:
            self.predictions[row.name] = replace(found, logits=None)


def explain(asked: Asked, bar: Bar = lambda name, total: lambda done: None) -> Record:
    """Answer all stages, then all hypotheses about the artifact; what cannot run is a subject with its reason.

    Raises:
        BadInput: no lineage to explain, a checkpoint that is not the artifact's, or an unknown class of CPU.
        Overlap: some of the photos have calibrated the artifact.
    """
    return Explanation(asked, bar).record()


class Explanation:
    """One run of `explain`."""

    def __init__(self, asked: Asked, bar: Bar) -> None:
        self._asked, self._bar, self._found = asked, bar, Answered()
        self._lineage = Lineage(asked.artifact, asked.checkpoint, asked.work / "made")
        self._environment = machine.environment()
        self._prepared = self._prepare(asked.artifact)
        self._chain = stages.plan(asked.own, self._lineage)
        self._branches = stages.classes(asked.own, self._prepared.hashes, asked.classes)

    def record(self) -> Record:
        """All of it."""
        for row in self._chain:
            self._answer_stage(row)
        last = next((row.candidate.name for row in reversed(self._chain) if self._has(row)), "")
        for row in self._branches:
            self._answer_stage(row)
            if last and self._has(row):
                self._found.after[row.candidate.name] = last
        observed = self._try_hypotheses() if self._asked.tries else {}
        asked, found = self._asked, self._found
        options = {"tries": asked.tries, "seed": asked.seed, "after": found.after, "hypotheses": found.hypotheses}
        return Record("explain", self._environment, tuple(found.subjects), options | observed, about(asked),
                      predictions=found.predictions, created=machine.utc_now())  # fmt: skip

    def _has(self, row: Planned) -> bool:
        return row.candidate.name in self._found.predictions

    def _prepare(self, artifact: Artifact) -> PreparedPhotos:
        asked = self._asked
        return prepare_photos(asked.photos, artifact.preprocess, asked.work, asked.dataset.kind)

    def _answer_stage(self, row: Planned) -> None:
        held = row.candidate
        if held.reason or row.answers is not None:
            self._found.keep(held, row.answers, {}, held.reason)
            return
        assert held.artifact is not None
        self._answer(held, self._prepare(held.artifact))

    def _answer(self, row: Candidate, photos: PreparedPhotos) -> None:
        """Ask the engine; one that refuses or fails is a reason."""
        try:
            found, applied = score(row, photos, self._asked.work, self._bar(row.name, len(photos)))
        except Overlap:
            raise
        except TiffinError as error:
            self._found.keep(row, None, {}, error.what)
        else:
            self._found.keep(row, found, applied)

    def _try_hypotheses(self) -> dict[str, Any]:
        """Answer each; returns what was seen on the way: int8 ranges that fit the photos worst, lost activations."""
        with tempfile.TemporaryDirectory(dir=self._asked.work, prefix="hypotheses-") as scratch:
            suspect = self._suspect(Path(scratch))
            return self._tried(suspect) if suspect is not None else {}

    def _tried(self, suspect: Suspect) -> dict[str, Any]:
        tried, observed = ranges.tried(suspect)
        found = [*every(suspect), *tried, *self._saturation(suspect)]
        fed = self._answer_fed([each for each in found if each.feed is not None], suspect)
        for each in found:
            self._answer_hypothesis(each, suspect, fed)
        return {"ranges": observed, "lost": activations.observed(suspect)}

    def _answer_fed(self, those: Sequence[Hypothesis], suspect: Suspect) -> dict[str, Predictions | TiffinError]:
        """The artifact as it is, fed otherwise: all of these by one worker, by their words."""
        words, count = [each.words for each in those], len(suspect.photos)
        path = suspect.work / "fed.npy"
        photos = written(path, [each.feed for each in those if each.feed is not None], suspect.photos)
        row = replace(suspect.own, place=Place(f"{HYPOTHESIS}fed otherwise", identity="; ".join(words)))
        try:
            answers, _ = score(row, photos, self._asked.work, self._bar("photos fed otherwise", len(photos)))
        except Overlap:
            raise
        except TiffinError as error:
            return dict.fromkeys(words, error)
        finally:
            path.unlink()
        return {word: answers.rows(slice(at * count, (at + 1) * count)) for at, word in enumerate(words)}

    def _answer_hypothesis(
        self, each: Hypothesis, suspect: Suspect, fed: Mapping[str, Predictions | TiffinError]
    ) -> None:
        row = each.named()
        self._found.hypotheses[row.name] = {"kind": each.kind, "against": each.against, "words": each.words}
        answers = fed.get(each.words, each.answers)
        if isinstance(answers, TiffinError):
            self._found.keep(row, None, {}, answers.what)
        elif each.reason or answers is not None:
            self._found.keep(row, answers, {}, each.reason)
        else:
            self._answer(row, suspect.photos)

    def _suspect(self, scratch: Path) -> Suspect | None:
        """The artifact's own stage, or its simulation where its engine does not run here; None where neither ran."""
        own, simulated = self._chain[-1], self._simulated()
        held = own.candidate if self._has(own) else simulated
        if held is None:
            return None
        answers, asked = self._found.predictions[held.name], self._asked
        unique = stages.unique_rows(self._prepared.hashes)
        drawn = np.random.default_rng(asked.seed).permutation(unique)[: asked.tries]
        rows = np.sort(drawn)
        photos = part_of(self._prepared, rows, asked.work)
        source = self._lineage.source
        return Suspect(
            held, [asked.photos[row] for row in rows], photos, on_photos(answers, photos.hashes),
            scratch, asked.dataset.labels,
            (simulated, on_photos(self._found.predictions[simulated.name], photos.hashes)) if simulated else None,
            self._lineage.graph, self._lineage.trusted(self._shown(photos)),
            source.model.preprocess if source else None, asked.dataset.roles.get("calibrate", ()),
        )  # fmt: skip

    def _shown(self, photos: PreparedPhotos) -> np.ndarray:
        """A few of the photos as the checkpoint takes them, on which an export proves itself."""
        source = self._lineage.source
        if source is None:
            return np.asarray(photos.array()[:8])
        first = prepare_photos(self._asked.photos[:8], source.model.preprocess, self._asked.work)
        return np.asarray(first.array())

    def _simulated(self) -> Candidate | None:
        """The stage of the quantized graph in float, where it was answered."""
        found = [row.candidate for row in self._chain[:-1] if row.candidate.name.endswith(", in float")]
        return found[0] if found and found[0].name in self._found.predictions else None

    def _saturation(self, suspect: Suspect) -> Iterator[Hypothesis]:
        """The graph in float in place of integer kernels: here, and on each class of CPU that was answered."""
        if suspect.simulated is None or suspect.own is suspect.simulated[0]:
            return
        run, answers = suspect.own.run, suspect.simulated[1]
        here = class_here(run.backend) if run else None
        stages_on = {suspect.name: here.name if here else ""}
        names = [row.candidate.name for row in self._branches if self._has(row)]
        for stage, name in (stages_on | {name: name.removeprefix("on ") for name in names}).items():
            held = set(self._found.predictions[stage].photos)
            shared = tuple(photo for photo in answers.photos if photo in held)
            where = "here" if stage == suspect.name else f"on {name}"
            words = f"in float, not in the {_kernels(name)}int8 kernels {where}"
            if shared:
                yield Hypothesis(SATURATION, words, stage, suspect.simulated[0], answers=on_photos(answers, shared))


def _kernels(name: str) -> str:
    return "saturating " if name in CPU_CLASSES and CPU_CLASSES[name].saturates else ""


def every(suspect: Suspect) -> Iterator[Hypothesis]:
    """All hypotheses that say nothing of int8."""
    yield from feeds.channel_order(suspect)
    yield from normalization.hypotheses(suspect)
    yield from feeds.resize(suspect)
    yield from graph_resize.hypotheses(suspect)
    yield from labels.hypotheses(suspect)
    yield from activations.hypotheses(suspect)


def about(asked: Asked) -> dict[str, Any]:
    """What photos were answered, as a record of `tiffin score` has it: names of files within the dataset alone."""
    return asked.dataset.about(asked.role, asked.photos)
