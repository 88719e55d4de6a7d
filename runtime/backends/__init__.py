"""One file, one engine. The registry is this folder's listing plus the entry points `tiffin.backends`.

A backend module offers:

    probe(name) -> Probe                  what can run here under that backend word
    open(artifact, run) -> Lane           raises EngineMissing, EngineFailed, BadDialect
    ENGINE = "module"                     optional: what `open` imports, so that a cold start can be split

What `run` asks for and the engine cannot do is one error, or told in `applied`. `run.cpus`, and `run.priority` on a
CPU, are the session's: it opens the engine in a thread placed so, and calls it from such (`runtime.placement`).

and a `Lane` (one request in flight, never locking):

    run(feeds, out=None) -> dict          named numpy arrays in and out
    applied                               Applied: the values that took effect
    close()
    another() -> Lane                     optional: one more over the same engine; without it `open` is called for each
    batches                               optional: (least, most) rows that it takes, where it takes only some
    takes_device_arrays = True            optional: feeds may hold arrays that lie on its GPU (`runtime.device_array`)
    device_ns(feeds) -> int               optional: run once, nanoseconds of the kernels alone by the device's clock

To add an engine: add a file here, an extra in pyproject.toml, and `export/to_X.py` if it must be compiled for.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ...artifact import Artifact, RunConfig
from ...artifact.lineage import parent_of
from ...errors import BadInput, EngineMissing, command, first_line
from ...machine import usable_cores
from ..placement import is_placed

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Feeds = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Probe:
    """What a backend says of itself on this machine.

    `reason` is empty where it can run; else it says why not, and `install` how to get it.
    `precisions` are worth using here, as the CPU's or GPU's features tell.
    """

    backend: str
    formats: tuple[str, ...]
    version: str | None = None
    devices: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    reason: str = ""
    install: str = ""

    @property
    def runs(self) -> bool:
        """True if sessions can be opened here."""
        return not self.reason


@dataclass(frozen=True)
class Applied:
    """What took effect, read back from the engine where it tells."""

    run: RunConfig
    version: str
    details: Mapping[str, str] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As a record's subject has it: fields of the run, version, details."""
        return {**vars(self.run), "version": self.version, "details": dict(self.details)}


