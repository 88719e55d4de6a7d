"""A box: several variants of one model in one `.tiffin` file, a zip in which equal files are kept once.

    box.json                         what is in it, fastest first
    variants/NAME/manifest.json      each artifact's manifest
    variants/NAME/claims/…           what is certified of it
    files/SHA256                     the models' files, by content

It is unpacked once, into a folder of the cache that is named by the box's own hash.
"""

from __future__ import annotations

import io
import json
import shutil
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import BadArtifact, BadInput
from ..machine import cache_folder
from .files import replace_files, replaced_folder, sha256_file
from .manifest import ModelFile, RunConfig, parse_manifest
from .store import CLAIMS, MANIFEST, Artifact, check_name
from .strict import read_as_type

SUFFIX = ".tiffin"
BOX_VERSION = 1
_DAMAGED = (  # what zipfile raises of damaged content, and what reading its index does
    *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError),
    *(KeyError, TypeError, ValueError),
)
_BOX = "box.json"
_KEPT = ".files"  # while it is unpacked
_MOST_BYTES = 64_000_000  # of a manifest or a claim; predictions of 100,000 photos take 5 MB
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
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as box:
        _write(box, variants, about)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        replace_files({target: content.getvalue()})
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
    first = variants[0].artifact.manifest
    for variant in variants[1:]:
        manifest = variant.artifact.manifest
        for what in ("task", "labels", "inputs", "outputs", "preprocess"):
            if getattr(manifest, what) != getattr(first, what):
                raise BadInput(f"{names[0]} and {variant.name} have different {what}", "variants of one model")


def _artifacts(variants: Sequence[Variant]) -> dict[str, Artifact]:
    """By the name of the folder: one artifact may be run on several engines."""
    return {variant.folder_name: variant.artifact for variant in variants}


def _write(box: zipfile.ZipFile, variants: Sequence[Variant], about: Mapping[str, Any]) -> None:
    listed = [{"name": v.folder_name, "digest": v.artifact.digest, "run": _portable(v.run).plain()} for v in variants]
    _put(box, _BOX, json.dumps({"version": BOX_VERSION, "variants": listed, "about": about}, indent=1).encode())
    for name, artifact in _artifacts(variants).items():
        _put(box, f"variants/{name}/{MANIFEST}", artifact.manifest.to_json().encode())
        for claim in sorted((artifact.folder / CLAIMS).glob("[!.]*")):
            _put(box, f"variants/{name}/{CLAIMS}/{claim.name}", claim.read_bytes())
    for file, path in sorted(_files(variants).items()):
        _put(box, f"files/{file}", path.read_bytes())


def _portable(run: RunConfig) -> RunConfig:
    """Without the cache: a folder of the machine that packed it, which no box makes on another."""
    return replace(run, cache=None)


def _files(variants: Sequence[Variant]) -> dict[str, Path]:
    """Every different content once: sha256 → a file that has it."""
    return {file.sha256: v.artifact.folder / file.name for v in variants for file in v.artifact.manifest.files}


def _put(box: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, _WHEN)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    box.writestr(info, content)


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
    try:
        folder = (cache or cache_folder() / "boxes") / sha256_file(path)[:32]
    except OSError as error:
        raise BadArtifact(f"{path}: cannot be read ({error.strerror})", "a readable file") from error
    if folder.exists():
        try:
            return _read(path, folder)
        except (OSError, ValueError, BadArtifact):  # some of it was changed or deleted
            shutil.rmtree(folder, ignore_errors=True)
    with replaced_folder(folder, "set $TIFFIN_CACHE to a folder with room", keep=True) as draft:
        _unpack(path, draft)
    return _read(path, folder)


def _unpack(path: Path, draft: Path) -> None:
    try:
        with zipfile.ZipFile(path) as box:
            text = _content(box, _BOX, _MOST_BYTES)
            for name in dict.fromkeys(listed.name for listed in _index(path, text).variants):
                _unpack_artifact(box, name, draft)
            shutil.rmtree(draft / _KEPT, ignore_errors=True)
            (draft / _BOX).write_bytes(text)
    except _DAMAGED as error:
        raise BadArtifact(f"{path}: no box ({error})", f"a {SUFFIX} file written by `tiffin pack`") from error


def _index(path: Path, text: bytes) -> _Index:
    """What box.json holds, each field checked.

    Raises:
        BadArtifact: it is no index, or a newer one.
    """
    try:
        raw = json.loads(text)
        if raw["version"] > BOX_VERSION:
            raise BadArtifact(f"{path}: box version {raw['version']}", f"at most {BOX_VERSION}", "upgrade tiffin")
        index: _Index = read_as_type(raw, _Index, "index")
        if not index.variants:
            raise BadInput("no variants", "at least one")
    except (KeyError, TypeError, ValueError, RecursionError, BadInput) as error:
        if isinstance(error, BadArtifact):
            raise
        raise BadArtifact(f"{path}: no box ({error})", f"a {SUFFIX} file written by `tiffin pack`") from error
    for listed in index.variants:
        if PurePosixPath(listed.name).name != listed.name or listed.name in ("", "..", _BOX, _KEPT):
            raise BadArtifact(f"{path}: variant name {listed.name!r} leaves the box", "a plain name")
    return index


def _unpack_artifact(box: zipfile.ZipFile, name: str, draft: Path) -> None:
    folder = draft / name
    (folder / CLAIMS).mkdir(parents=True)
    text = _content(box, f"variants/{name}/{MANIFEST}", _MOST_BYTES)
    (folder / MANIFEST).write_bytes(text)
    for file in parse_manifest(text.decode(), name).files:
        _unpack_file(box, file, folder)
    inside = f"variants/{name}/{CLAIMS}/"
    for claim in box.namelist():
        if claim.startswith(inside) and "/" not in claim.removeprefix(inside) and claim != inside:
            (folder / CLAIMS / claim.removeprefix(inside)).write_bytes(_content(box, claim, _MOST_BYTES))


def _content(box: zipfile.ZipFile, name: str, most: int) -> bytes:
    """One entry; a few bytes of a zip can unpack to any size, so what it says is bounded first."""
    entry = box.getinfo(name)
    if entry.file_size > most or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadArtifact(f"{box.filename}: {name} of {entry.file_size:,} bytes, method {entry.compress_type}",
                          f"at most {most:,} bytes, stored or deflated")  # fmt: skip
    return box.read(name)


def _unpack_file(box: zipfile.ZipFile, file: ModelFile, folder: Path) -> None:
    """Equal files of two artifacts are one on the disk, where the file system has links."""
    check_name(folder, file.name)
    kept = folder.parent / _KEPT / file.sha256
    if not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        kept.write_bytes(_content(box, f"files/{file.sha256}", file.size_bytes))
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
