"""Parse and build engines in a process of their own; see `engine_builder` for its end.

TensorRT's parser and builder are C++: a file that crashes them must not take the caller along, a build that is
cancelled must leave nothing, and a GPU's memory must be free when the engine is done.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import errors
from ..artifact.store import is_artifact
from ..errors import EngineFailed, TiffinError, command
from ..runtime.backends._trt import library
from .engine_options import EngineOptions

# Called with the phase's name and the part of the whole build that is done, 0 to 1.
BuildProgress = Callable[[str, float], None]
_GRACE_S = 5.0  # a cancelled build stops at its next step


@dataclass(frozen=True)
class ParserProblem:
    """What the ONNX parser refuses: the node's name and operator, both empty for the whole file, and its words."""

    node: str
    operator: str
    message: str

    def __str__(self) -> str:
        where = f"{self.node} ({self.operator}): " if self.node or self.operator else ""
        return where + self.message


@dataclass(frozen=True)
class Built:
    """An engine and what building it told.

    Args:
        plan: the serialized engine.
        version: of the library.
        log: every line of the library but its verbose ones.
        log_sha256: of `log`.
        timings: the timing cache after the build, None where the library keeps none.
    """

    plan: bytes
    version: str
    log: bytes
    log_sha256: str
    timings: bytes | None


def parser_problems(model: bytes, backend: str) -> list[ParserProblem]:
    """What the library's own parser refuses of an ONNX model; empty where it takes it.

    Raises:
        EngineMissing: the library is not installed, or does not start without a driver.
        EngineFailed: it crashed.
    """
    with tempfile.TemporaryDirectory(prefix="tiffin-engine-") as scratch:
        path = Path(scratch, "model.onnx")
        path.write_bytes(model)
        answer = _ask(backend, None, {"onnx": str(path)})
    return [ParserProblem(**problem) for problem in answer["problems"]]


def build_engine(
    onnx: Path,
    backend: str,
    options: EngineOptions,
    calibration: bytes | None = None,
    timings: Path | None = None,
    progress: BuildProgress = lambda phase, done: None,
) -> Built:
    """Build one engine.

    Args:
        onnx: the model's file.
        calibration: int8 scales of an untyped network, as TensorRT 10 writes a calibration cache.
        timings: a timing cache to start from.

    Raises:
        EngineMissing: the library is not installed, or does not start without a driver.
        EngineFailed: it refused the graph, with its own words, or it crashed.
        BadInput: an option that this machine does not have.
    """
    with tempfile.TemporaryDirectory(prefix="tiffin-engine-") as scratch:
        names = {"plan": "plan", "log": "log", "timings_out": "timings"}
        files: dict[str, str | None] = {key: str(Path(scratch, name)) for key, name in names.items()}
        files |= {"onnx": str(onnx), "timings": str(timings) if timings else None, "calibration": None}
        if calibration is not None:
            files["calibration"] = str(Path(scratch, "calibration"))
            Path(scratch, "calibration").write_bytes(calibration)
        answer = _ask(backend, options, files, progress)
        if answer["problems"]:
            told = [str(ParserProblem(**problem)) for problem in answer["problems"]]
            raise EngineFailed(
                f"{backend} cannot parse {onnx}: {'; '.join(told[:3])}" + (f"; {len(told) - 3} more" * (len(told) > 3)),
                "a graph that its ONNX parser supports",
                f"see each node and its fix: `{command('doctor', _named(onnx), backend=backend)}`",
            )
        kept = Path(scratch, "timings").read_bytes() if answer["timings"] else None
        plan, log = (Path(scratch, name).read_bytes() for name in ("plan", "log"))
        return Built(plan, answer["version"], log, answer["log_sha256"], kept)


def _ask(
    backend: str,
    options: EngineOptions | None,
    files: dict[str, str | None],
    progress: BuildProgress = lambda phase, done: None,
) -> dict[str, Any]:
    library(backend)  # raises EngineMissing here, before a process is started
    request = {"backend": backend, "options": asdict(options) if options else None, "files": files}
    with tempfile.TemporaryFile("w+", errors="replace") as words, _child(words) as child:
        assert child.stdin and child.stdout
        with contextlib.suppress(BrokenPipeError):  # it died at once: its exit code says it
            child.stdin.write(json.dumps(request) + "\n")
            child.stdin.close()
        answer: dict[str, Any] | None = None
        for line in child.stdout:
            told = json.loads(line)
            if "phase" in told:
                progress(told["phase"], told["done"])
            elif "error" in told:
                name, *rest = told["error"]
                raise getattr(errors, name, TiffinError)(*rest)
            else:
                answer = told.get("answer")
        child.wait()
        if answer is None:
            words.seek(0)
            what = files["onnx"] if options else "the model"  # which lies in a scratch folder where it is only parsed
            raise EngineFailed(_crash(backend, what, child.returncode, words.read()), "a graph that it supports")
        return answer


@contextlib.contextmanager
def _child(words: Any) -> Iterator[subprocess.Popen[str]]:
    """The building process; told to cancel, then killed, when the block is left early."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tiffin.export.engine_builder"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words, text=True,
        start_new_session=True,  # Ctrl-C is ours to hand on
    )  # fmt: skip
    try:
        yield child
    finally:
        if child.poll() is None:
            child.terminate()  # the builder cancels; on Windows it ends
            try:
                child.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def _named(onnx: Path) -> str:
    """The artifact that a model lies in, for a command; a rewritten graph lies in none."""
    return str(onnx.parent) if is_artifact(onnx.parent) else "ARTIFACT"


def _crash(backend: str, onnx: str | None, code: int, words: str) -> str:
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    last = (words.strip().splitlines() or ["it left no word"])[-1][:200]
    return f"{backend} crashed on {onnx} ({how}; {last})"
