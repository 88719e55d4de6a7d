"""A box: several variants of one model in one `.tiffin` file, a zip in which equal files are kept once.

    box.json                         what is in it, fastest first
    variants/NAME/manifest.json      each artifact's manifest
    variants/NAME/claims/…           what is certified of it
    files/SHA256                     the models' files, by content

It is unpacked once, into a folder of the cache that is named by the box's own hash.
"""

from __future__ import annotations

import json
import shutil
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from ..errors import BadArtifact, BadInput, first_line
from ..machine import cache_folder
from .files import replace_files, replaced_folder, sha256_of
from .manifest import ModelFile, RunConfig, parse_manifest, require_shown
from .store import CLAIMS, MANIFEST, Artifact, check_name, is_plain, reading
from .strict import parse_json, read_as_type

SUFFIX = ".tiffin"
BOX_VERSION = 1
_DAMAGED = (  # what zipfile raises of damaged content, and what reading its index does
    *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError),
    *(KeyError, TypeError, ValueError),
)
_BOX = "box.json"
_KEPT = ".files"  # while it is unpacked
_MOST_BYTES = 256_000_000  # of all manifests and claims; a claim's predictions of 100,000 photos take 5 MB
_MOST_READ = 16_000_000  # of a manifest or the index
_ABOUT: dict[str, Any] = {"order": str, "cpu": str, "board": str, "times_of_the_first": Mapping[str, float]}
_WHEN = (1980, 1, 1, 0, 0, 0)  # a zip's earliest: equal contents give equal bytes


@dataclass(frozen=True)
class Variant:
    """One artifact of a box and how it is run."""

    artifact: Artifact
    run: RunConfig

    @property
    def name(self) -> str:
        """Such as "int8@openvino"."""
        return f"{self.folder_name}@{self.run.backend}"

    @property
    def folder_name(self) -> str:
        """Such as "int8", also where the folder was named by a dot."""
        return self.artifact.folder.resolve().name


@dataclass(frozen=True)
class _Listed:
    """A variant as box.json lists it."""

    name: str
    digest: str
    run: RunConfig


@dataclass(frozen=True)
class _Index:
    """What box.json holds."""

    version: int
    variants: tuple[_Listed, ...]
    about: Mapping[str, Any]


@dataclass(frozen=True)
class Box:
    """An unpacked box.

    Args:
        path: the file that it came from.
        variants: fastest first, as whoever packed it measured or said.
        about: how the order was found: {"order": "as given"}, or the record's machine and the
            times by variant, as parts of the first's.
    """

    path: Path
    variants: tuple[Variant, ...]
    about: Mapping[str, Any] = field(default_factory=dict)


def pack(target: Path, variants: Sequence[Variant], about: Mapping[str, Any]) -> Path:
    """Write a box, atomically.

    Raises:
        BadInput: no variants, one twice, two artifacts of one name, other labels or inputs, or it cannot be written.
    """
    _check_alike(variants)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        replace_files({target: lambda file: _write(file, variants, about)})
    except OSError as error:
        raise BadInput(f"cannot write {target} ({error.strerror})", "a file in a writable folder with room",
                       "choose another --out") from error  # fmt: skip
    return target


def _check_alike(variants: Sequence[Variant]) -> None:
    names = [variant.name for variant in variants]
    different = {variant.artifact.digest for variant in variants}
    if not variants or len(set(names)) < len(names) or len(_artifacts(variants)) < len(different):
        raise BadInput(
            f"a box of {', '.join(names) or 'nothing'}", "artifacts in folders of different names, each once an engine"
        )
    if odd := [variant.folder_name for variant in variants if not _is_name(variant.folder_name)]:
        raise BadInput(f"a box of {odd[0]!r}", "a folder's name that holds on every system: no colon, no backslash")
    first = variants[0].artifact.manifest
    for variant in variants[1:]:
        manifest = variant.artifact.manifest
        for what in ("task", "labels", "inputs", "outputs", "preprocess"):
            if getattr(manifest, what) != getattr(first, what):
                raise BadInput(f"{names[0]} and {variant.name} have different {what}", "variants of one model")


