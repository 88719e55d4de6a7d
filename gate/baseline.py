"""A committed baseline: what the rows were, small enough for a repository, and what changed since.

One JSON file. An entry is keyed by checkpoint, name of the row and machine; the photos, their truths and the labels
stand once. Answers are the top 3 of each photo, one byte or two a label, compressed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..artifact.strict import parse_json
from ..errors import BadInput
from ..records import Predictions
from ..records.environment import MACHINE, SOFTWARE, differing
from ..records.kinds import BASELINE, require
from ..records.slow_calls import SlowCalls
from .measured import Measured, Timing, cpu_class

SCHEMA_VERSION = 2  # 1 holds no slow calls
SMALL_BYTES = 200_000
TOP = 3
_SLOW = 0.1  # of the calls are kept, the slowest: p99 and its bounds need no more
_KEPT = (*MACHINE, *SOFTWARE)


def fingerprint(environment: Mapping[str, Any]) -> str:
    """The first 16 hex digits of a sha256 over the fields that make a machine (`records.environment.MACHINE`)."""
    told = {name: environment.get(name) for name in MACHINE}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Baseline:
    """All entries of a file, and the photos that they answered."""

    entries: tuple[Measured, ...] = ()
    created: str = ""
    commit: str = ""
    bytes: int = field(default=0, compare=False)

    def rows(self, now: Mapping[str, Measured]) -> dict[str, Measured]:
        """For each name the entry nearest to the machine of its row now: of it, else of its CPU class, else any."""

        def distance(entry: Measured) -> int:
            environment = now[entry.name].environment if entry.name in now else {}
            if not differing(entry.environment, environment, MACHINE):
                return 0
            return 1 if cpu_class(entry.environment) == cpu_class(environment) else 2

        found: dict[str, Measured] = {}
        for entry in self.entries:
            if entry.name not in found or distance(entry) < distance(found[entry.name]):
                found[entry.name] = entry
        return found


def key(row: Measured) -> tuple[str, str, str]:
    """Checkpoint, name, machine: one entry of each."""
    return row.checkpoint, row.name, fingerprint(row.environment)


def updated(old: Baseline, rows: Sequence[Measured], created: str, commit: str) -> Baseline:
    """With these rows in place of the entries of their names and machines; other machines' entries stay.

    What a row does not tell stays as the entry had it, where that is of the same thing and the same versions: a record
    of latencies leaves the answers alone. Entries of another checkpoint go: a baseline is of one model.

    Raises:
        BadInput: none of the entries is of the rows' model.
    """
    new = {key(row): _filled(slim(row), old.entries) for row in rows if not row.reason}
    checkpoints = {row.checkpoint for row in new.values()}
    known = {entry.checkpoint for entry in old.entries if entry.checkpoint}
    if known and not known & checkpoints and all(checkpoints):
        raise BadInput(f"rows of checkpoint {', '.join(sorted(brief[:12] for brief in checkpoints))}",
                       f"{', '.join(sorted(brief[:12] for brief in known))}: a baseline is of one model",
                       "write another file, or begin this one anew with --new")  # fmt: skip
    of_model = (entry for entry in old.entries if entry.checkpoint in checkpoints or not entry.checkpoint)
    kept = {key(entry): entry for entry in of_model if not any(_replaces(row, entry) for row in rows)}
    return Baseline(tuple(dict(sorted({**kept, **new}.items())).values()), created, commit)


_FILLED = ("answers", "timing", "memory_bytes", "cold_start_s")


def _filled(row: Measured, entries: Sequence[Measured]) -> Measured:
    """With what the entry that it replaces has besides."""
    entry = next((one for one in entries if _replaces(row, one)), None)
    if entry is None or entry.identity != row.identity or differing(entry.environment, row.environment, ("versions",)):
        return row
    names = row if row.labels else entry
    more = {name: getattr(entry, name) for name in lost(row, entry)}
    return replace(row, labels=names.labels, coarse=names.coarse, **more)


def lost(row: Measured, entry: Measured) -> list[str]:
    """What an entry has and a row in its place has not."""
    return [name for name in _FILLED if getattr(entry, name) and not getattr(row, name)]


def _replaces(row: Measured, entry: Measured) -> bool:
    """True for the same row on what counts as the same machine, which a fingerprint is too fine for."""
    same = (row.checkpoint, row.name) == (entry.checkpoint, entry.name) and not row.reason
    return same and not differing(row.environment, entry.environment, MACHINE)


def slim(row: Measured) -> Measured:
    """A row as a baseline keeps it."""
    answers, timing = row.answers, row.timing
    if answers is not None:
        answers = replace(
            answers, top=answers.top[:, :TOP], scores=np.zeros((len(answers), 0), np.float32), logits=None
        )
    environment = {name: row.environment[name] for name in _KEPT if name in row.environment}
    if timing is not None:
        slow = timing.slow.slowest(_SLOW) if timing.slow is not None else None
        timing = replace(timing, rounds=None, slow=slow)
    return replace(row, answers=answers, timing=timing, environment=environment, corrupted=())


def to_json(baseline: Baseline) -> str:
    """The file's text: sorted, so that equal baselines have equal bytes.

    Raises:
        BadInput: entries of different photos or labels.
    """
    answered = [entry for entry in baseline.entries if entry.answers is not None]
    shared = _shared(answered)
    head = {"schema": SCHEMA_VERSION, "created": baseline.created, "commit": baseline.commit, **shared}
    environments: list[Mapping[str, Any]] = []
    entries = [_entry(row, environments) for row in baseline.entries]
    return json.dumps({**head, "environments": environments, "entries": entries}, indent=1, ensure_ascii=False) + "\n"


def _shared(answered: Sequence[Measured]) -> dict[str, Any]:
    """Photos, truths and names, once for all entries."""
    if not answered:
        return {"photos": "", "truth": "", "kind": "photos", "labels": [], "coarse": []}
    first = answered[0]
    assert first.answers is not None
    for row in answered[1:]:
        assert row.answers is not None
        if row.answers.photos != first.answers.photos or row.labels != first.labels:
            raise BadInput(
                f"{first.name} ({len(first.answers)} photos) and {row.name} ({len(row.answers)} photos) answered "
                "different photos or labels",
                "one set of photos in a baseline: score all rows on the same",
                "`tiffin baseline update --new` begins it anew",
            )
    photos = bytes.fromhex("".join(first.answers.photos))
    return {"photos": _packed(photos), "truth": _packed(_narrow(first.answers.truth)), "kind": first.answers.kind,
            "labels": list(first.labels), "coarse": list(first.coarse)}  # fmt: skip


def _entry(row: Measured, environments: list[Mapping[str, Any]]) -> dict[str, Any]:
    if row.environment not in environments:
        environments.append(row.environment)
    timing = None
    if row.timing is not None:
        timing = {
            "pace": dict(row.timing.pace),
            "launches": list(row.timing.p50_s),
            "p50_s": [round(value, 9) for value in row.timing.p50_s.values()],
            "slow": _packed_calls(row.timing.slow) if row.timing.slow is not None else None,
        }
    return {
        "name": row.name,
        "artifact": row.artifact,
        "checkpoint": row.checkpoint,
        "machine": fingerprint(row.environment),
        "environment": environments.index(row.environment),
        "cpu_class": cpu_class(row.environment),
        "place": row.place,
        "run": dict(row.run),
        "top": _packed(_narrow(row.answers.top)) if row.answers is not None else None,
        "timing": timing,
        "size_bytes": row.size_bytes,
        "memory_bytes": row.memory_bytes,
        "cold_start_s": [round(value, 4) for value in row.cold_start_s],
    }


def _packed_calls(slow: SlowCalls) -> dict[str, Any]:
    return {"calls": slow.counts.tolist(), "ns": _packed(slow.ns.astype("<i8").tobytes()),
            "of_launch": _packed(slow.launches.astype("<i4").tobytes()),
            "medians_ns": slow.medians_ns.tolist(), "within": slow.within}  # fmt: skip


def _calls(told: Mapping[str, Any]) -> SlowCalls:
    ns, launches = (np.frombuffer(_unpacked(told[name]), kind) for name, kind in (("ns", "<i8"), ("of_launch", "<i4")))
    if len(ns) != len(launches):
        raise ValueError(f"{len(ns)} slow calls of {len(launches)} launches")
    return SlowCalls(ns, launches, np.array(told["calls"], np.int64), np.array(told["medians_ns"]), told["within"])


def _narrow(labels: np.ndarray) -> bytes:
    """Two bytes a label, low bytes first and then the high ones, which compress to nothing below 256 classes."""
    whole = labels.astype("<u2").ravel()
    return (whole & 255).astype(np.uint8).tobytes() + (whole >> 8).astype(np.uint8).tobytes()


def _wide(raw: bytes) -> np.ndarray:
    low, high = np.frombuffer(raw, np.uint8).reshape(2, -1).astype(np.int32)
    return low + 256 * high


def _packed(raw: bytes) -> str:
    return base64.b64encode(zlib.compress(raw, 9)).decode()


def _unpacked(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text, validate=True))


def load_baseline(path: Path) -> Baseline:
    """Read a baseline.

    Raises:
        BadInput: missing, cut short, no baseline, or of a newer schema.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise BadInput(f"{path}: no such baseline", "a file that `tiffin baseline update` wrote") from error
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: no baseline ({error})", "a file that `tiffin baseline update` wrote") from error
    return parse_baseline(text, str(path))


