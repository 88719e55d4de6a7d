"""A candidate: an artifact and how it is run. What cannot run here is one too, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..artifact import Artifact, RunConfig
from ..records import Subject
from .workers.place import NATIVE, Place


@dataclass(frozen=True)
class Candidate:
    """One row of a table.

    `artifact` is None, and `reason` says why, where nothing can run.
    """

    name: str
    artifact: Artifact | None = None
    run: RunConfig | None = None
    place: Place = NATIVE
    reason: str = ""

    def subject(self, **found: Any) -> Subject:
        """What a record says of it; `found` are the measured fields."""
        about: Mapping[str, Any] = {}
        if self.artifact is not None:
            manifest = self.artifact.manifest
            about = {
                "artifact": self.artifact.digest,
                "checkpoint": manifest.checkpoint or "",
                "precision": manifest.precision,
                "scheme": manifest.scheme,
                "format": manifest.format,
                "producer": asdict(manifest.producer),
                "size_bytes": self.artifact.size_bytes,
            }
        requested = self.run.plain() if self.run else {}
        return Subject(
            self.name, requested=requested, place=self.place.name, **{"reason": self.reason, **about, **found}
        )
