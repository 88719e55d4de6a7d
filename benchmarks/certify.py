"""Certify: how an artifact answers on each class of CPU, under a limited instruction set or emulated.

Natively and under a limit every photo is answered. An emulator is a hundred times slower: there a few photos show first
whether the bits are those of this machine, and if so the native verdict over all photos stands for that class too; if
not, a random sample is answered, and the photos that a small deviation would flip first, as an alarm apart from it.
No latency is ever taken in an emulator.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__, machine
from ..artifact import Artifact, RunConfig
from ..artifact.certificate import IDENTITY, SAMPLE, WHOLE, Certificate, read_certificates
from ..artifact.cpu_class import SWITCHED_BACKENDS, CpuClass, class_here, class_named
from ..data.prepared import PreparedPhotos, part_of
from ..errors import BadArtifact, BadInput, Overlap, TiffinError
from ..records import Predictions
from ..records.certification import Evidence, figures, same_bits, write_certificate
from ..records.estimate import Decision
from ..records.paired import require_margin
from ..records.predictions import joined
from ..words import counted
from .accuracy import score
from .candidate import Candidate
from .emulation.cpus import cpu_named
from .emulation.qemu import find_qemu
from .emulation.sysroot import emulated
from .workers.place import NATIVE, Place, limited_to

# One photo a call, as a device has it: float kernels may round the same photo another way in another batch, and bits
# are compared here.
BATCH = 1

_log = logging.getLogger(__name__)

_ELSEWHERE = "it runs on device {}: what is certified here is the CPU"

_SAME_RUN = ("engine_version", "place", "margin", "reference")

Bar = Callable[[str, int], Callable[[int], None]]


@dataclass(frozen=True)
class CertifyOptions:
    """How much is answered on an emulated CPU.

    Args:
        identity_photos: whose bits are compared first on an emulated CPU.
        sample_photos: random sample where the bits differ.
        alarm_photos: those with the smallest top-1/top-2 margin, beside a sample.
        everything: answer all photos on emulated CPUs too.
        seed: of every draw.

    Raises:
        BadInput: a number below 1.
    """

    identity_photos: int = 32
    sample_photos: int = 300
    alarm_photos: int = 40
    everything: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (self.identity_photos, self.sample_photos, self.alarm_photos)
        if min(counts) < 1:
            raise BadInput(f"photos {counts}", "at least 1 of each")


@dataclass(frozen=True)
class Target:
    """One class of CPU and where a worker answers as it would; `reason` says why it cannot."""

    name: str
    cpu_class: CpuClass
    place: Place = NATIVE
    emulator: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Outcome:
    """A certificate with its evidence and what the engine applied, or the reason why there is none.

    `took_s` is wall time; what was found answered already took none.
    """

    target: Target
    certificate: Certificate | None = None
    evidence: Evidence | None = None
    applied: Mapping[str, Any] | None = None
    reason: str = ""
    took_s: float = 0.0


def isa_target(name: str, run: RunConfig) -> Target:
    """This machine, or this machine limited to an instruction set.

    Raises:
        BadInput: no such class.
    """
    cpu, own = class_named(name), class_here(run.backend)
    if run.device != "cpu":
        return Target(name, cpu, reason=_ELSEWHERE.format(run.device))
    if own == cpu:
        return Target(name, cpu)
    if own is None or cpu.machine != own.machine or not cpu.features <= machine.cpu_flags():
        here = f"{own.name} ({own.words})" if own else "of no known class"
        return Target(name, cpu, reason=f"needs a CPU of class {cpu.name} ({cpu.words}); this one is {here}")
    if run.backend not in SWITCHED_BACKENDS:
        return Target(name, cpu, reason=f"{run.backend} has no switch for the instruction set: emulate one with --cpu")
    return Target(name, cpu, limited_to(cpu))


def emulated_target(name: str, run: RunConfig) -> Target:
    """An emulated CPU.

    Raises:
        BadInput: none that can be emulated.
    """
    cpu = cpu_named(name)
    if run.device != "cpu":
        return Target(name, cpu.cpu_class, reason=_ELSEWHERE.format(run.device))
    try:
        place, (_, version) = emulated(cpu, run.backend), find_qemu(cpu)
    except TiffinError as error:
        return Target(name, cpu.cpu_class, reason="; ".join(filter(None, (error.what, error.fix))))
    return Target(name, cpu.cpu_class, place, f"QEMU {version}")


@dataclass(frozen=True)
class Context:
    """What certificates of one run have in common.

    Args:
        data: name, role, kind and count of the photos.
        reference: digest of the artifact that flips count against.
        margin: of non-inferiority; 0.01 is one point.

    Raises:
        BadInput: a margin that is none.
    """

    data: Mapping[str, Any]
    reference: str
    margin: float = 0.01

    def __post_init__(self) -> None:
        require_margin(self.margin)


class Certifier:
    """Certifies one artifact on one engine for any number of targets.

    Args:
        reference: the fp32 artifact's answers to the same photos.
        context: of what photos and what reference they are.
        cache: folder for answers by content, from which an interrupted pass goes on.
        bar: makes a progress bar from a name and a total.
    """

    def __init__(
        self,
        candidate: Candidate,
        photos: PreparedPhotos,
        reference: Predictions,
        context: Context,
        options: CertifyOptions,
        cache: Path,
        bar: Bar = lambda name, total: lambda done: None,
    ) -> None:
        self.candidate, self.photos, self.options = candidate, photos, options
        self.reference, self._context, self._cache, self._bar = reference, context, cache, bar
        self._native: Predictions | None = None
        order = np.random.default_rng(options.seed).permutation(len(photos))
        self._first = np.sort(order[: options.identity_photos])
        self._rest = np.sort(order[options.identity_photos : max(options.sample_photos, options.identity_photos)])

    def certify(self, target: Target) -> Outcome:
        """Answer, derive, and write the certificate beside the artifact; a worker that fails is a reason."""
        if target.reason:
            return Outcome(target, reason=target.reason)
        began = time.monotonic()
        try:
            basis, evidence, applied = self._evidence(target)
        except Overlap:  # photos that calibrated it: no other target will do better
            raise
        except TiffinError as error:
            return Outcome(target, reason=error.what)
        except OSError as error:
            raise BadInput(f"cannot write to {self._cache} ({error.strerror})", "a writable folder with room",
                           "choose another --out: answers are kept beside it") from error  # fmt: skip
        certificate = certificate_of(target, basis, evidence, applied, self._context)
        if stronger := self._stronger(certificate):
            _log.warning("%s: the certificate over %s is kept, not replaced by one over %s",
                         self.candidate.name, _number(stronger), _number(certificate))  # fmt: skip
        else:
            write_certificate(self._artifact, certificate, evidence)
        return Outcome(target, certificate, evidence, applied, took_s=round(time.monotonic() - began, 1))

    def _evidence(self, target: Target) -> tuple[str, Evidence, Mapping[str, Any]]:
        """Basis, answers, and what the engine applied."""
        if target.emulator and not self.options.everything:
            return self._emulated(target)
        answers, applied = self._answer(target, self.photos)
        return WHOLE, Evidence.of(answers, self.reference), applied

    def _stronger(self, made: Certificate) -> Certificate | None:
        """A certificate that stays: one from photos beside drawn images, or one of the same run over more photos.

        A FAIL is always written, and undone by more photos alone; any other speaks of its own photos.
        """
        if made.verdict == Decision.FAIL.value:
            return None
        with contextlib.suppress(BadArtifact):  # what cannot be read is replaced
            for held in read_certificates(self._artifact):
                if held.kind == made.kind and (_alone_from_photos(held, made) or _over_more(held, made)):
                    return held
        return None

    @property
    def _artifact(self) -> Artifact:
        assert self.candidate.artifact is not None
        return self.candidate.artifact

    def _answer(self, target: Target, photos: PreparedPhotos) -> tuple[Predictions, Mapping[str, Any]]:
        where = replace(self.candidate, place=target.place)
        progress = self._bar(f"{self.candidate.name} on {target.name}", len(photos))
        return score(where, photos, self._cache, progress, BATCH)

    def _natively(self, target: Target) -> Predictions:
        """This machine's answers to all photos, asked for once."""
        if self._native is None:
            here = replace(target, name="this CPU", place=NATIVE, emulator="")
            self._native, _ = self._answer(here, self.photos)
        return self._native

    def _emulated(self, target: Target) -> tuple[str, Evidence, Mapping[str, Any]]:
        """By identity if the first photos have this machine's bits; else by sample."""
        native = self._natively(target)
        first, applied = self._answer(target, part_of(self.photos, self._first, self._cache))
        assert native.logits is not None and first.logits is not None
        here = native.logits[self._first]
        if same_bits(here, first.logits) == len(self._first):
            more = {"rows": self._first, "native": here, "there": first.logits}
            return IDENTITY, Evidence.of(native, self.reference, **more), applied
        return self._sample(target, native, first, applied)

    def _sample(
        self, target: Target, native: Predictions, first: Predictions, applied: Mapping[str, Any]
    ) -> tuple[str, Evidence, Mapping[str, Any]]:
        rows = np.concatenate([self._first, self._rest])
        parts = [first]
        if len(self._rest):
            parts.append(self._answer(target, part_of(self.photos, self._rest, self._cache))[0])
        evidence = Evidence.of(joined(parts), self.reference.rows(rows))
        if len(rows) == len(self.photos):
            return WHOLE, evidence, applied
        close = closest(native, rows, self.options.alarm_photos)
        alarm, _ = self._answer(target, part_of(self.photos, close, self._cache))
        return SAMPLE, replace(evidence, alarm_photos=alarm.photos, alarm_native=native.top[close, 0].astype(np.int64),
                               alarm_there=alarm.top[:, 0].astype(np.int64)), applied  # fmt: skip


