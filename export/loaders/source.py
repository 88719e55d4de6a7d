"""A source that was opened: a classifier with its labels and preprocessing, and what there is to say of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import onnx

from ...artifact import Preprocess
from ...errors import BadInput
from ...train import Checkpoint
from .told import Told

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class OnnxClassifier:
    """A classifier that came as a graph: no torch module, and so no `.pt2` and no training.

    Args:
        model: uint8 photos `(N, H, W, 3)` → float32 logits, with tiffin's own beginning.
        original: the same photos → what the file as it was answers, on an engine that changes nothing.
        probabilities: those answers are softmaxed; the graph's are not.
        batch: None where N is free, else the only N that the graph takes.
        sha256: of the file.
    """

    model: onnx.ModelProto
    original: Callable[[np.ndarray], np.ndarray]
    probabilities: bool
    batch: int | None
    architecture: str
    labels: tuple[str, ...]
    preprocess: Preprocess
    sha256: str


@dataclass(frozen=True)
class Source:
    """What a source string came to.

    Args:
        kind: the loader's word.
        notes: what was assumed, changed or lost, a sentence each.
        answers: bytes of its answer to a fixed picture: code that changed beside the same weights shows here.
        transform: its library's own preprocessing of one PIL image, by which the host part is checked; None where it
            has none, or where more than another filter was told.
    """

    text: str
    kind: str
    model: Checkpoint | OnnxClassifier
    notes: tuple[str, ...] = ()
    answers: bytes = b""
    transform: Callable[[Image.Image], Any] | None = None

    @property
    def key(self) -> str:
        """sha256 of all that an export of it depends on."""
        model = self.model
        parts = [model.sha256, model.architecture, list(model.labels), model.preprocess.plain()]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode() + self.answers).hexdigest()

    def module(self, otherwise: str = "see docs/sources.md") -> Checkpoint:
        """The classifier with torch code.

        Args:
            otherwise: what to do for one without.

        Raises:
            BadInput: it came as a graph.
        """
        if isinstance(self.model, OnnxClassifier):
            raise BadInput(f"{self.text}: {self.kind} has no torch module", "a source with torch code", otherwise)
        return self.model

    def lines(self) -> list[str]:
        """What a person checks before it is used."""
        host, labels = self.model.preprocess, self.model.labels
        shown = ", ".join(labels[:3]) + (", …" if len(labels) > 3 else "")
        mean, std = (", ".join(f"{value / 255:.4g}" for value in values) for values in (host.mean, host.std))
        way = "squeezed to" if host.fit == "squeeze" else "shorter side covers"
        rounded = f", rounded as {host.rounding} does" if host.rounding != "nearest" else ""
        return [
            f"source {self.text} ({self.kind}), architecture {self.model.architecture}",
            f"labels {len(labels)}: {shown}",
            f"preprocess: {way} {host.resized[0]}×{host.resized[1]} (height × width, {host.interpolation}), "
            f"centre {host.height}×{host.width}" + rounded,
            f"  then mean {mean}, std {std} of red, green, blue from 0 to 1",
            *(f"note: {note}" for note in self.notes),
        ]


class Loader(Protocol):
    """One kind of source, one file of this folder."""

    KIND: str

    def claims(self, text: str) -> bool:
        """True for strings of its kind; looks at the disk, opens nothing large."""
        ...

    def load(self, text: str, told: Told) -> Source:
        """Raises BadInput with what is wrong and what to do."""
        ...
