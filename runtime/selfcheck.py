"""Does this machine make of a photo what every other does, and do its engines agree? Needs no torch, no onnx, no GPU.

`golden.json` beside this file holds what is expected; `benchmarks/studies/golden.py` writes it.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..artifact import Artifact, RunConfig
from ..artifact.manifest import Preprocess
from ..errors import TiffinError
from . import backends, jpeg
from .classifier import Classifier, not_finite
from .decode import decode, to_rgb
from .frames import Frame
from .preprocess import golden_hashes, prepare_batch
from .session import Session

GOLDEN = Path(__file__).with_name("golden.json")
DEFAULT = Preprocess(224, 224, crop_fraction=0.875)
AGREEMENT = 0.95
"""Of the photos, by top-1, between two engines with one artifact: rounding alone moves a few that are near ties."""


@dataclass(frozen=True)
class Check:
    """One thing that was asked of this machine.

    Args:
        outcome: "passed", "failed", or "not run".
        words: the figure, or why not.
    """

    name: str
    outcome: str
    words: str


def frames() -> dict[str, Frame]:
    """One frame of each layout that is computed, made by integer arithmetic alone: every level of each channel."""
    y, x = np.mgrid[0:384, 0:256]
    nv12 = (x * 37 + y * 91 + (x * y) % 251) % 256
    yuyv = np.stack([(x * 5 + y * 3) % 256, (x * 11 + y * 7 + (x * y) % 241) % 256], -1)
    return {"nv12": Frame(nv12.astype(np.uint8), "nv12"), "yuyv": Frame(yuyv.astype(np.uint8), "yuyv")}


def pixels_hash(pixels: np.ndarray) -> str:
    """sha256 of uint8 RGB `(H, W, 3)`."""
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


@functools.lru_cache(maxsize=1)
def golden() -> Mapping[str, Any]:
    """What `golden.json` holds: "preprocess", "frames", "files" (their bytes too) and "photos" (by name)."""
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


def photo_checks(folder: Path) -> list[Check]:
    """Decoding and raw frames.

    Args:
        folder: of the pictures that ship with the package.
    """
    contents = {name: base64.b64decode(entry["content"]) for name, entry in golden()["files"].items()}
    wanted = {name: entry["decoded"] for name, entry in golden()["files"].items()}
    for name, digest in golden()["photos"].items():
        contents[name], wanted[name] = (folder / name).read_bytes(), digest
    found = [_decoding("decoding by Pillow", contents, wanted, _by_pillow)]
    if jpeg.decoder() is None:
        found.append(Check("decoding by simplejpeg", "not run", "not installed, or Pillow before 11.2.1"))
    else:
        found.append(_decoding("decoding by simplejpeg", contents, wanted, lambda content: np.asarray(decode(content))))
    hashes = {name: pixels_hash(frame.rgb()) for name, frame in frames().items()}
    return [*found, _compared("raw frames", hashes, golden()["frames"])]


def preprocess_check(preprocess: Preprocess, of: str) -> Check:
    """Golden hashes that travel in an artifact, or the shipped ones of `DEFAULT`."""
    if not preprocess.golden:
        return Check(f"preprocessing of {of}", "not run", "the artifact carries no golden hashes")
    return _compared(f"preprocessing of {of}", golden_hashes(preprocess), preprocess.golden)


def default_check() -> Check:
    """The host part of `DEFAULT` against its shipped hashes."""
    return _compared("preprocessing", golden_hashes(DEFAULT), golden()["preprocess"])


def _by_pillow(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(to_rgb(image))


def _decoding(
    name: str, contents: Mapping[str, bytes], wanted: Mapping[str, str], way: Callable[[bytes], np.ndarray]
) -> Check:
    found = {}
    for file, content in contents.items():
        try:
            found[file] = pixels_hash(way(content))
        except Exception as error:  # a Pillow without that format: told as what it is
            found[file] = f"{type(error).__name__}: {error}"
    return _compared(name, found, wanted)


def _compared(name: str, found: Mapping[str, str], wanted: Mapping[str, str]) -> Check:
    other = [key for key in wanted if found.get(key) != wanted[key]]
    if other:
        return Check(name, "failed", f"other bytes than on other machines: {', '.join(other)}")
    return Check(name, "passed", f"{len(wanted)} golden hashes")


def engine_checks(artifact: Artifact, photos: Sequence[Path]) -> Iterator[Check]:
    """Each engine of this machine that takes the artifact: does it answer, and as the first one does?"""
    first: tuple[str, np.ndarray] | None = None
    for name in (name for name in backends.names() if name != "null"):
        probe = backends.probe(name)
        if probe.runs and artifact.manifest.format not in probe.formats:
            continue
        if not probe.runs:
            yield Check(name, "not run", probe.reason)
            continue
        try:
            logits = _logits(artifact, RunConfig(name, device=(probe.devices or ("cpu",))[0]), photos)
        except TiffinError as error:
            yield Check(name, "failed", error.what)
            continue
        yield _answered(name, logits, first)
        first = first or (name, logits)


def _logits(artifact: Artifact, run: RunConfig, photos: Sequence[Path]) -> np.ndarray:
    with Session(artifact, run) as session:
        classifier = Classifier(session)
        prepared = prepare_batch(photos, classifier.preprocess)
        return np.concatenate([classifier(prepared[index : index + 1]) for index in range(len(prepared))])


def _answered(name: str, logits: np.ndarray, first: tuple[str, np.ndarray] | None) -> Check:
    if error := not_finite({"logits": logits}):
        return Check(name, "failed", error.what)
    if first is None:
        return Check(name, "passed", f"answered {len(logits)} pictures")
    same = float(np.mean(logits.argmax(1) == first[1].argmax(1)))
    words = f"top-1 as {first[0]} on {same:.1%} of {len(logits)} pictures, asked: {AGREEMENT:.0%}"
    return Check(name, "passed" if same >= AGREEMENT else "failed", words)
