"""A record: what was measured, where, on what. JSON with the raw arrays in an npz beside it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadInput
from .predictions import Predictions
from .rounds import Rounds

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Subject:
    """One candidate: an artifact, how it was asked to run and how it ran; or why it could not.

    Args:
        name: unique in the record, such as "openvino int8 cpu".
        requested, applied: RunConfig as plain values; applied also holds version and details.
        cold_start_s: process start → first answer, seconds, by launch.
        peak_bytes: peak resident memory of the worker.
        reason: why it did not run; empty where it did.
        place: "native", or what was limited.
    """

    name: str
    artifact: str = ""
    precision: str = ""
    scheme: str | None = None
    format: str = ""
    producer: Mapping[str, Any] = field(default_factory=dict)
    size_bytes: int = 0
    requested: Mapping[str, Any] = field(default_factory=dict)
    applied: Mapping[str, Any] = field(default_factory=dict)
    place: str = "native"
    cold_start_s: tuple[float, ...] = ()
    peak_bytes: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class Record:
    """Everything of one run. Estimates and verdicts are derived from it, never stored in it.

    Args:
        kind: "bench", "score" or "overhead".
        environment: `machine.environment()` as the run began.
        options: of the command, as applied.
        data: what was scored: name, role, kind, count; empty where nothing was.
        rounds, predictions: by subject name.
        complete: False where it was interrupted.
    """

    kind: str
    environment: Mapping[str, Any]
    subjects: tuple[Subject, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    rounds: Mapping[str, Rounds] = field(default_factory=dict)
    predictions: Mapping[str, Predictions] = field(default_factory=dict)
    complete: bool = True
    created: str = ""

    def subject(self, name: str) -> Subject:
        """Raises KeyError if there is none of that name."""
        return {subject.name: subject for subject in self.subjects}[name]

    def save(self, path: Path) -> Path:
        """Write `path` (JSON) and `path` with suffix .npz, each atomically; the JSON names the arrays' hash."""
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays, head = _pack(self)
        packed = io.BytesIO()
        np.savez_compressed(packed, allow_pickle=False, **arrays)
        head["arrays_sha256"] = hashlib.sha256(packed.getbuffer()).hexdigest()
        text = json.dumps(head, indent=1, ensure_ascii=False) + "\n"
        _replace(path.with_suffix(".npz"), packed.getvalue())
        _replace(path, text.encode())
        return path


def _replace(path: Path, content: bytes) -> None:
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).chmod(0o644)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def _pack(record: Record) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays by key for the npz, and the rest as plain values."""
    names = [subject.name for subject in record.subjects]
    arrays: dict[str, np.ndarray] = {}
    head: dict[str, Any] = {"schema": SCHEMA_VERSION, **_plain(record), "rounds": {}, "predictions": {}}
    photos: dict[str, list[str]] = {}
    for name, rounds in record.rounds.items():
        key = f"rounds/{names.index(name)}"
        arrays[f"{key}/ns"] = rounds.all_ns()
        arrays[f"{key}/lengths"] = np.array([len(block) for block in rounds.blocks], np.int64)
        arrays[f"{key}/launches"] = np.array(rounds.launches, np.int64)
        arrays[f"{key}/order"] = np.array(rounds.order, np.int64)
        arrays[f"{key}/warmup"] = rounds.warmup
        head["rounds"][name] = {"key": key, "batch": rounds.batch, "regime": rounds.regime}
    for name, found in record.predictions.items():
        key = f"predictions/{names.index(name)}"
        arrays |= {f"{key}/truth": found.truth, f"{key}/top": found.top, f"{key}/scores": found.scores}
        list_name = next((k for k, v in photos.items() if v == list(found.photos)), f"photos/{len(photos)}")
        photos[list_name] = list(found.photos)
        head["predictions"][name] = {"key": key, "kind": found.kind, "photos": list_name}
    for key, digests in photos.items():
        arrays[key] = np.array(digests, dtype="S64")
    return arrays, head


def _plain(record: Record) -> dict[str, Any]:
    kept = replace(record, rounds={}, predictions={})
    return asdict(kept)


def load_record(path: Path) -> Record:
    """Read a record of this schema or an older one.

    Raises:
        BadInput: missing, not a record, or of a newer schema.
    """
    try:
        head = json.loads(path.read_text())
        version = int(head.pop("schema"))
    except FileNotFoundError as error:
        raise BadInput(f"{path}: no such record", "a record's .json") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path}: no record ({error})", "a record's .json") from error
    if version > SCHEMA_VERSION:
        raise BadInput(f"{path}: record schema {version}", f"at most {SCHEMA_VERSION}", "upgrade tiffin")
    try:
        packed = path.with_suffix(".npz").read_bytes()
        if hashlib.sha256(packed).hexdigest() != head.pop("arrays_sha256"):
            raise ValueError("the .npz is of another record")
        with np.load(io.BytesIO(packed)) as arrays:
            rounds = {name: _rounds(arrays, entry) for name, entry in head.pop("rounds").items()}
            found = {name: _predictions(arrays, entry) for name, entry in head.pop("predictions").items()}
        subjects = tuple(_subject(raw) for raw in head.pop("subjects"))
        return Record(**head, subjects=subjects, rounds=rounds, predictions=found)
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"{path}: record cannot be read ({error})", "the .json and the .npz beside it") from error


def _subject(raw: dict[str, Any]) -> Subject:
    return Subject(**{**raw, "cold_start_s": tuple(raw["cold_start_s"])})


def _rounds(arrays: Any, entry: Mapping[str, Any]) -> Rounds:
    key = entry["key"]
    ends = np.cumsum(arrays[f"{key}/lengths"])
    blocks = tuple(np.split(arrays[f"{key}/ns"], ends[:-1])) if len(ends) else ()
    launches, order = (tuple(int(i) for i in arrays[f"{key}/{name}"]) for name in ("launches", "order"))
    return Rounds(blocks, launches, order, arrays[f"{key}/warmup"], entry["batch"], entry["regime"])


def _predictions(arrays: Any, entry: Mapping[str, Any]) -> Predictions:
    key = entry["key"]
    photos = tuple(digest.decode() for digest in arrays[entry["photos"]])
    return Predictions(photos, arrays[f"{key}/truth"], arrays[f"{key}/top"], arrays[f"{key}/scores"], entry["kind"])
