"""A model repository for somebody else's server: what all of them share."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from ..artifact import Artifact
from ..errors import BadInput
from .beside import files_beside

VERSION = "1"  # the version folder that Triton and OpenVINO Model Server serve
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Written:
    """What was written.

    Args:
        folder: the model's own, in the repository.
        start: the command that starts the server, as its documentation has it.
        notes: what whoever starts it should know.
    """

    folder: Path
    start: str
    notes: tuple[str, ...] = ()


def model_name(artifact: Artifact, name: str | None) -> str:
    """The name that clients ask for: as given, else the artifact's folder's.

    Raises:
        BadInput: it is no plain name.
    """
    found = name or artifact.folder.resolve().name
    if not _NAME.fullmatch(found):
        raise BadInput(f"model name {found!r}", "letters, digits, '-', '_' and '.', no path", "choose one with --name")
    return found


def put_model(artifact: Artifact, folder: Path, names: dict[str, str]) -> None:
    """Copy model files under the names that the server looks for.

    Args:
        names: file of the artifact → its name there.
    """
    folder.mkdir(parents=True)
    for name, there in names.items():
        shutil.copyfile(artifact.folder / name, folder / there)


def put_beside(artifact: Artifact, folder: Path) -> None:
    """Labels, the rule of preprocessing, and its pattern (`beside`)."""
    for name, content in files_beside(artifact).items():
        (folder / name).write_bytes(content)
