"""A record: what was measured, where, on what. JSON with the raw arrays in an npz beside it (docs/records.md)."""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..artifact.files import replace_files
from ..artifact.strict import parse_json
from ..errors import BadInput
from .bounded import require_bounded
from .kinds import RECORD, require
from .predictions import Predictions
from .rounds import Rounds, Stages

SCHEMA_VERSION = 3
CONFIRM = "confirm"  # the role of photos that no choice was made by


def schema_path() -> Path:
    """JSON Schema (draft 2020-12) of a record's JSON file as this version writes it."""
    return Path(__file__).with_name("record.schema.json")


class Identity(NamedTuple):
    """What the subjects of two records must agree in for both to tell of one thing, whatever their names."""

    artifact: str
    backend: str
    execution_precision: str
    place: str

    @classmethod
    def of(cls, artifact: str, requested: Mapping[str, Any], place: str) -> Identity:
        """Args as a subject has them."""
        return cls(artifact, str(requested.get("backend")), str(requested.get("execution_precision")), place)


@dataclass(frozen=True)
class Subject:
    """One candidate: an artifact, how it was asked to run and how it ran; or why it could not.

    Args:
        name: unique in the record, such as "openvino int8 cpu".
        checkpoint: sha256 of the checkpoint that the artifact comes from; empty where unknown (older records).
        requested, applied: RunConfig as plain values; applied also holds version and details.
        cold_start_s: process start → first answer, seconds, by launch.
        cold_split_s: the same split: "start" (of the interpreter), "import", "load", "first" → seconds, by launch.
        peak_bytes: peak resident memory of the worker.
        steady_bytes: its share of memory (PSS), pages shared with the other workers divided: median over blocks.
        rss_bytes: resident, pages shared with others counted in full: greatest over blocks.
        device_bytes: memory of the accelerator; None where there is none, or nothing tells.
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
    cold_split_s: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    steady_bytes: int | None = None
    rss_bytes: int | None = None
    device_bytes: int | None = None
    checkpoint: str = ""

    @property
    def identity(self) -> Identity:
        """What it is, its name aside."""
        return Identity.of(self.artifact, self.requested, self.place)


@dataclass(frozen=True)
class Record:
    """Everything of one run. Estimates and verdicts are derived from it, never stored in it.

    Args:
        kind: by what made it: "bench", "score", "side-by-side", "explain", "robustness", "loadgen", "fidelity",
            "debug", "certify", "optimize", "selftest"; of the committed studies "overhead", "sabotage" or "study".
        environment: `machine.environment()` as the run began.
        options: of the command, as applied.
        data: what was scored: name, role, kind, count; empty where nothing was.
        rounds, predictions, stages: by subject name.
        complete: False where it was interrupted: what had been measured by then is here, and loads like any other.
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
    stages: Mapping[str, Stages] = field(default_factory=dict)

    def subject(self, name: str) -> Subject:
        """Raises KeyError if there is none of that name."""
        return {subject.name: subject for subject in self.subjects}[name]

    def answers(self, name: str, reference: str) -> tuple[Predictions | None, Predictions | None]:
        """A row's predictions, and the reference's; None for what was not scored, or not on the row's photos."""
        found, base = self.predictions.get(name), self.predictions.get(reference)
        return found, found.beside(base) if found else None

    def save(self, path: Path) -> Path:
        """Write `path` (JSON) and `path` with suffix .npz, each atomically; the JSON names the arrays' hash.

        Raises:
            OSError: it cannot be written (a full disk); what was there before is left as it was.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays, head = _pack(self)
        packed = io.BytesIO()
        np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
        head["arrays_sha256"] = hashlib.sha256(packed.getbuffer()).hexdigest()
        text = json.dumps(finite(head), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        # A path that is no UTF-8 holds lone surrogates: written as `\udc..`, which JSON reads back.
        replace_files({path.with_suffix(".npz"): packed.getvalue(), path: text.encode(errors="backslashreplace")})
        return path


def finite(value: Any) -> Any:
    """JSON knows no infinity and no NaN: null."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _pack(record: Record) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays by key for the npz, and the rest as plain values."""
    number = {subject.name: index for index, subject in enumerate(record.subjects)}
    arrays: dict[str, np.ndarray] = {}
    kept = replace(record, rounds={}, predictions={}, stages={})
    head: dict[str, Any] = {"schema": SCHEMA_VERSION, **asdict(kept)}
    for name, rounds in record.rounds.items():
        head["rounds"][name] = _pack_rounds(rounds, f"rounds/{number[name]}", arrays)
    for name, stages in record.stages.items():
        key = f"stages/{number[name]}"
        arrays[f"{key}/ns"] = np.asarray(stages.ns, np.int64)
        head["stages"][name] = {"key": key, "names": list(stages.names)}
    lists: dict[tuple[str, ...], str] = {}
    for name, found in record.predictions.items():
        photos = lists.setdefault(tuple(found.photos), f"photos/{len(lists)}")
        head["predictions"][name] = _pack_predictions(found, f"predictions/{number[name]}", photos, arrays)
    arrays |= {key: np.array(digests, dtype="S64") for digests, key in lists.items()}
    return arrays, head