def _artifacts(variants: Sequence[Variant]) -> dict[str, Artifact]:
    """By the name of the folder: one artifact may be run on several engines."""
    return {variant.folder_name: variant.artifact for variant in variants}


def _write(file: IO[bytes], variants: Sequence[Variant], about: Mapping[str, Any]) -> None:
    listed = [{"name": v.folder_name, "digest": v.artifact.digest, "run": _portable(v.run).plain()} for v in variants]
    index = {"version": BOX_VERSION, "variants": listed, "about": about}
    with zipfile.ZipFile(file, "w") as box:
        box.writestr(_entry(_BOX), json.dumps(index, indent=1))
        for name, artifact in _artifacts(variants).items():
            box.writestr(_entry(f"variants/{name}/{MANIFEST}"), artifact.manifest.to_json())
            for claim in sorted((artifact.folder / CLAIMS).glob("[!.]*")):
                _put(box, f"variants/{name}/{CLAIMS}/{claim.name}", claim)
        for sha256, path in sorted(_files(variants).items()):
            _put(box, f"files/{sha256}", path)


def _portable(run: RunConfig) -> RunConfig:
    """Without the cache: a folder of the machine that packed it, which no box makes on another."""
    return replace(run, cache=None)


def _files(variants: Sequence[Variant]) -> dict[str, Path]:
    """Every different content once: sha256 → a file that has it."""
    return {file.sha256: v.artifact.folder / file.name for v in variants for file in v.artifact.manifest.files}


def _entry(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _WHEN)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    return info


def _put(box: zipfile.ZipFile, name: str, path: Path) -> None:
    with reading(path):
        source = path.open("rb")
    info = _entry(name)
    info.file_size = path.stat().st_size  # by which zipfile knows that one needs 64 bits
    with source, box.open(info, "w") as target:
        shutil.copyfileobj(source, target)


def open_box(path: Path, cache: Path | None = None) -> Box:
    """Unpack a box, or find it unpacked.

    Args:
        cache: folder for unpacked boxes; default: `boxes` in tiffin's cache.

    Raises:
        BadArtifact: no box, a newer one, or its content is not what it says.
        BadInput: it cannot be unpacked for want of room or permission.
    """
    if not path.is_file():
        raise BadArtifact(f"{path}: no such file", f"a {SUFFIX} file", "make one: `tiffin pack`")
    with reading(path):
        file = path.open("rb")
    with file:  # once: another may take its place meanwhile
        with reading(path):
            folder = (cache or cache_folder() / "boxes") / sha256_of(file)[:32]
        if folder.exists():
            try:
                return _read(path, folder)
            except (OSError, ValueError, BadArtifact):  # some of it was changed or deleted
                shutil.rmtree(folder, ignore_errors=True)
        with replaced_folder(folder, "set $TIFFIN_CACHE to a folder with room", keep=True) as draft:
            _unpack(path, file, draft)
    return _read(path, folder)


def _unpack(path: Path, file: IO[bytes], draft: Path) -> None:
    try:
        with zipfile.ZipFile(file) as box:
            _require_bounded(box)
            text = _content(box, _BOX)
            for name in dict.fromkeys(listed.name for listed in _index(path, text).variants):
                _unpack_artifact(box, name, draft)
            shutil.rmtree(draft / _KEPT, ignore_errors=True)
            (draft / _BOX).write_bytes(text)
    except _DAMAGED as error:
        raise _no_box(path, error) from error


def _no_box(path: Path, error: Exception) -> BadArtifact:
    return BadArtifact(f"{path}: no box ({first_line(error)})", f"a {SUFFIX} file written by `tiffin pack`")


