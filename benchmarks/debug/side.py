"""One of the two artifacts, opened so that any of its tensors can be asked for, on the engine and as it is run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ...artifact import Artifact, RunConfig, TensorSpec
from ...artifact.store import save
from ...errors import BadInput
from ...runtime import Session
from ..candidate import Candidate
from ..explain.lineage import Lineage
from .ir_graph import IrGraph
from .onnx_graph import Graph
from .point import Arrays, Point
from .program import Program

BATCH = 4  # photos whose tensors are in memory at once: some 20 MB each for a mobile network
BACKENDS = ("torch", "onnxruntime", "openvino")
Feeds = Mapping[str, np.ndarray]


class Side:
    """An artifact as it is run.

    Args:
        work: folder for the models with more outputs, thrown away after.

    Raises:
        BadInput: an engine that cannot be looked into.
    """

    def __init__(self, candidate: Candidate, work: Path) -> None:
        assert candidate.artifact is not None and candidate.run is not None
        self.name, self.artifact, self.run_config = candidate.name, candidate.artifact, candidate.run
        self.work, self._count = work, itertools.count()
        if self.run_config.backend not in BACKENDS:
            raise BadInput(
                f"{self.name}: {self.run_config.backend} shows no tensor inside its engine",
                f"one of {', '.join(BACKENDS)}",
                "name the artifact as FOLDER@simulated, or its ONNX source on another engine",
            )

    @cached_property
    def graph(self) -> Graph | None:
        """The ONNX graph: its own, or the one that it was compiled from; None where there is none."""
        from ...export.onnx_source import read_onnx

        source = Lineage(self.artifact, None, self.work).graph
        return Graph(read_onnx(source.model_path)) if source is not None else None

    @property
    def form(self) -> str:
        """Format of the artifact."""
        return self.artifact.manifest.format

    @cached_property
    def _own(self) -> Graph | IrGraph | Program:
        if self.form == "pt2":
            return Program(self.artifact)
        if self.form == "openvino":
            return IrGraph(self.artifact.model_path)
        assert self.graph is not None
        return self.graph

    @cached_property
    def points(self) -> tuple[Point, ...]:
        """All that can be asked for, in the graph's order."""
        return self._own.points()

    @property
    def batch(self) -> int | None:
        """Rows that every run gives, where the graph holds their number; None where any will do."""
        shape = self.artifact.manifest.outputs[0].shape
        return shape[0] if shape else None

    @cached_property
    def precision(self) -> str:
        """The lowest that its layers are computed in."""
        own, floats = self.artifact.manifest.precision, self.run_config.execution_precision
        return floats if own == "fp32" else own

    def answers(self, points: Sequence[Point], feeds: Feeds) -> Iterator[Arrays]:
        """These tensors by tap and the outputs by name, batch by batch, float32 but where an engine gives doubles."""
        if isinstance(self._own, Program):
            for part in batches(feeds):
                yield self._own.run(points, part)
            return
        with Session(self.tapped(points), self.run_config) as session:
            for part in batches(feeds):
                found = session.run(part)
                yield {name: np.array(values, np.float32) for name, values in found.items()}

    def tapped(self, points: Sequence[Point]) -> Artifact:
        """The artifact with these tensors as outputs; itself where there are none."""
        if not points:
            return self.artifact
        manifest = self.artifact.manifest
        added = {point.tap: TensorSpec(point.tap, "float32", (self.batch, *(point.shape or ()))) for point in points}
        kept = {spec.name: spec for spec in manifest.outputs}
        manifest = replace(manifest, outputs=tuple((added | kept).values()), labels=(), run=None)
        folder = self.work / f"tapped-{next(self._count)}"
        if isinstance(self._own, Graph):
            model = self._own.tapped(points)
            return save(folder, manifest, {"model.onnx": model.SerializeToString()})
        assert isinstance(self._own, IrGraph)
        path = self.work / "draft.xml"
        self._own.tapped(points, path)
        return save(folder, manifest, {"model.xml": path, "model.bin": path.with_suffix(".bin")})


def batches(feeds: Feeds) -> Iterator[Feeds]:
    """Feeds of a few photos each."""
    count = min(len(array) for array in feeds.values())
    for first in range(0, count, BATCH):
        yield {name: np.ascontiguousarray(array[first : first + BATCH]) for name, array in feeds.items()}


def opened(name: str, artifact: Artifact, run: RunConfig, work: Path) -> Side:
    """A side of an artifact that no candidate stands for."""
    return Side(Candidate(name, artifact, run), work)
