"""Earlier and now, interleaved on this machine: one record that holds both (`records.side_by_side`).

Hosted CI never gives the same machine twice, so that a stored latency says nothing there; two versions measured in
turns, in one job, share whatever machine it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .. import machine
from ..benchmarks.accuracy import score
from ..benchmarks.candidate import Candidate
from ..benchmarks.options import Progress, RoundOptions
from ..benchmarks.rounds import Measurement
from ..data.prepared import PreparedPhotos
from ..errors import WorkerFailed
from ..records import Predictions, Record, Subject
from ..records.side_by_side import EARLIER

_EVER_S = 1e9  # the caller minds the time
Bar = Callable[[str, int], Callable[[int], None]]  # title and count → called with what is done


@dataclass(frozen=True)
class Pair:
    """One artifact as it is now and as it was, under one name."""

    now: Candidate
    earlier: Candidate

    @property
    def both(self) -> tuple[Candidate, Candidate]:
        """The earlier one first: it is the reference of the ratio."""
        return replace(self.earlier, name=self.now.name + EARLIER), self.now


class SideBySide:
    """A comparison that can go on: more launches, more photos, one record of all that is known.

    Args:
        pairs: what is compared; names differ.
        options: how it is timed; `launches` of them at first, and no target: who compares decides when it is enough.
        progress: called before each timed block.
        looks: how often it may be judged as it grows; kept in the record, since the error is shared among them.
    """

    def __init__(
        self, pairs: Sequence[Pair], options: RoundOptions, progress: Progress = lambda status: None, looks: int = 1
    ) -> None:
        self.looks = looks
        self._candidates = [candidate for pair in pairs for candidate in pair.both]
        self._options = replace(options, target=None, time_limit_s=_EVER_S)
        self._timing = Measurement(self._candidates, self._options, progress)
        self._applied: dict[str, dict[str, object]] = {}
        self._answers: dict[str, Predictions] = {}
        self._about: Mapping[str, Any] = {}
        self._created, self._environment = machine.utc_now(), machine.environment()
        self._timed_s = 0.0
        self.launches = 0

    def time(self, launches: int | None = None) -> None:
        """Measure all of them: first as `options` says, then for so many launches more.

        Raises:
            WorkerFailed: one of them failed: half a comparison is none.
        """
        began = time.monotonic()
        if launches is None:
            self._timing.run()
        else:
            self._timing.more(launches)
        self._timed_s += time.monotonic() - began
        self.launches += launches or self._options.launches
        for subject in self._timing.subjects():
            if subject.reason:
                raise WorkerFailed(f"{subject.name}: {subject.reason}", "an artifact that runs, earlier and now")

    @property
    def launch_s(self) -> float:
        """Seconds that one launch of all of them took; 0 before the first."""
        return self._timed_s / self.launches if self.launches else 0.0

    def answer(self, photos: PreparedPhotos, about: Mapping[str, Any], cache: Path, bar: Bar) -> None:
        """Answer these photos instead of those before.

        Args:
            about: what they are, for the record's `data`.
            cache: folder for answers by content.
        """
        for row in self._candidates:
            title = bar(f"scoring {row.name}", len(photos))
            self._answers[row.name], self._applied[row.name] = score(row, photos, cache, title)
        self._about = about

    def record(self) -> Record:
        """All that is known, of kind "side-by-side"."""
        options = {**asdict(self._options), "launches": self.launches, "time_limit_s": None, "looks": self.looks,
                   "elapsed_s": round(self._timed_s, 1)}  # fmt: skip
        subjects = tuple(self._applied_to(subject) for subject in self._timing.subjects())
        return Record("side-by-side", self._environment, subjects, options, self._about, self._timing.rounds(),
                      dict(self._answers), created=self._created)  # fmt: skip

    def _applied_to(self, subject: Subject) -> Subject:
        return subject if subject.applied else replace(subject, applied=self._applied.get(subject.name, {}))