def _alone_from_photos(held: Certificate, made: Certificate) -> bool:
    """True if only the held one is from photos: drawn images decide nothing, so they undo nothing."""
    return held.data["kind"] == "photos" != made.data["kind"]


def _over_more(held: Certificate, made: Certificate) -> bool:
    """True if it is of the same run over more photos, of the same set if it is no FAIL."""
    alike = all(getattr(held, name) == getattr(made, name) for name in _SAME_RUN)
    return alike and held.n > made.n and (held.verdict == Decision.FAIL.value or held.data == made.data)


def _number(of: Certificate) -> str:
    return counted(of.n, "photo" if of.data["kind"] == "photos" else "synthesized image")


def certificate_of(
    target: Target, basis: str, evidence: Evidence, applied: Mapping[str, Any], context: Context
) -> Certificate:
    """State what the evidence gives.

    Args:
        basis: "whole", "identity" or "sample".
        applied: what the engine applied: backend, version, execution precision.
    """
    here = class_here(str(applied["backend"]))
    return Certificate(
        cpu_class=target.cpu_class.name,
        backend=str(applied["backend"]),
        engine_version=str(applied["version"]),
        execution_precision=str(applied["execution_precision"]),
        place=target.place.name,
        emulator=target.emulator,
        basis=basis,
        data=dict(context.data),
        margin=context.margin,
        native_class=here.name if here and basis == IDENTITY else "",
        reference=context.reference,
        tiffin=__version__,
        created=machine.utc_now(),
        **figures(evidence, basis, context.margin),
    )


def closest(answers: Predictions, outside: np.ndarray, count: int) -> np.ndarray:
    """Rows with the smallest margin between the best and the second logit, none of them in `outside`; ascending."""
    margins = (answers.scores[:, 0] - answers.scores[:, 1]).astype(np.float64)
    margins[outside] = np.inf
    free = len(margins) - len(np.unique(outside))
    return np.sort(np.argsort(margins, kind="stable")[: min(count, free)])
