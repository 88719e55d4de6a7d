"""An artifact's relatives, found by digest among the folders beside its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from ..errors import BadArtifact, BadInput
from .store import MANIFEST, Artifact

SOURCE = "source.onnx"  # travels in a compiled engine


def neighbours(artifact: Artifact) -> Iterator[Artifact]:
    """The artifacts in the folders beside this one, itself among them; folders that cannot be read are passed over."""
    for path in sorted(artifact.folder.absolute().parent.glob(f"*/{MANIFEST}")):
        try:
            yield Artifact.load(path.parent)
        except BadArtifact:
            continue


def variants_of(artifact: Artifact) -> Iterator[Artifact]:
    """Its neighbours that were made from the same checkpoint, without itself."""
    checkpoint = artifact.manifest.checkpoint
    for other in neighbours(artifact):
        if checkpoint is not None and other.manifest.checkpoint == checkpoint and other.digest != artifact.digest:
            yield other


def parent_of(artifact: Artifact) -> Artifact | None:
    """The artifact that it was made from, if that is one of its neighbours."""
    return next((other for other in neighbours(artifact) if other.digest == artifact.manifest.parent), None)


def reference_of(artifact: Artifact) -> Artifact:
    """The nearest float32 ancestor among its neighbours; itself if it is one.

    Raises:
        BadInput: it is not there.
    """
    around = {other.digest: other for other in neighbours(artifact)}
    found: Artifact | None = artifact
    while found is not None and found.manifest.precision != "fp32":
        found = around.get(found.manifest.parent or "")
    if found is None:
        raise BadInput(
            f"{artifact.folder}: its fp32 ancestor is in no folder beside it",
            "the artifact that it was quantized from",
            "name it with --reference",
        )
    return found


def source_of(engine: Artifact) -> Artifact:
    """The ONNX model that a compiled engine was built from, as it travels in the engine's folder.

    It is that folder seen as an ONNX artifact: its digest is none of an artifact on disk; `parent` still names the one
    that was compiled.

    Raises:
        BadArtifact: no source travels in it.
    """
    held = [file for file in engine.manifest.files if file.name == SOURCE]
    if not held:
        raise BadArtifact(
            f"{engine.folder}: no {SOURCE} in it ({engine.manifest.format})",
            "an engine that `tiffin compile` wrote",
            "compile the ONNX artifact: `tiffin compile ONNX_ARTIFACT`",
        )
    manifest = dataclasses.replace(engine.manifest, format="onnx", files=tuple(held), built_for={}, run=None)
    return Artifact(engine.folder, manifest)


def is_source(artifact: Artifact) -> bool:
    """True for what `source_of` gives."""
    return artifact.manifest.format == "onnx" and artifact.manifest.files[0].name == SOURCE
