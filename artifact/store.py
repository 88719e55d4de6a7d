"""An artifact on disk: a folder with `manifest.json`, the model's files, and `claims/` beside them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..errors import BadArtifact, BadInput, command
from .files import replace_name, replaced_folder, sha256_file
from .manifest import Manifest, ModelFile, Preprocess, is_shown, parse_manifest

MANIFEST = "manifest.json"
CLAIMS = "claims"
_STAMP = ".verified.json"
_SOURCES = (".onnx", ".pt", ".pth", ".pt2", ".keras", ".safetensors")  # what `tiffin export` reads


def is_artifact(folder: str | Path) -> bool:
    """True if a manifest lies in it."""
    return (Path(folder) / MANIFEST).is_file()


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A new folder beside `target` that takes its place only when the block ends well.

    Raises:
        BadInput: the parent is not writable, or `target` exists and is no artifact of ours, or not it alone.
    """
    if target.exists():
        _require_replaceable(target)
    with replaced_folder(target, "choose another --out") as draft:
        yield draft


def _require_replaceable(target: Path) -> None:
    """Refuse a folder in which anything would be lost that `save` did not write."""
    if target.is_dir() and not any(target.iterdir()):
        return
    expected, fix = "a new folder, or an artifact to replace", "choose another --out"
    try:
        manifest = parse_manifest((target / MANIFEST).read_text(encoding="utf-8", errors="replace"), str(target))
    except (OSError, BadArtifact) as error:
        if _is_damaged(target):
            return
        raise BadInput(f"{target} exists and is no artifact", expected, fix) from error
    own = {MANIFEST, CLAIMS, _STAMP, *(file.name for file in manifest.files)}
    other = sorted(path.name for path in target.iterdir() if path.name not in own)
    if other:
        raise BadInput(f"{target} holds {other[0]!r}, which is not its artifact's", expected,
                       f"move it elsewhere, or {fix}")  # fmt: skip


def _is_damaged(folder: Path) -> bool:
    """True for an artifact of ours whose manifest cannot be read: our stamp lies in it, and no folder of another's."""
    others = (path for path in folder.iterdir() if path.is_dir() and path.name != CLAIMS) if folder.is_dir() else ()
    return (folder / _STAMP).is_file() and not any(others)


