"""The search: build, drop what cheap evidence rules out, measure the finalists side by side.

Successive halving (Jamieson and Talwalkar, AISTATS 2016): first a quarter of the photos, then all; of graphs that
differ in constants alone the most faithful; a few launches, then as many as the precision asks for. It sees the photos
of calibrate and select, never those of confirm.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from .. import machine
from ..artifact import RunConfig
from ..benchmarks.accuracy import score
from ..benchmarks.candidate import Candidate
from ..benchmarks.options import RoundOptions
from ..data.prepared import PreparedPhotos
from ..errors import BadInput, TiffinError
from ..records import Predictions, Record
from ..records.divergence import divergence, same_photos
from .budget import Budget, SearchOptions
from .candidates import without_vnni
from .choice import accuracy_refusal, disproof, size_refusal, unportable
from .demo import Progress
from .evidence import FEWEST_PHOTOS, FINALISTS, finalists, measured, thinned
from .variants import TENSORRT_BACKENDS, Model, Variant, Workshop, usable_backends

_HEAT_LAUNCHES, _HEAT_BLOCKS = 3, 4
_FLOAT_LAYERS = (1, 2, 4, 8)  # of an int8 graph, where no recipe keeps the accuracy


class Search:
    """One search. `run` gives the record that `choice.choose` decides from.

    Args:
        models: the given one in fp32 first.
        select: photos of the select role, prepared for each model by its name.
        about: what the photos are, for the record.

    Raises:
        BadInput: too few photos to select by, or a first model that is no fp32 ONNX artifact.
        EngineMissing: no engine runs here.
    """

    def __init__(
        self,
        models: Sequence[Model],
        select: Mapping[str, PreparedPhotos],
        budget: Budget,
        options: SearchOptions,
        about: Mapping[str, Any],
        progress: Progress,
    ) -> None:
        self._models, self._select, self._budget, self._options = models, select, budget, options
        self._about, self._progress = about, progress
        self._began = time.monotonic()
        _check(models, select)
        self.engines = usable_backends(options.backends)
        self.candidates: dict[str, Candidate] = {}
        self._limited: list[Candidate] = []
        self._variants: dict[str, Variant] = {}
        self._reasons: dict[str, str] = {}
        self._answers: dict[str, Predictions] = {}
        self._owner: dict[str, str] = {}

    @property
    def reference(self) -> str:
        """The given model in fp32 on the first engine."""
        return next(iter(self.candidates))

    def run(self) -> Record:
        """Build, halve, measure."""
        workshop = Workshop(self._options.out / "artifacts", self.engines, self._budget.portable,
                            self._began + self._options.time_budget_s / 2, self._progress.say)  # fmt: skip
        for model in self._models:
            self._add(model, workshop.variants(model))
        self._halve_by_answers()
        if not any(self._is_int8(name) for name in self._open()):
            self._mix(workshop)
        self._halve_by_size()
        self._halve_by_structure()
        self._heats()
        return self._finals()

    def _add(self, model: Model, variants: Sequence[Variant]) -> None:
        for variant in variants:
            for threads in self._options.threads or (None,):
                name = variant.name + (f" {threads} threads" if threads else "")
                device = "gpu" if variant.backend in TENSORRT_BACKENDS else "cpu"
                run = RunConfig(variant.backend, device, threads=threads,
                                lanes=self._lanes, hint=self._hint,
                                execution_precision=variant.execution_precision)  # fmt: skip
                self.candidates[name] = Candidate(name, variant.artifact, run, reason=variant.reason)
                self._variants[name], self._owner[name] = variant, model.name
                if variant.reason:
                    self._reasons[name] = variant.reason

    @property
    def _lanes(self) -> int:
        return machine.usable_cores() if self._budget.objective == "throughput" else 1

    @property
    def _hint(self) -> str:
        return "throughput" if self._budget.objective == "throughput" else "latency"

    def _open(self) -> list[str]:
        return [name for name in self.candidates if name not in self._reasons]

    def _is_int8(self, name: str) -> bool:
        artifact = self.candidates[name].artifact
        return artifact is not None and artifact.manifest.precision == "int8"

    def _halve_by_answers(self) -> None:
        """A quarter of the photos, then all: what is disproven on them leaves."""
        for part in (4, 1):
            self._judge(self._open(), part)
        self._halve_by_portability(self._open())

    def _judge(self, names: Sequence[str], part: int) -> None:
        for name in names:
            if found := self._score(name, self.candidates[name], part):
                self._answers[name] = found
        if self.reference in self._reasons:
            what = f"the reference {self.reference} failed: {self._reasons[self.reference]}"
            raise BadInput(what, "a model that runs here in fp32")
        base = self._answers[self.reference]
        refusal = accuracy_refusal if part == 1 else disproof
        for name in [name for name in names if name not in self._reasons]:
            if why := refusal(self._answers[name], base, self._budget.max_drop):
                self._leave(name, why)

    def _score(self, name: str, candidate: Candidate, part: int) -> Predictions | None:
        """Answers to every `part`-th photo; one that fails now leaves with its reason, and the search goes on."""
        photos = thinned(self._select[self._owner[name]], part, self._options.out / "cache")
        bar = self._progress.bar(f"scoring {candidate.name} on {len(photos)} photos", len(photos))
        try:
            return score(candidate, photos, self._options.out / "cache", bar)[0]
        except TiffinError as error:
            self._leave(name, error.what)
            return None

    def _halve_by_portability(self, names: Sequence[str]) -> None:
        """Portable: what answers wrongly without VNNI leaves, before it is preferred to what does not."""
        for name in names if self._budget.portable else ():
            limited, base = self._answered_limited(name), self._answers[self.reference]
            why = unportable(self.candidates[name].subject(), limited, base, self._budget.max_drop)
            if why and name not in self._reasons:
                self._leave(name, why)

    def _answered_limited(self, name: str) -> dict[str, Predictions]:
        """Answers of int8 under AVX2 by place, where the engine can be limited and this CPU has VNNI."""
        held = {}
        for limited in without_vnni([self.candidates[name]]):
            if found := self._score(name, limited, 1):
                self._limited.append(limited)
                self._answers[limited.name] = held[limited.place.name] = found
        return held

    def _leave(self, name: str, why: str) -> None:
        self._reasons[name] = why
        self._progress.say(f"  out: {name}: {why}")

    def _mix(self, workshop: Workshop) -> None:
        """No int8 recipe keeps the accuracy: each model's most faithful one, its most sensitive layers in float."""
        from ..quantize.sensitivity import most_sensitive, sensitivity

        for model in self._models:
            name = self._most_faithful(model)
            if name is None or model.artifact.manifest.precision != "fp32" or time.monotonic() > self._deadline(0.5):
                continue
            stage = name.rsplit("@", 1)[0]
            self._progress.say(f"{stage}: which layers does rounding hurt?")
            photos = np.asarray(self._select[model.name].array()[:FEWEST_PHOTOS])
            rows = sensitivity(model.artifact, workshop.built(stage), photos)
            for count in _FLOAT_LAYERS:
                known = set(self.candidates)
                recipe = stage.removeprefix(f"{model.name}-int8-")
                self._add(model, workshop.mixed(model, recipe, most_sensitive(rows, count)))
                self._judge([row for row in self._open() if row not in known], 1)
                self._halve_by_portability([row for row in self._open() if row not in known])

    def _most_faithful(self, model: Model) -> str | None:
        """Of a model's int8 candidates that were scored on the same photos as the reference or on a part of them."""
        base = self._answers[self.reference]
        apart = {
            name: divergence(found, same_photos(base, found)).value
            for name, found in self._answers.items()
            if self._owner.get(name) == model.name and self._is_int8(name)
        }
        return min(apart, key=lambda name: apart[name], default=None)

    def _size(self, name: str) -> int:
        artifact = self.candidates[name].artifact
        assert artifact is not None
        return artifact.size_bytes

    def _halve_by_size(self) -> None:
        """What is too large is not timed; the reference is, for the others."""
        for name in self._open():
            if name != self.reference and (why := size_refusal(self._size(name), self._budget)):
                self._leave(name, why)

    def _halve_by_structure(self) -> None:
        """Of graphs that take the same time, the most faithful stays."""
        base = self._answers[self.reference]
        best: dict[tuple[str, int | None], str] = {}
        apart = {name: divergence(self._answers[name], base).value for name in self._open()}
        for name in sorted(apart, key=lambda row: (apart[row], row)):
            run = self.candidates[name].run
            key = (self._variants[name].structure, run.threads if run else None)
            if key in best:
                self._leave(name, f"{best[key]} takes the same time and is nearer to fp32")
            else:
                best[key] = name

    def _deadline(self, part: float) -> float:
        return self._began + part * self._options.time_budget_s

    def _left_s(self, part: float) -> float:
        """Until a part of the time budget is over, and enough to time anything at all."""
        return max(30.0, self._deadline(part) - time.monotonic())

    def _heats(self) -> None:
        """A few launches of all; those out of reach leave."""
        names = self._open()
        if len(names) <= FINALISTS + 1:
            return
        self._progress.say(f"heats: {len(names)} candidates, {_HEAT_LAUNCHES} launches each")
        options = replace(self._options.rounds, launches=_HEAT_LAUNCHES, blocks=_HEAT_BLOCKS, target=None,
                          time_limit_s=self._left_s(0.7))  # fmt: skip
        record = self._measured("heats", names, options)
        for subject in record.subjects:
            if subject.reason:
                self._leave(subject.name, subject.reason)
        times = {
            name: record.rounds[name].cost_s()
            for name in self._open()
            if name in record.rounds and not size_refusal(self._size(name), self._budget)
        }
        floats = {name for name in times if not self._is_int8(name)}
        sizes = {name: self._size(name) for name in times} if self._budget.objective == "size" else None
        kept = finalists(times, floats, self.reference, sizes, self._budget.max_latency_s)
        first = min(times.values(), default=0.0)
        for name in times.keys() - kept:
            slower = f"{times[name] / first:.2f} × the least time in the heats"
            self._leave(name, f"not among the smallest within the bounds; {slower}" if sizes else slower)

    def _finals(self) -> Record:
        """As many launches as the precision asks for, within what is left of the time budget."""
        names = [self.reference, *(name for name in self._open() if name != self.reference)]
        self._progress.say(f"finals: {', '.join(names)}")
        limit_s = min(self._options.rounds.time_limit_s, self._left_s(0.9))
        record = self._measured("finals", names, replace(self._options.rounds, time_limit_s=limit_s))
        failed = {subject.name: subject.reason for subject in record.subjects if subject.reason}
        self._reasons |= failed
        return self._whole(record)

    def _measured(self, name: str, names: Sequence[str], options: RoundOptions) -> Record:
        chosen = [self.candidates[row] for row in names]
        try:
            return measured(
                self._options.out / f"{name}.json", chosen, options, self._progress.say, self._progress.timing
            )
        finally:
            self._progress.timed()

    def _whole(self, finals: Record) -> Record:
        """Everything that was considered, with the finals' rounds and the answers to the select role."""
        timed = {subject.name: subject for subject in finals.subjects}
        subjects = [
            timed.get(name) or candidate.subject(reason=self._reasons.get(name, ""))
            for name, candidate in self.candidates.items()
        ]
        subjects += [candidate.subject() for candidate in self._limited]
        count = len(next(iter(self._select.values())))
        whole = {name: found for name, found in self._answers.items() if len(found) == count}
        return Record("optimize", finals.environment, tuple(subjects),
                      {**asdict(self._options.rounds), **asdict(self._budget), "reference": self.reference,
                       "given": [name for name, model in self._owner.items() if model == self._models[0].name],
                       "time_budget_s": self._options.time_budget_s,
                       "elapsed_s": round(time.monotonic() - self._began, 1)},
                      {**self._about, "role": "select", "count": count}, rounds=finals.rounds, predictions=whole,
                      created=machine.utc_now())  # fmt: skip


def _check(models: Sequence[Model], select: Mapping[str, PreparedPhotos]) -> None:
    first = models[0].artifact.manifest
    if first.precision != "fp32" or first.format != "onnx":
        raise BadInput(f"{models[0].artifact.folder}: {first.precision} {first.format}", "the fp32 ONNX artifact",
                       "start from what `tiffin export` wrote")  # fmt: skip
    count = len(select[models[0].name])
    if count < FEWEST_PHOTOS:
        raise BadInput(f"{count} photos to select by", f"at least {FEWEST_PHOTOS}", "add photos to the val split")
