"""Artifacts made in order, each skipped where its source, its options and the builders did not change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..artifact import Artifact
from ..artifact.claims import read_claim, write_claim
from ..errors import TiffinError
from ..machine import versions

Say = Callable[[str], None]
Make = Callable[[Path], Artifact]
_BUILDERS = ("tiffin", "torch", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf", "tensorrt-rtx-cu13-bindings")


class Stages:
    """What could be built in `folder` so far, and why the rest could not.

    Args:
        artifacts, reasons: by stage name; each stage is in one of them.
    """

    def __init__(self, folder: Path, say: Say) -> None:
        self._folder, self._say = folder, say
        self.artifacts: dict[str, Artifact] = {}
        self.reasons: dict[str, str] = {}

    def first(self, name: str, parent: str, options: dict[str, Any], make: Make) -> Artifact | None:
        """Make one artifact of something that is none, known by the digest `parent`; None where it cannot be built."""
        try:
            return self.needed(name, parent, options, make)
        except TiffinError as error:
            self.reasons[name] = error.what
            self._say(f"  cannot be built: {error.what}")
            return None

    def needed(self, name: str, parent: str, options: dict[str, Any], make: Make) -> Artifact:
        """As `first`, for what all else is made of: where it cannot be built, that is the error."""
        key = hashlib.sha256(json.dumps([parent, options, versions(_BUILDERS)], sort_keys=True).encode()).hexdigest()
        out = self._folder / name
        found = _reusable(out, key)
        self._say(f"{name}: unchanged, reused" if found else f"{name}: building")
        made = found or make(out)
        if not found:
            write_claim(made, "stage", {"key": key})
        self.artifacts[name] = made
        return made

    def then(self, name: str, source: str, options: dict[str, Any], make: Make) -> Artifact | None:
        """Make one artifact of another stage's."""
        if source not in self.artifacts:
            self.reasons[name] = f"its source {source} could not be built: {self.reasons.get(source, '')}"
            return None
        return self.first(name, self.artifacts[source].digest, options, make)


def _reusable(out: Path, key: str) -> Artifact | None:
    """The artifact in `out` if it was made with this key and none of its bytes changed."""
    try:
        artifact = Artifact.load(out)
        claim = read_claim(artifact, "stage")
    except TiffinError:
        return None
    return artifact if claim and claim.get("key") == key else None
