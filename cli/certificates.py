"""Certificates as people and programs read them: a record of many, the list beside an artifact, what a box holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import command
from . import notes, render

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    from ..artifact.bundle import Variant
    from ..benchmarks.candidate import Candidate
    from ..benchmarks.certify import CertifyOptions, Context, Outcome
    from ..records import Predictions, Record

_HEADER = ("class", "where", "by", "photos", "flips % (95 %)", "verdict")
Row = tuple[str, Mapping[str, Any]]


def record_of(
    reference: tuple[Candidate, Predictions, Mapping[str, Any]],
    outcomes: Sequence[tuple[Candidate, Outcome]],
    context: Context,
    options: CertifyOptions,
    environment: Mapping[str, Any],
) -> Record:
    """All outcomes of a command: top-1 answers as raw values, certificates by subject in the options."""
    from ..machine import utc_now
    from ..records import Record

    base, answers, applied = reference
    subjects = [base.subject(applied=applied)]
    predictions = {base.name: _top_1(answers)}
    certificates, took_s = {}, {}
    for candidate, outcome in outcomes:
        name = f"{candidate.name} on {outcome.target.name}"
        where = replace(candidate, name=name, place=outcome.target.place)
        subjects.append(where.subject(applied=outcome.applied or {}, reason=outcome.reason))
        if outcome.certificate and outcome.evidence:
            certificates[name], took_s[name] = asdict(outcome.certificate), outcome.took_s
            predictions[name] = outcome.evidence.subject()
    about = {**asdict(options), "margin": context.margin, "took_s": took_s, "certificates": certificates}
    return Record("certify", environment, tuple(subjects), about, context.data,
                  predictions=predictions, created=utc_now())  # fmt: skip


def _top_1(answers: Predictions) -> Predictions:
    """Logits are left out: ten certificates would weigh as many megabytes."""
    return replace(answers, top=answers.top[:, :1], scores=answers.scores[:, :1], logits=None)


def as_json(record: Record) -> str:
    """Certificates by subject, and the reason of each that has none."""
    missing = {subject.name: subject.reason for subject in record.subjects if subject.reason}
    body = {"data": record.data, "certificates": record.options["certificates"], "not_certified": missing}
    return json.dumps(body, indent=1, ensure_ascii=False)


def as_text(record: Record, markdown: bool = False) -> str:
    """Table and notes of a record of kind "certify"."""
    rows = [(name.rpartition(" on ")[0], body) for name, body in record.options["certificates"].items()]
    said = [*notes.data_notes(record), *_notes(rows)]
    said += _missing(record)
    if markdown:
        return _markdown(rows) + "\n\n" + "\n".join(f"- {line}" for line in said)
    return "\n\n".join(part for part in (_tables(rows), render.wrapped(_verdict_notes(rows) + said)) if part)


def _missing(record: Record) -> list[str]:
    """Rows without a certificate, by target and reason."""
    names: dict[tuple[str, str], list[str]] = {}
    for subject in record.subjects:
        if subject.reason:
            name, _, target = subject.name.rpartition(" on ")
            names.setdefault((target, subject.reason), []).append(name)
    return [f"not certified on {target}: {', '.join(which)}: {why}" for (target, why), which in names.items()]


def is_box(named: str) -> bool:
    """By its name, as everywhere."""
    from ..artifact.bundle import SUFFIX

    return named.endswith(SUFFIX)


def how_to_certify_box(named: str) -> str:
    """A certificate lies in an artifact's folder."""
    return (f"unpack it (`{command('unpack', named, out='FOLDER')}`), certify what is in it "
            "(`tiffin certify FOLDER/NAME`) and pack it again (`tiffin pack`)")  # fmt: skip


def list_text(rows: Sequence[Row], named: str) -> str:
    """The certificates beside artifacts."""
    if not rows:
        how = how_to_certify_box(named) if is_box(named) else f"certify it: `{command('certify', named)}`"
        return f"{named}: nothing is certified; {how}"
    return f"{_tables(rows)}\n\n{render.wrapped([*_verdict_notes(rows), *_notes(rows)])}"


def list_json(rows: Sequence[Row]) -> str:
    """The same, as written."""
    return json.dumps([{"variant": name, **body} for name, body in rows], indent=1, ensure_ascii=False)


def _tables(rows: Sequence[Row]) -> str:
    """For a terminal: a table an artifact, under its name."""
    names = dict.fromkeys(name for name, _ in rows)
    return "\n\n".join(
        f"{name}\n{render.Table(_HEADER, [_row(body) for each, body in rows if each == name], left=3).text()}"
        for name in names
    )


