"""What every peer is given and must leave behind. Runs in the peer's own environment: standard library and numpy only.

    python PEER.py JOB OUT

JOB holds `model.onnx`, `calibrate.npy`, `validate.npy` (prepared photos, uint8 `(N, H, W, 3)`), `validate-labels.npy`
and `job.json`; OUT gets `model.onnx` and `facts.json`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class Job:
    """One peer's task.

    Args:
        model: the fp32 ONNX file, as `tiffin export` wrote it: its first nodes normalize the photo.
        name: of its input.
        photos: to calibrate on.
        validation, labels: photos that are in no other role, and their classes, for a peer that controls accuracy.
        out: folder for what it makes.
        taken: calibration photos handed out so far; some peers walk the set more than once.
    """

    model: Path
    name: str
    photos: np.ndarray
    validation: np.ndarray
    labels: np.ndarray
    out: Path
    taken: int = field(default=0)

    @classmethod
    def read(cls, folder: Path, out: Path) -> Job:
        """What `compare.py` laid down."""
        photos, validation, labels = (
            np.load(folder / f"{name}.npy") for name in ("calibrate", "validate", "validate-labels")
        )
        name = json.loads((folder / "job.json").read_text())["input"]
        return cls(folder / "model.onnx", name, photos, validation, labels, out)

    @property
    def result(self) -> Path:
        """Where the int8 model belongs."""
        return self.out / "model.onnx"

    def feeds(self) -> Iterator[dict[str, np.ndarray]]:
        """One photo a feed."""
        for photo in self.photos:
            self.taken += 1
            yield {self.name: photo[None]}


def run(make: Callable[[Job], Mapping[str, Any]], packages: tuple[str, ...]) -> None:
    """Make the model; tell options as applied, photos taken, and versions of `packages`.

    Args:
        make: writes `job.result` and returns its options.
    """
    job = Job.read(Path(sys.argv[1]), Path(sys.argv[2]))
    options = make(job)
    versions = {name: metadata.version(name) for name in packages}
    facts = {"options": {**options, "photos_taken": job.taken}, "versions": versions}
    (job.out / "facts.json").write_text(json.dumps(facts, indent=1))
