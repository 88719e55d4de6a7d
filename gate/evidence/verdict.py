"""The gate's verdict, decided again from a bundle."""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ... import machine
from ...errors import BadInput
from ...records import Record
from ...records.findings import Finding, GateResult, load_result
from ...words import counted
from ..baseline import Baseline, parse_baseline
from ..files import judge, looks_at
from ..looks import MOST, looked
from ..policy import Policy, parse_policy
from .bundle import Bundle
from .check import UNREADABLE, Check, State, brief, check
from .collect import BASELINE, GATE, POLICY, needs_baseline
from .figures import differences, plain
from .layout import shown

_WORDS = ("reason", "sees")  # may change with a release: they are held to by the release that wrote them
_BESIDE = "./"  # before a file's name: where it lay, nobody knows


def verdict_check(bundle: Bundle, folder: Path, records: Mapping[str, Record]) -> Check:
    """The gate once more on the records, the baseline and the policy of the bundle, at the date of its verdict."""
    if GATE not in bundle.members:
        return Check("verdict", State.OPEN, ("nothing was decided: the bundle holds no gate.json",))
    missing = [entry["member"] for entry in bundle.index["records"] if entry["member"] not in records]
    if missing:
        return Check("verdict", State.FAILS, (f"not decided again: {', '.join(missing)} cannot be read",))
    same_release = bundle.index["tiffin"] == machine.versions(("tiffin",)).get("tiffin", "")
    try:
        told = load_result(folder / GATE)
        found = decide_again(bundle, told, records)
        wrong = list(_differing(told, found, same_release))
    except UNREADABLE as error:
        return Check("verdict", State.FAILS, (f"{GATE}: cannot be decided again ({brief(error, folder)})",))
    words = "" if same_release else "; its words, of another release, are not compared"
    return check(
        "verdict", wrong, f"{told.outcome.value}, {counted(len(told.findings), 'finding')} decided again{words}"
    )


def decide_again(bundle: Bundle, told: GateResult, records: Mapping[str, Record]) -> GateResult:
    """What the gate says now of what it judged then.

    Raises:
        BadInput: a record that it judged is not in the bundle or is of a later day, or the policy or the baseline is
            another.
    """
    text = bundle.members.get(POLICY, b"").decode("utf-8", "replace")
    if text != told.policy.get("text"):
        raise BadInput(f"{POLICY} is not the policy that gate.json was decided by", "the same text")
    judged = _judged(bundle, told, records)
    today = _date(told.created)
    if later := [record.created for record in judged.values() if record.created and _date(record.created) > today]:
        raise BadInput(f"made {shown(told.created)}, before its record of {later[0]}", "a verdict on what there was")
    policy, baseline = parse_policy(text, POLICY), _baseline(bundle, told)
    about = {"baseline": _compared_with(told, baseline)}
    # Whether another checkpoint was allowed is not told, and changes no finding.
    found = judge(policy, judged, baseline, other_checkpoint=True, today=today, about=about)
    return replace(found, notes=(*found.notes, *_looked(told, policy, judged)))


def _date(created: str) -> datetime.date:
    return datetime.datetime.fromisoformat(created).astimezone(datetime.timezone.utc).date()


def _compared_with(told: GateResult, baseline: Baseline | None) -> dict[str, Any]:
    """What is told of a baseline: names as they are told, else as the file says."""
    if baseline is None:
        return {"against": told.baseline["against"]} if told.baseline else {}
    kept = {key: told.baseline.get(key) for key in ("file", "sha256")}
    return {**kept, "created": baseline.created, "commit": baseline.commit}


def _looked(told: GateResult, policy: Policy, records: Mapping[str, Record]) -> list[str]:
    """The note on the looks taken; how many these were nobody can tell again."""
    looks = min(looks_at(records), MOST)
    can_be = [looked(look, looks, policy) for look in range(1, looks + 1)]
    return [note for note in told.notes if note in can_be][:1]


def _baseline(bundle: Bundle, told: GateResult) -> Baseline | None:
    if BASELINE not in bundle.members:
        if needs_baseline(told):
            raise BadInput(f"{BASELINE} is not in the bundle", "the baseline that was compared with")
        return None
    content = bundle.members[BASELINE]
    if hashlib.sha256(content).hexdigest() != told.baseline.get("sha256"):
        raise BadInput(f"{BASELINE} is not the baseline that was compared with", "its sha256")
    return parse_baseline(content.decode("utf-8", "replace"), _BESIDE + str(told.baseline.get("file", "")))


def _judged(bundle: Bundle, told: GateResult, records: Mapping[str, Record]) -> dict[str, Record]:
    """By a name that ends in that of the file, in the gate's order."""
    by_hash = {hashlib.sha256(bundle.members[member]).hexdigest(): record for member, record in records.items()}
    found = {}
    for number, each in enumerate(told.records):
        if each.get("sha256") not in by_hash:
            raise BadInput(f"the record {shown(each.get('file'))} that was judged is not in the bundle", "its sha256")
        found[f"{_BESIDE * (number + 1)}{each.get('file')}"] = by_hash[each["sha256"]]
    return found


def _differing(told: GateResult, found: GateResult, same_release: bool) -> Iterator[str]:
    files = [str(each.get("file")) for each in (*told.records, told.baseline) if each.get("file")]
    for key in ("outcome", "exit_code", "environment", "baseline"):
        yield from _named(GATE, differences(plain(getattr(told, key)), plain(getattr(found, key)), key))
    yield from _named(GATE, differences(_policy(told), _policy(found), "policy"))
    if len(told.findings) != len(found.findings):
        yield f"{GATE}: {counted(len(told.findings), 'finding')}, the raw values give {len(found.findings)}"
    for one, other in zip(told.findings, found.findings, strict=False):
        where = f"{GATE}: {shown(one.artifact)}, {shown(one.check)}"
        yield from _named(where, differences(_values(one), _values(other)))
        for key in _WORDS if same_release else ():
            said, again = getattr(one, key), getattr(other, key)
            if not _same_words(said, again, files):
                yield f"{where}: {key}: says {shown(said)}, the raw values give {shown(again)}"
    if same_release:
        yield from _notes(told, found, files)


def _policy(result: GateResult) -> Any:
    """Without what the command may have set for this run."""
    return plain({key: value for key, value in result.policy.items() if key != "budget_s"})


def _notes(told: GateResult, found: GateResult, files: Sequence[str]) -> Iterator[str]:
    for note in told.notes:
        if not any(_same_words(note, other, files) for other in found.notes):
            yield f"{GATE}: the note {shown(note)} does not follow"
    for note in found.notes:
        if not any(_same_words(other, note, files) for other in told.notes):
            yield f"{GATE}: the note {shown(note)} is missing"


def _same_words(told: str, found: str, files: Sequence[str]) -> bool:
    """Equal, but for the folders that the files lay in."""
    if told == found or not files:
        return told == found
    names = "|".join(re.escape(name) for name in sorted(files, key=len, reverse=True))
    parts = re.split(f"(?:{re.escape(_BESIDE)})+({names})", found)  # every second one is a file's name
    anywhere = [
        re.escape(part) if at % 2 == 0 else rf"(?:[^\n]*[/\\])?{re.escape(part)}" for at, part in enumerate(parts)
    ]
    return re.fullmatch("".join(anywhere), told) is not None


def _values(finding: Finding) -> dict[str, Any]:
    return {key: value for key, value in plain(finding).items() if key not in _WORDS}


def _named(where: str, lines: Iterator[str]) -> Iterator[str]:
    yield from (f"{where}: {line}" for line in lines)
