"""What was measured about an artifact, beside it and keyed by its digest: measuring does not change identity."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..errors import BadArtifact, BadInput
from .files import replace_files
from .store import CLAIMS, Artifact, reading
from .strict import parse_json


def write_claim(artifact: Artifact, kind: str, body: Mapping[str, Any]) -> None:
    """Write or replace one claim, atomically.

    Raises:
        BadInput: the artifact's folder is not writable.
    """
    folder = artifact.folder / CLAIMS
    try:
        folder.mkdir(exist_ok=True)
        replace_files({folder / f"{kind}.json": claim_text(artifact, kind, body).encode()})
    except OSError as error:
        raise BadInput(f"cannot write {folder} ({error.strerror})", "a writable artifact") from error


def claim_text(artifact: Artifact, kind: str, body: Mapping[str, Any]) -> str:
    """A claim as it is written: JSON that names the artifact's digest."""
    return json.dumps({**body, "artifact": artifact.digest, "kind": kind}, indent=1, sort_keys=True)


def read_claim(artifact: Artifact, kind: str) -> dict[str, Any] | None:
    """One claim's body, or None if nothing was claimed.

    Raises:
        BadArtifact: the claim is about another digest, or cannot be read.
    """
    path = artifact.folder / CLAIMS / f"{kind}.json"
    with reading(path):
        if not path.is_file():
            return None
        text = path.read_text(errors="replace")
    try:
        body = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise BadArtifact(f"{path}: not JSON ({error})", "a claim written by tiffin", f"delete {path}") from error
    if not isinstance(body, dict):
        raise BadArtifact(f"{path}: no claim", "a claim written by tiffin", f"delete {path}")
    if body.get("artifact") != artifact.digest:
        raise BadArtifact(f"{path}: about artifact {str(body.get('artifact'))[:12]}…", f"{artifact.digest[:12]}…")
    return body
