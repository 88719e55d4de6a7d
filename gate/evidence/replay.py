"""What a bundle says, worked out again from its raw values: offline, without the models and without the photos."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...artifact.strict import parse_json, read_as_type
from ...errors import BadInput
from ...records import Record
from ...words import counted
from .bundle import Bundle
from .check import UNREADABLE, Check, brief, check
from .collect import BASELINE, FIGURES, GATE, POLICY, REPORT, table_name
from .figures import differences, figures, photo_tables
from .layout import INDEX, shown
from .lineage import lineage_check, lineage_members
from .reading import read_records
from .verdict import verdict_check


def bytes_check(bundle: Bundle) -> Check:
    """Every byte of the file."""
    wrong = [f"{member}: {what}" for member, what in bundle.damage]
    held = f"{bundle.size_bytes:,} bytes in {counted(len(bundle.members) + 1, 'member')}, each as it was written"
    return check("bytes", wrong, held)


@dataclass(frozen=True)
class _Member:
    bytes: int
    sha256: str


@dataclass(frozen=True)
class _Ancestor:
    digest: str
    folder: str


@dataclass(frozen=True)
class _Listed:
    file: str
    member: str


@dataclass(frozen=True)
class _Index:
    """What bundle.json holds."""

    schema: int
    sha256: str
    artifact: str
    tiffin: str
    members: Mapping[str, _Member]
    lineage: tuple[_Ancestor, ...]
    records: tuple[_Listed, ...]


def replay(bundle: Bundle, folder: Path) -> Iterator[Check]:
    """All that follows from the bundle alone.

    Args:
        folder: where it is unpacked.

    Raises:
        BadInput: its index is not as one is written.
    """
    _require_contents(bundle.index)
    records, found = read_records(bundle, folder)
    yield found
    yield lineage_check(bundle, folder, records)
    yield _members_check(bundle, folder, records)
    yield from _derived_checks(bundle, records)
    yield verdict_check(bundle, folder, records)


def _require_contents(index: Mapping[str, Any]) -> None:
    """Nothing is in it that is not looked at, and nothing is missing that is.

    Raises:
        BadInput: a field too many or too few, or of another type, or a record that is no member.
    """
    try:
        told: _Index = read_as_type(dict(index), _Index, INDEX)
        if not told.lineage:
            raise ValueError("no lineage")
        pairs = [name for entry in told.records for name in _pair(entry.member)]
        if missing := [name for name in pairs if name not in told.members]:
            raise ValueError(f"no member {missing[0]}")
    except (TypeError, ValueError) as error:
        raise BadInput(f"{INDEX}: not as an index is written ({shown(error)})",
                       "a bundle that `tiffin evidence` wrote") from error  # fmt: skip


def _pair(member: str) -> tuple[str, str]:
    """A record's two files."""
    return member, Path(member).with_suffix(".npz").as_posix()


def _members_check(bundle: Bundle, folder: Path, records: Mapping[str, Record]) -> Check:
    """Each member is of a kind that is looked at; what is only kept is said."""
    known = {FIGURES, POLICY, BASELINE, GATE, REPORT} | lineage_members(bundle, folder)
    for entry in bundle.index["records"]:
        known |= set(_pair(entry["member"]))
        record = records.get(entry["member"])
        lists = {tuple(found.photos) for found in record.predictions.values()} if record else range(len(bundle.members))
        known |= {table_name(entry["member"], number) for number in range(1, len(lists) + 1)}
    wrong = [f"{name}: nothing says what it is" for name in bundle.members if name not in known]
    if FIGURES not in bundle.members:
        wrong.append(f"{FIGURES}: is not in the bundle")
    page = f"; {REPORT} is kept, not made again" if REPORT in bundle.members else ""
    return check("members", wrong, f"none that nothing speaks of{page}")


def _derived_checks(bundle: Bundle, records: Mapping[str, Record]) -> Iterator[Check]:
    wrong: list[str] = []
    tables: list[str] = []
    number, told = 0, _told_figures(bundle, wrong)
    for member, record in records.items():
        try:
            found = figures(record)
            number += _leaves(found)
            wrong += [f"{FIGURES}: {line}" for line in differences(told.get(member), found, member)]
            tables += _table_differences(bundle, member, photo_tables(record))
        except UNREADABLE as error:
            wrong.append(f"{member}: gives no figures ({brief(error, Path('/'))})")
    strange = [member for member in told if all(entry["member"] != member for entry in bundle.index["records"])]
    wrong += [f"{FIGURES}: {shown(member)} is no record of the bundle" for member in strange]
    yield check("figures", wrong, f"{counted(number, 'figure')} follow from the raw values")
    yield check("photos", tables, "what each row answered to each photo, as the records have it")


def _told_figures(bundle: Bundle, wrong: list[str]) -> dict[str, Any]:
    try:
        told = parse_json(bundle.members.get(FIGURES, b"{}"))
        if isinstance(told, dict):
            return told
        raise ValueError("no object")
    except (ValueError, RecursionError) as error:
        wrong.append(f"{FIGURES}: no figures ({error})")
        return {}


def _leaves(value: Any) -> int:
    if isinstance(value, (dict, list)):
        return sum(map(_leaves, value.values() if isinstance(value, dict) else value))
    return 1


def _table_differences(bundle: Bundle, member: str, tables: Sequence[str]) -> list[str]:
    """Lines that differ, by photo."""
    found = []
    for number, wanted in enumerate(tables, 1):
        name = table_name(member, number)
        lines, again = bundle.members.get(name, b"").decode("utf-8", "replace").split("\n"), wanted.split("\n")
        if name not in bundle.members:
            found.append(f"{name}: is not in the bundle")
        elif len(lines) != len(again):
            found.append(f"{name}: {len(lines) - 1:,} lines, the record gives {len(again) - 1:,}")
        else:
            found += [
                f"{name}, line {at}: {_cells(again[0], one, other)}"
                for at, (one, other) in enumerate(zip(lines, again, strict=True), 1) if one != other
            ]  # fmt: skip
    return found


def _cells(header: str, one: str, other: str) -> str:
    """The photo and the rows whose answers differ."""
    found, wanted, names = one.split(","), other.split(","), header.split(",")
    if len(found) != len(wanted) or found[0] != wanted[0]:
        return f"says {shown(one[:40])}, the record gives {shown(other[:40])}"
    differ = [
        f"row {shown(name)} says {shown(a)}, the record {shown(b)}"
        for name, a, b in zip(names, found, wanted, strict=False) if a != b
    ]  # fmt: skip
    return f"photo {found[0][:16]}: {'; '.join(differ)}"
