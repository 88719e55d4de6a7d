"""Were two records made on one machine? Latencies of two are not compared unless the user says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import BadInput
from .record import Record

# Fields of `machine.environment()`. These make it another machine for a clock: refused.
MACHINE = (
    "cpu",
    "cpu_features",
    "board",
    "cores",
    "cores_total",
    "threads_per_core",
    "memory_bytes",
    "cgroup_cpu_quota",
    "cgroup_memory_bytes",
    "governor",
    "hypervisor",
    "system",
    "gpu",
    "gpu_driver",
)
# These may be the very thing that is compared: told, not refused. The load is of a moment and is in neither.
SOFTWARE = ("kernel", "clock_source", "python", "versions", "git_commit")

_MEMORY_TOLERANCE = 0.05  # a kernel keeps some memory to itself, and another version keeps another amount


def differing(
    one: Mapping[str, Any], other: Mapping[str, Any], fields: Sequence[str] = (*MACHINE, *SOFTWARE)
) -> dict[str, tuple[Any, Any]]:
    """Fields in which two environments differ, with both values; a package's version is `versions.<package>`.

    A field that one of them lacks (an older record) says nothing and is left out. None is a value: "unlimited",
    "none", or "the system does not tell".
    """
    found: dict[str, tuple[Any, Any]] = {}
    for name in fields:
        if name not in one or name not in other:
            continue
        if name == "versions":
            found |= _versions(one[name], other[name])
        elif not _same(name, one[name], other[name]):
            found[name] = (one[name], other[name])
    return found


def _versions(one: Mapping[str, str], other: Mapping[str, str]) -> dict[str, tuple[Any, Any]]:
    pairs = {package: (one.get(package), other.get(package)) for package in sorted({*one, *other})}
    return {f"versions.{package}": pair for package, pair in pairs.items() if pair[0] != pair[1]}


def _same(name: str, one: Any, other: Any) -> bool:
    if name == "memory_bytes" and one and other:
        return abs(one - other) <= _MEMORY_TOLERANCE * max(one, other)
    return bool(one == other)


def describe(differences: Mapping[str, tuple[Any, Any]]) -> str:
    """In one line: `cpu: AMD EPYC / Cortex-A76; cores: 2 / 4`."""
    return "; ".join(f"{name}: {_word(one)} / {_word(other)}" for name, (one, other) in differences.items())


def _word(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def require_same_machine(records: Sequence[Record], names: Sequence[str] = ()) -> None:
    """Refuse to set latencies of two machines side by side.

    Args:
        names: how the user calls each record, such as by its file; by its number otherwise.

    Raises:
        BadInput: a field of `MACHINE` differs; names the fields.
    """
    called = names or [f"record {index + 1}" for index in range(len(records))]
    for record, name in zip(records[1:], called[1:], strict=True):
        found = differing(records[0].environment, record.environment, MACHINE)
        if found:
            raise BadInput(
                f"{called[0]} and {name} are of two machines ({describe(found)})",
                "latencies measured on one machine",
                "measure both on the same one, or pass --across-machines to see them side by side all the same",
            )
