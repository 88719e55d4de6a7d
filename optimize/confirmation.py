"""The winner on photos that no choice has seen: looked at once, and every look is written down."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..artifact import Artifact, RunConfig
from ..artifact.certificate import WHOLE
from ..artifact.cpu_class import class_here, class_named
from ..artifact.files import replace_files
from ..benchmarks.certify import Context, Target, certificate_of
from ..benchmarks.workers.place import NATIVE, WITHOUT_VNNI
from ..errors import BadInput
from ..machine import utc_now
from ..records import Predictions, Record, Verdict
from ..records.certification import Evidence, write_certificate
from ..records.estimate import Decision
from ..records.paired import Flips, flips, non_inferior
from .budget import Budget


@dataclass(frozen=True)
class Confirmation:
    """What the photos that no choice has seen say of the winner.

    Args:
        verdict: paired non-inferiority at the budget's margin, one-sided 95 %; of synthesized images, whose labels are
            the network's own, the flips are within the margin.
        places: the verdict under each limited instruction set.
    """

    verdict: Verdict
    flips: Flips
    places: Mapping[str, Verdict]

    @property
    def passed(self) -> bool:
        """True if every verdict is PASS."""
        return all(found.decision is Decision.PASS for found in (self.verdict, *self.places.values()))


def confirm(record: Record, winner: str, reference: str, budget: Budget) -> Confirmation:
    """Judge the winner by a record of its answers to the confirm role."""
    base, found = record.predictions[reference], record.predictions[winner]
    limited = {
        subject.place: judge(record.predictions[subject.name], base, budget.max_drop)
        for subject in record.subjects
        if subject.place != "native" and subject.name in record.predictions
    }
    return Confirmation(judge(found, base, budget.max_drop), flips(found, base), limited)


def certify_from(record: Record, shipped: Artifact, winner: str, reference: str, margin: float) -> None:
    """Write what a confirmation has shown of each class of CPU as certificates beside the artifact that it shipped."""
    base = record.predictions[reference]
    context = Context(
        {key: record.data[key] for key in ("name", "kind", "role", "count")}, record.subject(reference).artifact, margin
    )
    for subject in record.subjects:
        native = subject.name == winner
        cpu = class_here(str(subject.requested.get("backend"))) if native else class_named("avx2")
        on_cpu = subject.requested.get("device") == "cpu" and subject.artifact == record.subject(winner).artifact
        if cpu is None or not on_cpu or subject.name == reference:
            continue
        target = Target(cpu.name, cpu, NATIVE if native else WITHOUT_VNNI)
        evidence = Evidence.of(record.predictions[subject.name], base)
        write_certificate(shipped, certificate_of(target, WHOLE, evidence, subject.applied, context), evidence)


def judge(found: Predictions, base: Predictions, margin: float) -> Verdict:
    """Non-inferiority on photos; on synthesized images agreement alone can be judged."""
    if found.kind == "photos":
        return non_inferior(found, base, margin)
    changed = flips(found, base)
    held = changed.rate.value <= margin
    said = f"{changed.count} of {changed.n} synthesized images flip, which says nothing of accuracy"
    return Verdict(Decision.PASS if held else Decision.FAIL, said)


def log_look(
    path: Path, artifact: str, run: RunConfig, photos: str, margin: float, found: Confirmation
) -> list[dict[str, object]]:
    """Add a look at the confirm role to a list that is only ever added to; all looks so far.

    A second look of the same artifact, run alike, at the same photos, by the same margin, is no new look.

    Args:
        artifact: digest of the winner, which in fp32 and in bf16 may be the same; photos: of what it was confirmed on.

    Raises:
        BadInput: the list is damaged or cannot be written; it is never begun anew.
    """
    seen = {"artifact": artifact, "run": run.plain(), "photos": photos, "margin": margin}
    return add_look(path, seen, {"decision": found.verdict.decision.value})


def add_look(path: Path, seen: Mapping[str, object], found: Mapping[str, object]) -> list[dict[str, object]]:
    """Add what was found to the list of looks, unless the same was seen before; all looks so far.

    Raises:
        BadInput: the list is damaged or cannot be written; it is never begun anew.
    """
    looks = read_looks(path)
    if all({key: look.get(key) for key in seen} != seen for look in looks):
        looks.append({**seen, **found, "created": utc_now()})
        try:
            replace_files({path: (json.dumps(looks, indent=1) + "\n").encode()})
        except OSError as error:
            raise BadInput(f"cannot write {path} ({error.strerror})", "room and permission to write") from error
    return looks


def read_looks(path: Path) -> list[dict[str, object]]:
    """All looks written down so far.

    Raises:
        BadInput: the list is damaged.
    """
    try:
        looks = json.loads(path.read_text()) if path.exists() else []
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read ({error})", "the list of looks that tiffin wrote") from error
    if not isinstance(looks, list) or not all(isinstance(look, dict) for look in looks):
        raise BadInput(f"{path}: no list of looks", "the list of looks that tiffin wrote")
    return looks
