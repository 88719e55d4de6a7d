"""All that runs on the device. Importing it loads no engine, no torch, no onnx, no typer.

Photos need Pillow, feeds do not: `Classifier` is imported when it is first asked for.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..artifact import Artifact, RunConfig
from ..errors import BadInput, command
from . import backends
from .certified import choose, require
from .session import Session

if TYPE_CHECKING:
    from ..artifact.bundle import Variant
    from .classifier import Classifier, Guess

__all__ = ["Classifier", "Guess", "Session", "default_run", "load", "resolve"]


def __getattr__(name: str) -> Any:
    if name in ("Classifier", "Guess"):
        from . import classifier

        return getattr(classifier, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_DEFAULT_BACKEND = {
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "pt2": "torch",
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "tensorrt_rtx",
    "null": "null",
}


def default_run(artifact: Artifact) -> RunConfig:
    """The manifest's own RunConfig without a cache, which is a folder of its maker; else the engine of its format.

    Raises:
        BadInput: the format belongs to no engine of ours, and the manifest names none.
    """
    if artifact.manifest.run is not None:
        return dataclasses.replace(artifact.manifest.run, cache=None)
    form = artifact.manifest.format
    if form not in _DEFAULT_BACKEND:
        raise BadInput(f"{artifact.folder}: unknown format {form!r}", f"one of {', '.join(_DEFAULT_BACKEND)}")
    backend = _DEFAULT_BACKEND[form]
    return RunConfig(backend, device="gpu" if backend.startswith("tensorrt") else "cpu")


def load(
    artifact: Artifact | str | Path, run: RunConfig | str | None = None, allow_uncertified: bool = False
) -> Session:
    """Open an artifact on an engine, or of a box the fastest variant that is certified for this class of CPU.

    What is not certified here is said in one line of the log "tiffin"; float32 artifacts need no certificate.

    Args:
        artifact: an Artifact, its folder, or a `.tiffin` file.
        run: a RunConfig, a backend word, or None for `default_run`.
        allow_uncertified: open it even where it is known to answer worse.

    Raises:
        BadArtifact: the folder is no artifact, its bytes changed, or a certificate is not what its predictions give.
        NotCertified: it is known to answer worse on this class of CPU, or nothing in the box is certified.
        BadInput: no such backend, or the box has no variant for it.
        EngineMissing, EngineFailed: as the backend says.
    """
    chosen, config = resolve(artifact, run, allow_uncertified)
    return Session(chosen, config)


def resolve(
    artifact: Artifact | str | Path,
    run: RunConfig | str | None = None,
    allow_uncertified: bool = False,
    **changes: Any,
) -> tuple[Artifact, RunConfig]:
    """What `load` opens, and how; raises as `load` does, but for the engine's failures.

    Args:
        changes: fields of the RunConfig to replace; None leaves one as it is.
    """
    wanted = {name: value for name, value in changes.items() if value is not None}
    if not isinstance(artifact, Artifact) and Path(artifact).suffix == ".tiffin":
        return _from_box(Path(artifact), run, allow_uncertified, wanted)
    if not isinstance(artifact, Artifact):
        artifact = Artifact.load(artifact)
    if isinstance(run, str):
        run = dataclasses.replace(default_run(artifact), backend=run)
    run = dataclasses.replace(run or default_run(artifact), **wanted)
    require(artifact, run, allow_uncertified)
    return artifact, run


def _from_box(
    path: Path, run: RunConfig | str | None, allow_uncertified: bool, wanted: dict[str, Any]
) -> tuple[Artifact, RunConfig]:
    from ..artifact.bundle import open_box  # zipfile takes longer to import than all of this room

    variants = open_box(path).variants
    if run:
        variants = _of_backend(path, variants, run.backend if isinstance(run, RunConfig) else run)
    if isinstance(run, RunConfig):
        variants = tuple(dataclasses.replace(v, run=run) for v in variants)
    asked = [dataclasses.replace(v, run=dataclasses.replace(v.run, **wanted)) for v in variants]
    chosen = choose(path, asked, allow_uncertified)
    return chosen.artifact, chosen.run


def _of_backend(path: Path, variants: tuple[Variant, ...], word: str) -> tuple[Variant, ...]:
    found = tuple(variant for variant in variants if variant.run.backend == word)
    if not found:
        backends.backend(word)  # an unknown word is said as one
        held = " or ".join(sorted({variant.run.backend for variant in variants}))
        raise BadInput(f"{path}: no variant in it is for backend {word}", held, f"see `{command('unpack', path)}`")
    return found