def _index(path: Path, text: bytes) -> _Index:
    """What box.json holds, each field checked.

    Raises:
        BadArtifact: it is no index, or a newer one.
    """
    try:
        raw = parse_json(text)
        if raw["version"] > BOX_VERSION:
            raise BadArtifact(f"{path}: box version {raw['version']}", f"at most {BOX_VERSION}", "upgrade tiffin")
        index: _Index = read_as_type(raw, _Index, "index")
        if not index.variants:
            raise BadInput("no variants", "at least one")
        told = {name: read_as_type(index.about.get(name), kind | None, name) for name, kind in _ABOUT.items()}
        words = [*told.values(), *(word for listed in index.variants for word in vars(listed.run).values())]
        require_shown((word for word in words if isinstance(word, str)), "index")
    except (KeyError, TypeError, ValueError, RecursionError, BadInput) as error:
        if isinstance(error, BadArtifact):
            raise
        raise _no_box(path, error) from error
    for listed in index.variants:
        if not _is_name(listed.name):
            raise BadArtifact(f"{path}: variant name {listed.name!r} leaves the box, or its line", "a plain name")
    return index


def _is_name(name: str) -> bool:
    return is_plain(name) and name not in (_BOX, _KEPT)


def _unpack_artifact(box: zipfile.ZipFile, name: str, draft: Path) -> None:
    folder = draft / name
    (folder / CLAIMS).mkdir(parents=True)
    text = _content(box, f"variants/{name}/{MANIFEST}")
    (folder / MANIFEST).write_bytes(text)
    for file in parse_manifest(text.decode(), name).files:
        _unpack_file(box, file, folder)
    inside = f"variants/{name}/{CLAIMS}/"
    for path in box.namelist():
        claim = path.removeprefix(inside)
        if path.startswith(inside) and is_plain(claim):
            _copy(box, path, _MOST_BYTES, folder / CLAIMS / claim)


def _require_bounded(box: zipfile.ZipFile) -> None:
    """A few bytes of a zip can unpack to any size: what it says of all but the models' files is bounded first."""
    size = sum(entry.file_size for entry in box.infolist() if not entry.filename.startswith("files/"))
    if size > _MOST_BYTES:
        raise BadArtifact(f"{box.filename}: claims of {size:,} bytes", f"at most {_MOST_BYTES:,}")


def _open(box: zipfile.ZipFile, name: str, most: int) -> IO[bytes]:
    entry = box.getinfo(name)
    if entry.file_size > most or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadArtifact(f"{box.filename}: {name} of {entry.file_size:,} bytes, method {entry.compress_type}",
                          f"at most {most:,} bytes, stored or deflated")  # fmt: skip
    return box.open(entry)


def _content(box: zipfile.ZipFile, name: str) -> bytes:
    with _open(box, name, _MOST_READ) as file:
        return file.read()


def _copy(box: zipfile.ZipFile, name: str, most: int, target: Path) -> None:
    with _open(box, name, most) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file)


def _unpack_file(box: zipfile.ZipFile, file: ModelFile, folder: Path) -> None:
    """Equal files of two artifacts are one on the disk, where the file system has links."""
    check_name(folder, file.name)
    kept = folder.parent / _KEPT / file.sha256
    if not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        if file.size_bytes > (free := shutil.disk_usage(kept.parent).free):  # a few bytes can unpack to any size
            raise BadInput(f"{box.filename}: {file.name} unpacks to {file.size_bytes:,} bytes",
                           f"at most {free:,}, which are free", "set $TIFFIN_CACHE to a folder with room")  # fmt: skip
        _copy(box, f"files/{file.sha256}", file.size_bytes, kept)
    try:
        (folder / file.name).hardlink_to(kept)
    except OSError:
        shutil.copyfile(kept, folder / file.name)


def _read(path: Path, folder: Path) -> Box:
    """The unpacked variants; their files are hashed when first seen, as any artifact's are.

    Raises:
        OSError: it is not unpacked.
        BadArtifact: a variant is not the one that the box lists, or damaged.
    """
    index = _index(path, (folder / _BOX).read_bytes())
    variants = []
    for listed in index.variants:
        artifact = Artifact.load(folder / listed.name)
        if artifact.digest != listed.digest:
            found, told = artifact.digest[:12], listed.digest[:12]
            raise BadArtifact(f"{path}: {listed.name} is artifact {found}…", f"{told}…, as the box lists it")
        variants.append(Variant(artifact, _portable(listed.run)))
    return Box(path, tuple(variants), index.about)
