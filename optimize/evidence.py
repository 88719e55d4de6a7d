"""What a search keeps on disk and finds again: parts of the photos, finished measurements."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from .. import machine
from ..benchmarks.candidate import Candidate
from ..benchmarks.options import Progress as Timing
from ..benchmarks.options import RoundOptions
from ..benchmarks.rounds import Measurement
from ..data.prepared import PreparedPhotos, part_of
from ..errors import BadInput
from ..records import Record
from ..records.environment import MACHINE, differing
from ..records.record import load_record

FEWEST_PHOTOS = 32  # that anything is judged by
FINALISTS = 5  # beside the reference
_OUT_OF_REACH = 1.15  # what takes so much longer than the fastest in a few launches does not win with more


def thinned(photos: PreparedPhotos, part: int, cache: Path) -> PreparedPhotos:
    """Every `part`-th photo, as a file of its own that workers can read; all of them where too few would be left."""
    if part == 1 or len(photos) // part < FEWEST_PHOTOS:
        return photos
    return part_of(photos, slice(None, None, part), cache)


def measured(
    path: Path, candidates: Sequence[Candidate], options: RoundOptions, say: Callable[[str], None], timing: Timing
) -> Record:
    """Time candidates side by side, or find that done in an interrupted search of the same things.

    Args:
        path: of the record that is kept.
    """
    key = _key(candidates, options)
    if (found := _finished(path, key, options.time_limit_s)) is not None:
        say(f"{path.stem}: unchanged, reused")
        return found
    environment, run = machine.environment(), Measurement(candidates, options, timing)
    run.run()
    record = Record("bench", environment, run.subjects(), {**asdict(options), "key": key},
                    rounds=run.rounds(), created=machine.utc_now())  # fmt: skip
    record.save(path)
    return record


def finalists(
    times_s: Mapping[str, float],
    floats: Collection[str],
    reference: str,
    sizes: Mapping[str, int] | None = None,
    bound_s: float | None = None,
) -> set[str]:
    """Who goes on: the fastest and what is near them, the reference, and the best float, which int8 must beat.

    Args:
        times_s: seconds by candidate, from a few launches.
        sizes: bytes by candidate, where the smallest go on instead of the fastest.
        bound_s: of time: of what is clearly beyond it none goes on for its size.
    """
    order = sorted(times_s, key=lambda name: (times_s[name], name))
    within_s = (bound_s or math.inf) if sizes else min(times_s.values(), default=0.0)
    near = [name for name in order if times_s[name] <= _OUT_OF_REACH * within_s]
    if sizes:
        near.sort(key=lambda name: sizes[name])
    best_float = [name for name in order if name in floats][:1]
    return {*near[:FINALISTS], *best_float, reference}


def _key(candidates: Sequence[Candidate], options: RoundOptions) -> str:
    """What a finished measurement depends on beside the machine and the time limit, which earlier work shortens."""
    rows = [
        [row.name, row.artifact.digest if row.artifact else row.reason, row.run.plain() if row.run else None]
        for row in candidates
    ]
    limitless = asdict(replace(options, time_limit_s=0.0))
    parts = [rows, limitless, machine.versions()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _finished(path: Path, key: str, limit_s: float) -> Record | None:
    """What is there, unless a shorter limit cut it."""
    try:
        record = load_record(path)
    except BadInput:
        return None
    if not record.complete or record.options.get("key") != key:
        return None
    cut = any(rounds.ended == "time limit" for rounds in record.rounds.values())
    if cut and limit_s > record.options["time_limit_s"]:
        return None
    return None if differing(record.environment, machine.environment(), MACHINE) else record
