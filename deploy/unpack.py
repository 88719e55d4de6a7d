"""What a box or an artifact's folder holds, and its artifacts as folders again."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..artifact import Artifact
from ..artifact.bundle import SUFFIX, Box, Variant, open_box
from ..artifact.store import CLAIMS, MANIFEST, atomic_folder
from ..errors import BadArtifact
from ..runtime import default_run


def opened(path: Path) -> Box:
    """A box; an artifact's folder is one of a single variant, run as by default.

    Raises:
        BadArtifact: neither is there, or it is damaged.
    """
    if path.suffix == SUFFIX or path.is_file():
        return open_box(path)
    artifact = Artifact.load(path)
    return Box(path, (Variant(artifact, default_run(artifact)),))


def extract(artifact: Artifact, out: Path) -> Artifact:
    """A copy of an artifact's folder: manifest, model files and claims, whole or not at all.

    Where `out` is this artifact already, what was certified of it there is kept.

    Raises:
        BadInput: it cannot be written, `out` is no artifact and not empty, or a file of the artifact is gone.
    """
    with atomic_folder(out) as draft:
        for name in (MANIFEST, *(file.name for file in artifact.manifest.files)):
            shutil.copyfile(artifact.folder / name, draft / name)
        for folder in (artifact.folder, out) if _is_same(artifact, out) else (artifact.folder,):
            for claim in (folder / CLAIMS).glob("[!.]*"):
                (draft / CLAIMS).mkdir(exist_ok=True)
                shutil.copyfile(claim, draft / CLAIMS / claim.name)
    return Artifact.load(out)


def _is_same(artifact: Artifact, out: Path) -> bool:
    try:
        return Artifact.load(out).digest == artifact.digest
    except BadArtifact:
        return False
