"""One hypothesis about a cause: what is to be answered once more, otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...artifact import Artifact, Preprocess, Producer
from ...artifact.store import save
from ...data import Photo
from ...data.array_file import new_array
from ...data.prepared import PreparedPhotos
from ...records import Predictions
from ...records.loss_budget import HYPOTHESIS
from ..candidate import Candidate
from ..workers.place import Place

if TYPE_CHECKING:
    import onnx

Feed = Callable[[], np.ndarray]


@dataclass(frozen=True)
class Hypothesis:
    """What is tried, or the reason why it is not.

    Args:
        kind: such as "channel order"; hypotheses of one kind exclude each other.
        words: what is done, such as "photos fed as BGR"; unique, they name it in the record.
        against: name of the stage that it would explain.
        candidate: what answers; None where `answers` are had without asking anybody.
        feed: gives what it is fed, uint8 `(N, H, W, 3)`; None for the suspect's own photos.
        answers: had already.
        reason: why it cannot be tried.
    """

    kind: str
    words: str
    against: str
    candidate: Candidate | None = None
    feed: Feed | None = None
    answers: Predictions | None = None
    reason: str = ""

    def named(self) -> Candidate:
        """As the record has it: under its own name, in a place that says what it is."""
        held = self.candidate or Candidate(self.words)
        return replace(held, name=self.words, place=Place(f"{HYPOTHESIS}{self.words}"), reason=self.reason)


@dataclass(frozen=True)
class Suspect:
    """The artifact as it ran, and what hypotheses about it are made of.

    Args:
        own: the artifact's stage; where its engine does not run here, its simulation.
        files, photos: the subset that hypotheses are tried on: the photos as files, and as the artifact takes them.
        answers: of the stage to these.
        simulated: its quantized graph in float, with its answers; None where it has none.
        graph: the artifact as an ONNX model.
        trusted: the fp32 ONNX model above it.
        wanted: how its checkpoint's photos are prepared; None where no checkpoint is found.
        calibration: photos that may be learned from, none of which is scored.
        work: folder for what is written on the way, and thrown away after.
        labels: of the dataset.
    """

    own: Candidate
    files: Sequence[Photo]
    photos: PreparedPhotos
    answers: Predictions
    work: Path
    labels: tuple[str, ...]
    simulated: tuple[Candidate, Predictions] | None = None
    graph: Artifact | None = None
    trusted: Artifact | None = None
    wanted: Preprocess | None = None
    calibration: Sequence[Photo] = ()

    @property
    def name(self) -> str:
        """Of the stage."""
        return self.own.name

    @cached_property
    def model(self) -> onnx.ModelProto | None:
        """Its graph, read once; None without one, or without the package."""
        return read(self.graph)

    @cached_property
    def parent(self) -> onnx.ModelProto | None:
        """The trusted graph, read once."""
        return read(self.trusted)

    def absent(self, kind: str, words: str, reason: str) -> Hypothesis:
        """One that cannot be tried."""
        return Hypothesis(kind, words, self.name, reason=reason)

    def repaired(self, model: onnx.ModelProto, kind: str, words: str, on: Candidate | None = None) -> Hypothesis:
        """Its graph, changed, run as the artifact is, or as `on`."""
        assert self.graph is not None
        held = on or self.own
        digits = "".join(letter if letter.isalnum() else "-" for letter in words)
        about = Producer("explain", {}, {"hypothesis": words})
        manifest = replace(self.graph.manifest, producer=about, parent=self.graph.digest, run=None)
        folder = self.work / f"{self.graph.digest[:12]}-{digits}"
        made = save(folder, manifest, {"model.onnx": model.SerializeToString(deterministic=True)})
        return Hypothesis(kind, words, held.name, replace(held, artifact=made))


def read(artifact: Artifact | None) -> onnx.ModelProto | None:
    """An ONNX model, or None."""
    from importlib.util import find_spec

    if artifact is None or find_spec("onnx") is None:
        return None
    from ...export.onnx_source import read_onnx

    return read_onnx(artifact.model_path)


def written(path: Path, feeds: Sequence[Feed], like: PreparedPhotos) -> PreparedPhotos:
    """The photos fed in several ways, one way after the other, in one array file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, shape = len(like), like.array().shape[1:]
    with new_array(path, (count * len(feeds), *shape), "photos fed in several ways") as rows:
        for at, feed in enumerate(feeds):
            rows[at * count : (at + 1) * count] = feed()
    return PreparedPhotos(path, like.hashes * len(feeds), np.tile(like.truth, len(feeds)), like.kind)