def _pack_rounds(rounds: Rounds, key: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    arrays[f"{key}/ns"] = rounds.all_ns()
    arrays[f"{key}/lengths"] = np.array([len(block) for block in rounds.blocks], np.int64)
    arrays[f"{key}/launches"] = np.array(rounds.launches, np.int64)
    arrays[f"{key}/order"] = np.array(rounds.order, np.int64)
    arrays[f"{key}/warmup"] = np.asarray(rounds.warmup, np.int64)
    for name, values in rounds.sensors.items():
        arrays[f"{key}/sensors/{name}"] = np.asarray(values, np.float64)
    about = {"batch": rounds.batch, "regime": rounds.regime, "lanes": rounds.lanes, "ended": rounds.ended}
    return {"key": key, **about, "sensors": list(rounds.sensors)}


def _pack_predictions(found: Predictions, key: str, photos: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    arrays |= {f"{key}/truth": found.truth, f"{key}/top": found.top, f"{key}/scores": found.scores}
    if found.logits is not None:
        arrays[f"{key}/logits"] = found.logits
    return {"key": key, "kind": found.kind, "photos": photos, "logits": found.logits is not None}


def load_record(path: Path) -> Record:
    """Read a record of this schema or an older one.

    Raises:
        BadInput: missing, not a record, or of a newer schema.
    """
    try:
        head = parse_json(path.read_text(encoding="utf-8"))
        require(RECORD, head, str(path))
        version = int(head.pop("schema"))
    except FileNotFoundError as error:
        raise BadInput(f"{path}: no such record", "a record's .json") from error
    except (KeyError, TypeError, AttributeError) as error:  # other JSON
        raise BadInput(f"{path}: no record (it has no schema)", "a record's .json") from error
    except (OSError, ValueError, RecursionError) as error:
        why = "it is a folder" if path.is_dir() else getattr(error, "strerror", None) or error
        raise BadInput(f"{path}: no record ({why})", "a record's .json") from error
    if version > SCHEMA_VERSION:
        raise BadInput(f"{path}: record schema {version}", f"at most {SCHEMA_VERSION}", "upgrade tiffin")
    try:
        packed = path.with_suffix(".npz").read_bytes()
        if hashlib.sha256(packed).hexdigest() != head.pop("arrays_sha256"):
            raise ValueError("the .npz is of another record")
        require_bounded(path.with_suffix(".npz"))
        with np.load(io.BytesIO(packed)) as arrays:
            rounds = {name: _rounds(arrays, entry) for name, entry in head.pop("rounds").items()}
            found = {name: _predictions(arrays, entry) for name, entry in head.pop("predictions").items()}
            stages = {name: _stages(arrays, entry) for name, entry in head.pop("stages", {}).items()}
        subjects = tuple(_subject(raw) for raw in head.pop("subjects"))
        return Record(**head, subjects=subjects, rounds=rounds, predictions=found, stages=stages)
    except FileNotFoundError as error:
        why = f"no {path.with_suffix('.npz').name} beside it"
        raise BadInput(f"{path}: record cannot be read ({why})", "the .json and the .npz beside it") from error
    except (OSError, KeyError, TypeError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path}: record cannot be read ({error})", "the .json and the .npz beside it") from error


def _subject(raw: dict[str, Any]) -> Subject:
    split = {part: tuple(seconds) for part, seconds in raw.get("cold_split_s", {}).items()}
    _require_times(raw["cold_start_s"], f"cold start of {raw['name']}")
    return Subject(**{**raw, "cold_start_s": tuple(raw["cold_start_s"]), "cold_split_s": split})


def _require_times(found: Any, what: str) -> None:
    """Ratios and logarithms are taken of them. NaN is a time that nothing told."""
    if np.any(np.asarray(found) <= 0):
        raise ValueError(f"{what}: 0 or less")


def _rounds(arrays: Any, entry: Mapping[str, Any]) -> Rounds:
    """Schema 1 has no lanes, sensors and no reason for the end."""
    key = entry["key"]
    ends = np.cumsum(arrays[f"{key}/lengths"])
    ns = arrays[f"{key}/ns"]
    blocks = tuple(np.split(ns, ends)[:-1])
    launches, order = (tuple(int(i) for i in arrays[f"{key}/{name}"]) for name in ("launches", "order"))
    sensors = {name: arrays[f"{key}/sensors/{name}"] for name in entry.get("sensors", ())}
    later = {name: entry[name] for name in ("lanes", "ended") if name in entry}
    warmup = arrays[f"{key}/warmup"]
    _require_times(ns, "a timed call")
    _require_times(sensors.get("wall_s", ()), "wall time of a block")
    return Rounds(blocks, launches, order, warmup, entry["batch"], entry["regime"], sensors=sensors, **later)


def _stages(arrays: Any, entry: Mapping[str, Any]) -> Stages:
    return Stages(tuple(entry["names"]), arrays[f"{entry['key']}/ns"])


def _predictions(arrays: Any, entry: Mapping[str, Any]) -> Predictions:
    key = entry["key"]
    photos = tuple(digest.decode() for digest in arrays[entry["photos"]])
    truth, top, scores = (arrays[f"{key}/{name}"] for name in ("truth", "top", "scores"))
    if truth.min(initial=0) < 0 or top.min(initial=0) < 0:
        raise ValueError("a label below 0")
    logits = arrays[f"{key}/logits"] if entry.get("logits") else None
    return Predictions(photos, truth, top, scores, entry["kind"], logits)