def parse_baseline(text: str, where: str) -> Baseline:
    """The same from its text.

    Raises:
        BadInput: cut short, no baseline, or of a newer schema.
    """
    try:
        raw = parse_json(text)
        require(BASELINE, raw, where)
        version = int(raw["schema"])
        if version > SCHEMA_VERSION:
            raise BadInput(f"{where}: schema {version} of a baseline", f"at most {SCHEMA_VERSION}", "upgrade tiffin")
        shared = _photos(raw)
        entries = tuple(_row(entry, raw, shared, where) for entry in raw["entries"])
        return Baseline(entries, raw["created"], raw["commit"], len(text.encode()))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, zlib.error) as error:
        raise BadInput(
            f"{where}: no baseline, or cut short ({type(error).__name__}: {error})",
            "a file that `tiffin baseline update` wrote",
            "make it again, or take the committed one",
        ) from error


def _photos(raw: Mapping[str, Any]) -> tuple[tuple[str, ...], np.ndarray]:
    if not raw["photos"]:
        return (), np.zeros(0, np.int64)
    digits = _unpacked(raw["photos"]).hex()
    photos = tuple(digits[at : at + 16] for at in range(0, len(digits), 16))
    truth = _wide(_unpacked(raw["truth"])).astype(np.int64)
    if len(truth) != len(photos):
        raise ValueError(f"{len(photos)} photos with {len(truth)} truths")
    return photos, truth


