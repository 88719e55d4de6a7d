"""Which peers there are, and how each is run: in an environment of its own, as a process, its failure a reason."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiffin.errors import EngineFailed, EngineMissing

HERE = Path(__file__).parent
# Nothing that a peer runs may tell its makers, or fetch.
QUIET = {
    "NNCF_CI": "1",
    "OLIVE_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "ORT_DISABLE_TELEMETRY": "1",
}
_DONE, _MADE, _LOG = "installed.txt", "made.json", "log.txt"


@dataclass(frozen=True)
class Peer:
    """One way that others quantize.

    Args:
        script: stem of its script here and of its file in `requirements/`.
        words: what its row is called.
        backend: the engine that its users run the result on.
    """

    script: str
    words: str
    backend: str


PEERS = (
    Peer("nncf_default", "NNCF default", "openvino"),
    Peer("nncf_accuracy_control", "NNCF accuracy control", "openvino"),
    Peer("ort_default", "ORT quantize_static default", "onnxruntime"),
    Peer("olive_default", "Olive default", "onnxruntime"),
    Peer("optimum_default", "Optimum avx2", "onnxruntime"),
)


@dataclass(frozen=True)
class Made:
    """What a peer made: the model, options and versions as it told them, wall and processor seconds of its process."""

    model: Path
    options: Mapping[str, Any]
    versions: Mapping[str, str]
    seconds: float
    cpu_s: float

    def plain(self) -> dict[str, Any]:
        """For a record, without paths."""
        return {"seconds": self.seconds, "cpu_s": self.cpu_s, "versions": self.versions, "options": self.options}


def python_of(peer: Peer, work: Path, say: Callable[[str], None]) -> Path:
    """The interpreter of the peer's environment, made if there is none for these requirements.

    Raises:
        EngineMissing: it cannot be built.
    """
    wanted = HERE / "requirements" / f"{peer.script}.txt"
    key = _digest(wanted.read_bytes(), sys.version.encode())
    folder = work / "environments" / key
    python = folder / "bin" / "python"
    if not (folder / _DONE).exists():
        pins = [line for line in wanted.read_text().splitlines() if "==" in line]
        say(f"{peer.words}: installing {', '.join(pins)}")
        shutil.rmtree(folder, ignore_errors=True)  # an environment cannot be moved: a broken one is made anew in place
        _install([sys.executable, "-m", "venv", str(folder)], peer)
        _install([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", str(wanted)], peer)
        (folder / _DONE).write_text(wanted.read_text())
    return python


def _install(command: list[str], peer: Peer) -> None:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        said = [line for line in ended.stderr.splitlines() if line.startswith("ERROR")]
        reason = said[0][:300] if said else _last_line(ended.stderr)
        raise EngineMissing(f"its environment cannot be built: {reason}", peer.script)


def make(peer: Peer, job: Path, work: Path, limit_s: float, say: Callable[[str], None]) -> Made:
    """Run a peer, or find what it made of the same job with the same script and requirements.

    Args:
        job: folder as `job.Job` reads it.
        limit_s: it is stopped then.

    Raises:
        EngineMissing: its environment cannot be built.
        EngineFailed: it ended with an error, left nothing, or took too long; its output is kept beside.
    """
    python = python_of(peer, work, say)
    out = work / "made" / f"{peer.script}-{_key(peer, job)}"
    if not (out / _MADE).exists():
        say(f"{peer.words}: quantizing")
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        _run(peer, [str(python), str(HERE / f"{peer.script}.py"), str(job), str(out)], out, limit_s)
    told = json.loads((out / _MADE).read_text())
    return Made(out / "model.onnx", **told)


def _key(peer: Peer, job: Path) -> str:
    """Everything that a result depends on."""
    scripts = [HERE / f"{peer.script}.py", HERE / "job.py", HERE / "requirements" / f"{peer.script}.txt"]
    return _digest(*(path.read_bytes() for path in (*scripts, *sorted(job.iterdir()))))


def _run(peer: Peer, command: list[str], out: Path, limit_s: float) -> None:
    seconds, cpu_s = timed(command, out / _LOG, limit_s)
    if not (out / "model.onnx").exists():
        raise EngineFailed("it ends well and leaves no model", peer.script)
    facts = json.loads((out / "facts.json").read_text())
    (out / _MADE).write_text(json.dumps({**facts, "seconds": seconds, "cpu_s": cpu_s}, indent=1))


def timed(command: list[str], log: Path, limit_s: float) -> tuple[float, float]:
    """Wall and processor seconds of one process from start to end: imports belong to what a user waits for.

    Raises:
        EngineFailed: it ended with an error, whose last line is the reason, or took longer than `limit_s`.
    """
    before, began = _children_s(), time.monotonic()
    with log.open("w") as said:
        try:
            ended = subprocess.run(
                command, stdout=said, stderr=said, env={**os.environ, **QUIET}, timeout=limit_s, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise EngineFailed(f"stopped after {limit_s:.0f} s", "a quantizer that ends") from error
    seconds, cpu_s = round(time.monotonic() - began, 1), round(_children_s() - before, 1)
    if ended.returncode:
        last = _last_line(log.read_text(errors="replace")).replace(str(log.parent.resolve()), "WORK")
        raise EngineFailed(f"it fails: {last}")
    return seconds, cpu_s


def _children_s() -> float:
    """Processor seconds of the processes that have been waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _digest(*parts: bytes) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(hashlib.sha256(part).digest())
    return found.hexdigest()[:16]


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "without a word"