@dataclass(frozen=True)
class Artifact:
    """One model's file set and its manifest. Make one with `save`, read one with `Artifact.load`."""

    folder: Path
    manifest: Manifest

    @cached_property
    def digest(self) -> str:
        """sha256 of the manifest's canonical text: the artifact's identity."""
        return self.manifest.digest()

    @property
    def model_path(self) -> Path:
        """The file that the engine opens."""
        return self.folder / self.manifest.files[0].name

    @property
    def size_bytes(self) -> int:
        """Sum of the model's files, without manifest and claims."""
        return sum(file.size_bytes for file in self.manifest.files)

    @property
    def preprocess(self) -> Preprocess:
        """How a photo becomes its input.

        Raises:
            BadInput: it takes no photos.
        """
        if self.manifest.preprocess is None:
            raise BadInput(f"{self.folder}: has no preprocessing (task {self.manifest.task})", "one that takes photos",
                           "give what it takes by --feeds, where the command has that")  # fmt: skip
        return self.manifest.preprocess

    @classmethod
    def load(cls, folder: str | Path, verify: bool = False) -> Artifact:
        """Read an artifact; hash its files when first seen or when `verify`, else compare a stamp and sizes.

        Raises:
            BadArtifact: no folder, no manifest, one that cannot be, a file missing, unreadable, of another size or with
                another hash.
        """
        folder = Path(folder)
        path = folder / MANIFEST
        with reading(folder):
            if not path.is_file():
                raise _no_artifact(folder)
            artifact = cls(folder, parse_manifest(path.read_text(encoding="utf-8", errors="replace"), str(path)))
            for file in artifact.manifest.files:
                _check_size(folder, file)
            if verify or _read_stamp(folder) != artifact._stamp():
                artifact.verify()
        return artifact

    def verify(self) -> None:
        """Hash every file against the manifest.

        Raises:
            BadArtifact: a byte changed, or a file cannot be read.
        """
        for file in self.manifest.files:
            with reading(self.folder / file.name):
                found = sha256_file(self.folder / file.name)
            if found != file.sha256:
                raise BadArtifact(
                    f"{self.folder / file.name}: sha256 {found[:12]}…, its bytes changed",
                    f"{file.sha256[:12]}… as in {MANIFEST}",
                    "make the artifact again, or copy it again",
                )
        with contextlib.suppress(OSError):  # a read-only folder is hashed at every load
            replace_name(self.folder / _STAMP, json.dumps(self._stamp()).encode())

    def _stamp(self) -> list[object]:
        stats = [(self.folder / file.name).stat() for file in self.manifest.files]
        return [self.digest, [[s.st_size, s.st_mtime_ns, s.st_ino] for s in stats]]


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raises BadArtifact for what the system says of a file, which is `path` where it names none."""
    try:
        yield
    except OSError as error:
        raise BadArtifact(f"{error.filename or path}: cannot be read ({error.strerror})", "readable files") from error


def _no_artifact(path: Path) -> BadArtifact:
    """What is there instead."""
    export = command("export", path) if path.is_file() and path.suffix in _SOURCES else "tiffin export"
    expected, fix = "an artifact's folder", f"make one: `{export}`"
    if path.is_file() and path.suffix == ".tiffin":
        return BadArtifact(f"{path}: is a box", expected, f"unpack it: `{command('unpack', path, out='FOLDER')}`")
    if path.is_file():
        inside = is_artifact(path.parent)
        return BadArtifact(f"{path}: is a file", expected, f"name its folder: {path.parent}" if inside else fix)
    return BadArtifact(f"{path}: no {MANIFEST}" if path.is_dir() else f"{path}: no such folder", expected, fix)


def _check_size(folder: Path, file: ModelFile) -> None:
    path = folder / file.name
    check_name(folder, file.name)
    size = path.stat().st_size if path.is_file() else None
    if size != file.size_bytes:
        found = "missing" if size is None else f"{size:,} bytes"
        raise BadArtifact(f"{path}: {found}", f"{file.size_bytes:,} bytes", "make the artifact again, or copy it again")


def is_plain(name: str) -> bool:
    """True for a name that stays in its folder on every system, Windows' `C:a` and `..\\a` too, and on its line."""
    return name not in ("", ".", "..") and not set(name) & set("/\\:") and is_shown(name)


def check_name(folder: Path, name: str) -> None:
    """Raises BadArtifact if a file's name is no plain name, or one of ours."""
    if not is_plain(name) or name in (MANIFEST, CLAIMS, _STAMP):
        raise BadArtifact(f"{folder}: file name {name!r} leaves the folder or is ours", "a plain file name")


def _read_stamp(folder: Path) -> object:
    try:
        return json.loads((folder / _STAMP).read_text())
    except (OSError, ValueError):
        return None


def save(target: str | Path, manifest: Manifest, files: Mapping[str, bytes | Path]) -> Artifact:
    """Write an artifact atomically: beside, synced, renamed. `manifest.files` is filled in from `files`, in order.

    Args:
        files: name in the folder → content, or a file to copy.

    Raises:
        BadInput: the folder is not writable or holds something else, or a file's name is no plain name.
    """
    target = Path(target)
    for name in files:
        check_name(target, name)
    with atomic_folder(target) as draft:
        entries = tuple(_put(draft, name, content) for name, content in files.items())
        manifest = dataclasses.replace(manifest, files=entries)
        (draft / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return Artifact.load(target)


def _put(folder: Path, name: str, content: bytes | Path) -> ModelFile:
    path = folder / name
    if isinstance(content, Path):
        import shutil

        shutil.copyfile(content, path)
    else:
        path.write_bytes(content)
    return ModelFile(name, path.stat().st_size, sha256_file(path))