def _row(
    entry: Mapping[str, Any], raw: Mapping[str, Any], shared: tuple[tuple[str, ...], np.ndarray], where: str
) -> Measured:
    photos, truth = shared
    answers = timing = None
    if entry["top"] is not None:
        top = _wide(_unpacked(entry["top"])).reshape(len(photos), -1)
        answers = Predictions(photos, truth, top, np.zeros((len(photos), 0), np.float32), raw["kind"])
    if (told := entry["timing"]) is not None:
        medians = dict(zip(told["launches"], told["p50_s"], strict=True))
        timing = Timing(medians, _calls(told["slow"]) if told.get("slow") else None, told["pace"])
    return Measured(
        entry["name"], entry["artifact"], entry["checkpoint"], entry["place"], entry["run"], where, where, "",
        answers, tuple(raw["labels"]), tuple(raw["coarse"]), timing, entry["size_bytes"], entry["memory_bytes"],
        tuple(entry["cold_start_s"]), (), raw["environments"][entry["environment"]],
    )  # fmt: skip


def require_comparable(now: Mapping[str, Measured], before: Mapping[str, Measured], other_checkpoint: bool) -> None:
    """Refuse a baseline that is of another model, other labels or other photos, before anything is judged.

    Raises:
        BadInput: it is.
    """
    for name, row in now.items():
        then = before.get(name)
        if then is None or row.reason:
            continue
        _same_model(row, then, other_checkpoint)
        if row.answers is not None and then.answers is not None and row.answers.photos != then.answers.photos:
            common = len({*row.answers.photos} & {*then.answers.photos})
            raise BadInput(
                f"{name}: {row.source} answered {len(row.answers)} photos, the baseline {len(then.answers)}; "
                f"{common} are in both",
                "the same photos in the same order",
                "score the photos of the baseline, or update it: `tiffin baseline update RECORD --new`",
            )


def _same_model(row: Measured, then: Measured, other_checkpoint: bool) -> None:
    if row.labels and then.labels and row.labels != then.labels:
        odd = [f"{a!r} / {b!r}" for a, b in zip(then.labels, row.labels, strict=False) if a != b]
        raise BadInput(f"{row.name}: the baseline has other labels "
                       f"({odd[0] if odd else f'{len(then.labels)} / {len(row.labels)}'})", "one set of labels",
                       "a baseline of this model: `tiffin baseline update RECORD --new`")  # fmt: skip
    if row.checkpoint and then.checkpoint and row.checkpoint != then.checkpoint and not other_checkpoint:
        raise BadInput(
            f"{row.name}: checkpoint {row.checkpoint[:12]}, the baseline's is {then.checkpoint[:12]}",
            "a baseline of this checkpoint",
            "`tiffin baseline update RECORD --new`; to judge a retrained model by the old one: --other-checkpoint",
        )