class Lane(Protocol):
    """One request's worth of an engine."""

    applied: Applied

    def run(self, feeds: Feeds, out: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """Run once; with `out`, results are written into its arrays."""
        ...

    def close(self) -> None:
        """Free the engine's memory; a second call does nothing."""
        ...


# Words that one file serves beside its own name.
_ALIASES = {"tensorrt_rtx": "tensorrt"}


def names() -> tuple[str, ...]:
    """Every backend word, sorted, installed or not."""
    return tuple(sorted(_own_names() | {entry.name for entry in _entry_points()}))


def _own_names() -> set[str]:
    listed = {module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")}
    return listed | set(_ALIASES)


def _entry_points() -> tuple[EntryPoint, ...]:
    """Others' backends; asked only for a word that is none of ours: every installed package is looked at."""
    from importlib import metadata

    return tuple(metadata.entry_points(group="tiffin.backends"))


def backend(name: str) -> ModuleType:
    """Load one backend's module; imports its engine only when it is probed or opened.

    Raises:
        BadInput: no such backend.
        EngineMissing: another package's, which cannot be imported.
    """
    if name in _own_names():
        return importlib.import_module(f"{__name__}.{_ALIASES.get(name, name)}")
    for entry in _entry_points():
        if entry.name == name:
            return _loaded(entry)
    raise BadInput(f"unknown backend {name!r}", f"one of {', '.join(names())}", "see `tiffin backends`")


def _loaded(entry: EntryPoint) -> ModuleType:
    try:
        return entry.load()
    except Exception as error:  # whatever a broken import raises
        what = f"backend {entry.name!r}, another package's, cannot be imported: {type(error).__name__}: {error}"
        raise EngineMissing(what, f"an importable {entry.value}", "install its package anew") from error


def probe(name: str) -> Probe:
    """What backend `name` can do on this machine; an engine that is installed but broken is a reason, not an error.

    Raises:
        BadInput: no such backend.
    """
    try:
        return backend(name).probe(name)  # type: ignore[no-any-return]
    except BadInput:
        raise
    except EngineMissing as error:
        return Probe(name, (), reason=error.what, install=error.fix)
    except Exception as error:  # a broken wheel, a missing shared library: whatever its import raises
        return Probe(name, (), reason=f"installed, but it fails: {type(error).__name__}: {error}")


def installed(module: str) -> bool:
    """True if a top-level module can be imported, without importing it."""
    return importlib.util.find_spec(module) is not None


def engine_module(name: str, install: str) -> Any:
    """Import an engine; its module has no types that we know.

    Raises:
        EngineMissing: it is not installed, or it is and cannot be imported.
    """
    if not installed(name):
        raise EngineMissing(f"backend {name} is not installed", name, install)
    try:
        return importlib.import_module(name)
    except Exception as error:  # a library that is missing or another's, a wheel for other instructions
        what = f"{name} is installed, but it fails: {type(error).__name__}: {first_line(error)}"
        raise EngineMissing(what, f"a {name} that can be imported", install) from error


def deliver(results: dict[str, np.ndarray], out: dict[str, np.ndarray] | None) -> dict[str, np.ndarray]:
    """Hand results on, or copy them into `out`'s arrays.

    Raises:
        BadInput: `out` lacks a name, or an array has another dtype or shape (numpy would broadcast or cast).
    """
    if out is None:
        return results
    for name, array in results.items():
        target = out.get(name)
        if target is None or target.dtype != array.dtype or target.shape != array.shape:
            got = "nothing" if target is None else f"{target.dtype}{target.shape}"
            raise BadInput(f"out[{name!r}] is {got}", f"{array.dtype}{array.shape}")
        np.copyto(target, array)
    return out


def accept(artifact: Artifact, formats: tuple[str, ...], name: str) -> None:
    """Raises BadInput if the artifact's format is none of this backend's."""
    if artifact.manifest.format not in formats:
        raise BadInput(
            f"{artifact.folder}: format {artifact.manifest.format}, which backend {name} does not read",
            f"format {' or '.join(formats)}",
            _how_to_get(formats, artifact),
        )


def threads_of_a_lane(run: RunConfig) -> int:
    """As asked, else the cores that this thread may use, divided among the lanes."""
    return run.threads or max(1, usable_cores() // run.lanes)


def refuse_priority(run: RunConfig) -> None:
    """Raises BadInput where a GPU is to be shared by priority: this engine has none there."""
    if run.priority != "normal" and run.device != "cpu":
        raise BadInput(f"{run.backend} has no priority {run.priority} on device {run.device}", "priority normal")


def require_own_threads(run: RunConfig) -> RunConfig:
    """For an engine whose helper threads belong to the whole process: where a run places threads, a lane has but one.

    Raises:
        BadInput: it asks for more.
    """
    if not is_placed(run):
        return run
    if (run.threads or 1) > 1:
        raise BadInput(
            f"{run.backend} shares the helpers of a lane's {run.threads} threads with all of this process: neither "
            "cpus nor priority would hold for them",
            "threads 1, and more lanes",
            "or start the whole process so, with taskset or nice",
        )
    return dataclasses.replace(run, threads=1)


def _how_to_get(formats: tuple[str, ...], artifact: Artifact) -> str:
    """The command that makes one of these formats, or the artifact that has it."""
    form = artifact.manifest.format
    if "pt2" in formats:
        return "make one: `tiffin export --format pt2`"
    if "onnx" in formats and form == "pt2":
        return "make one: `tiffin export`"
    source = artifact if form == "onnx" else parent_of(artifact)
    named = source.folder if source else "ONNX_ARTIFACT"
    if "onnx" in formats:
        return f"name what it was compiled from: {named}"
    return f"compile for it: `{command('compile', named, backend=formats[0])}`"
