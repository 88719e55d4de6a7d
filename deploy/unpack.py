"""What a box or an artifact's folder holds, and its artifacts as folders again."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..artifact import Artifact
from ..artifact.bundle import SUFFIX, Box, Variant, open_box
from ..artifact.store import CLAIMS, MANIFEST, atomic_folder
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

    Raises:
        BadInput: it cannot be written, `out` is no artifact and not empty, or a file of the artifact is gone.
    """
    with atomic_folder(out) as draft:
        for name in (MANIFEST, *(file.name for file in artifact.manifest.files)):
            shutil.copyfile(artifact.folder / name, draft / name)
        if (artifact.folder / CLAIMS).is_dir():
            (draft / CLAIMS).mkdir()
        for claim in (artifact.folder / CLAIMS).glob("[!.]*"):
            shutil.copyfile(claim, draft / CLAIMS / claim.name)
    return Artifact.load(out)
