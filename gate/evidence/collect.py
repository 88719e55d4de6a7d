"""What goes into a bundle: an artifact's lineage, its records as they are, and what was decided from them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ... import machine
from ...artifact import Artifact
from ...artifact.certificate import claim_files
from ...artifact.lineage import neighbours
from ...artifact.store import CLAIMS, MANIFEST
from ...errors import BadInput, command
from ...records.findings import GateResult, load_result
from ...records.record import load_record
from .figures import figures, photo_tables
from .reading import inconsistent

FIGURES, POLICY, BASELINE, GATE, REPORT = "figures.json", "policy.toml", "baseline.json", "gate.json", "report.html"


@dataclass(frozen=True)
class Verdict:
    """What was decided: gate.json, and what `tiffin check` read beside the records."""

    gate: Path
    policy: Path | None = None
    baseline: Path | None = None


@dataclass
class Collected:
    """What `bundle.write` takes."""

    about: dict[str, Any]
    members: dict[str, bytes] = field(default_factory=dict)


def collect(
    artifact: Artifact,
    records: Sequence[Path],
    verdict: Verdict | None = None,
    report: Path | None = None,
    with_model: bool = False,
) -> Collected:
    """Gather a bundle's members.

    Args:
        with_model: the artifact's model files too, so that its photos can be answered again without it.

    Raises:
        BadInput: a file that cannot be read, no record about the artifact, or a verdict over other records.
        BadArtifact: a claim that cannot be read, or is about another artifact.
    """
    found = Collected({"tiffin": machine.versions(("tiffin",)).get("tiffin", ""), "artifact": artifact.digest})
    _lineage(found, artifact, with_model)
    _records(found, artifact, records)
    if verdict is not None:
        _verdict(found, verdict)
    if report is not None:
        found.members[REPORT] = _bytes(report)
    return found


def ancestry(artifact: Artifact) -> Iterator[Artifact]:
    """The artifact, its parent, the parent's parent, as far as they lie in the folders beside it."""
    around = {other.digest: other for other in neighbours(artifact)}
    found: Artifact | None = artifact
    while found is not None:
        yield found
        found = around.pop(found.manifest.parent or "", None)


def lineage_folder(digest: str) -> str:
    """Where an artifact lies in a bundle: laid out as an artifact's own folder."""
    return f"lineage/{digest[:16]}"


def _lineage(found: Collected, artifact: Artifact, with_model: bool) -> None:
    found.about["lineage"] = []
    for each in ancestry(artifact):
        folder = lineage_folder(each.digest)
        found.about["lineage"].append({"digest": each.digest, "folder": each.folder.resolve().name})
        found.members[f"{folder}/{MANIFEST}"] = each.manifest.to_json().encode()
        for claim in claim_files(each):
            found.members[f"{folder}/{CLAIMS}/{claim.name}"] = _bytes(claim)
    if with_model:
        artifact.verify()
        for file in artifact.manifest.files:
            found.members[f"{lineage_folder(artifact.digest)}/{file.name}"] = _bytes(artifact.folder / file.name)


def _records(found: Collected, artifact: Artifact, paths: Sequence[Path]) -> None:
    derived, about_it = {}, False
    found.about["records"] = []
    for number, path in enumerate(paths, 1):
        record = load_record(path)
        if wrong := next(inconsistent(record), None):
            raise BadInput(f"{path}: {wrong}", "a record as it was measured", "measure again")
        about_it |= any(subject.artifact == artifact.digest for subject in record.subjects)
        stem = f"{number}-{_slug(path.stem)}"
        member = f"records/{stem}.json"
        found.about["records"].append({"file": path.name, "member": member})
        found.members |= {member: _bytes(path), f"records/{stem}.npz": _bytes(path.with_suffix(".npz"))}
        derived[member] = figures(record)
        found.members |= {table_name(member, at): text.encode() for at, text in enumerate(photo_tables(record), 1)}
    if not about_it:
        raise BadInput(
            f"no row of {', '.join(map(str, paths))} is about {artifact.folder} ({artifact.digest[:12]}…)",
            "a record of this artifact",
            f"measure it: `{command('bench', artifact.folder)}`, `{command('score', artifact.folder)}`",
        )
    found.members[FIGURES] = figures_text(derived)


def table_name(record: str, number: int) -> str:
    """Member that holds a record's table of photos; a record may have several lists of photos."""
    return f"photos/{Path(record).stem}{'' if number == 1 else f'-{number}'}.csv"


def figures_text(derived: Mapping[str, Any]) -> bytes:
    """figures.json: by record."""
    return (json.dumps(derived, indent=1, ensure_ascii=False) + "\n").encode(errors="backslashreplace")


def _verdict(found: Collected, verdict: Verdict) -> None:
    result = load_result(verdict.gate)
    found.members[GATE] = _bytes(verdict.gate)
    text = str(result.policy.get("text", ""))
    if verdict.policy is not None and _bytes(verdict.policy).decode(errors="replace") != text:
        raise BadInput(f"{verdict.policy}: not the policy that {verdict.gate} was decided by", "the same text",
                       "check again: `tiffin check`, or leave --policy out: gate.json holds its text")  # fmt: skip
    found.members[POLICY] = text.encode()
    if needs_baseline(result) != (verdict.baseline is not None):
        which = "a baseline that is not given" if needs_baseline(result) else "no baseline, but one is given"
        raise BadInput(f"{verdict.gate} was decided against {which}", "what `tiffin check` read",
                       "pass --baseline as to `tiffin check`")  # fmt: skip
    if verdict.baseline is not None:
        found.members[BASELINE] = _bytes(verdict.baseline)
        if hashlib.sha256(found.members[BASELINE]).hexdigest() != result.baseline.get("sha256"):
            raise BadInput(f"{verdict.baseline}: not the baseline that {verdict.gate} was decided against",
                           "the file as it was then", "check again: `tiffin check`")  # fmt: skip
    _require_records(found, result, verdict.gate)


def needs_baseline(result: GateResult) -> bool:
    """True if it was compared with a baseline's file, not with what was measured beside."""
    return bool(result.baseline) and "against" not in result.baseline


def _require_records(found: Collected, result: GateResult, gate: Path) -> None:
    hashes = {hashlib.sha256(found.members[entry["member"]]).hexdigest() for entry in found.about["records"]}
    for judged in result.records:
        if judged.get("sha256") not in hashes:
            raise BadInput(f"{gate} judged {ascii(judged.get('file', ''))} ({str(judged.get('sha256'))[:12]}…)",
                           "every record that it judged, as it was then", "name them all with --record")  # fmt: skip


def _slug(stem: str) -> str:
    """A file's name as a member's: the name itself stands in the index."""
    return re.sub("[^A-Za-z0-9._-]+", "-", stem)[:60].strip(".-") or "record"


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})", "a readable file") from error
