"""What artifacts are run on side by side: photos, each prepared as its own manifest says, or arrays of a file."""

from __future__ import annotations

from collections.abc import Sequence
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadInput

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    import numpy as np

    from ..artifact import Preprocess
    from ..benchmarks.candidate import Candidate

    Fed = list[dict[str, np.ndarray]]


def from_photos(
    rows: Sequence[Candidate], word: str, data: Path | None, role: str | None, seed: int
) -> tuple[Fed, dict[str, Any]]:
    """Inputs of each row by name, and what they are of.

    Args:
        word: a number of photos of the role, or a folder of photos.
        role: None for select, or calibrate where the dataset has no such photos.

    Raises:
        BadDataset, BadInput: no photos, or an artifact that takes none.
    """
    from ..runtime.preprocess import prepare_batch

    hosts = [_takes_photos(row) for row in rows]
    if word.isdecimal() and int(word) > 0:
        from ..data import sample
        from .build import dataset_of

        dataset = dataset_of(data)
        role = role or ("select" if dataset.roles.get("select") else "calibrate")
        drawn = sample(dataset.role(role), int(word), seed)
        paths, about = [photo.path for photo in drawn], dataset.about(role, drawn)
    else:
        from ..runtime.sources.files import found

        if not (Path(word).exists() or has_magic(word)):
            raise BadInput(f"--photos {word}", "a number from 1 on, or a folder of photos")
        paths = [Path(path) for path in found(word)]
        about = {"name": Path(word).name, "kind": "photos", "count": len(paths), "files": [p.name for p in paths]}
    prepared: dict[str, np.ndarray] = {}  # once, where all prepare them alike
    for _, host in hosts:
        if host.digest() not in prepared:
            prepared[host.digest()] = prepare_batch(paths, host)
    return [{name: prepared[host.digest()]} for name, host in hosts], about


def _takes_photos(row: Candidate) -> tuple[str, Preprocess]:
    """Name of its input, and what that expects."""
    assert row.artifact is not None
    manifest = row.artifact.manifest
    if manifest.preprocess is None or len(manifest.inputs) != 1:
        raise BadInput(f"{row.artifact.folder}: takes no photos", "an .npz of its inputs", "name one with --feeds")
    return manifest.inputs[0].name, manifest.preprocess


def from_file(rows: Sequence[Candidate], path: Path) -> tuple[Fed, dict[str, Any]]:
    """Arrays of an .npz by the names that each artifact gives its inputs, and what they are of.

    Raises:
        BadInput: the file cannot be read, or lacks an input.
    """
    from ..quantize.named_feeds import read_arrays

    held = read_arrays(path)
    fed = []
    for row in rows:
        assert row.artifact is not None
        names = [spec.name for spec in row.artifact.manifest.inputs]
        if missing := [name for name in names if name not in held]:
            raise BadInput(f"{path} lacks input {missing[0]!r}", f"arrays {', '.join(names)}")
        fed.append({name: held[name] for name in names})
    return fed, {"name": path.name, "kind": "feeds", "count": len(next(iter(held.values())))}