def _markdown(rows: Sequence[Row]) -> str:
    """For a page: one table, with the verdicts' reasons."""
    cells = [[name, *_row(body), body["reason"]] for name, body in rows]
    return render.Table(("artifact", *_HEADER, "because"), cells, left=4).markdown()


def _row(body: Mapping[str, Any]) -> list[str]:
    rate, low, high = (f"{part * 100:.2f}" for part in body["flip_rate"])
    where = {"native": "here"}.get(body["place"], "limited") if not body["emulator"] else body["place"].split()[-1]
    photos = str(body["n"]) if body["basis"] != "identity" else f"{body['answered']} of {body['n']}"
    return [body["cpu_class"], where, body["basis"], photos, f"{rate} ({low}–{high})", body["verdict"]]


def _verdict_notes(rows: Sequence[Row]) -> list[str]:
    from ..records.estimate import Decision, Verdict

    return [
        notes.verdict_line(
            f"{name} {_where(body)}", Verdict(Decision(body["verdict"]), body["reason"]), body["margin"], _power(body)
        )
        for name, body in rows
    ]


def _notes(rows: Sequence[Row]) -> list[str]:
    said = [f"{name} {_where(body)}: alarm: {body['alarm'][1]} of the {body['alarm'][0]} photos with the smallest "
            f"margins are answered otherwise than on this CPU; no part of the estimate"
            for name, body in rows if body["alarm"]]  # fmt: skip
    for fewest in sorted({body["answered"] for _, body in rows if body["basis"] == "identity"})[:1]:
        said.append(f"by identity: so many photos drawn at random have the same logits bit for bit as on this CPU, "
                    f"whose answers to all photos stand for that class; with {fewest} all equal, "
                    f"at most {100 * (1 - 0.05 ** (1 / fewest)):.1f} % of all photos differ (95 %)")  # fmt: skip
    if emulators := sorted({body["emulator"] for _, body in rows if body["emulator"]}):
        said.append(f"emulated by {', '.join(emulators)}: answers, never times")
    return said


def _where(body: Mapping[str, Any]) -> str:
    return f"on {body['cpu_class']}, {body['place']}" if body["emulator"] else f"on {body['cpu_class']}"


def _power(body: Mapping[str, Any]) -> str:
    """Where nothing was decided: could it have been?"""
    if body["verdict"] != "INCONCLUSIVE" or body["power"] is None:
        return ""
    return f"; with so many photos one as good as fp32 passes {body['power'] * 100:.0f} % of the time"


def box_text(path: Path, variants: Sequence[Variant], about: Mapping[str, Any]) -> str:
    """What was packed: sizes, what each variant is certified for, and what portability costs."""
    from ..artifact.certificate import read_certificates

    times: Mapping[str, float] = about.get("times_of_the_first") or {}
    rows, said = [], []
    for variant in variants:
        time = f"{times[variant.name]:.2f}" if variant.name in times else ""
        rows.append([variant.name, f"{variant.artifact.size_bytes / 1e6:.2f}", time])
        held = [each for each in read_certificates(variant.artifact) if each.backend == variant.run.backend]
        verdicts = ", ".join(f"{each.cpu_class} {each.verdict}{' (emulated)' * bool(each.emulator)}" for each in held)
        said.append(f"{variant.name}: {verdicts or 'nothing is certified'}")
    table = render.Table(("variant", "MB", "× time"), rows).compact()
    order = f"ordered by time on {about.get('cpu')}" if times else f"ordered {about.get('order', 'as given')}"
    size, alone = path.stat().st_size, variants[0].artifact.size_bytes
    said.append(f"{path}: {size / 1e6:.2f} MB, {size / alone:.2f} × the first variant's files; {order}")
    return f"{table.text()}\n\n{render.wrapped(said)}"


def loaded_instead(variants: Sequence[Variant]) -> str:
    """What a device takes where the faster variants are certified for no CPU; empty where there are none such."""
    from ..artifact.certificate import read_certificates
    from ..runtime.certified import is_reference

    reference = next((each for each in variants if is_reference(each.artifact, each.run)), None)
    faster = variants[: variants.index(reference)] if reference else variants
    bare = [each for each in faster if not any(
        found.backend == each.run.backend and found.verdict == "PASS" for found in read_certificates(each.artifact)
    )]  # fmt: skip
    if not bare:
        return ""
    names = ", ".join(each.name for each in bare)
    instead = f"{reference.name} is loaded instead" if reference else "refused without --allow-uncertified"
    certify = command("certify", *(f"{each.artifact.folder}@{each.run.backend}" for each in bare))
    return f"certified for no CPU: {names}: {instead}; certify first, then pack: `{certify}`"
