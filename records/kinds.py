"""Which of our JSON files one is: for the error about a file in another's place."""

from __future__ import annotations

from pathlib import Path

from ..errors import BadInput, command

RECORD, BASELINE, RESULT, MANIFEST = "a record", "a baseline", "the gate's result", "an artifact's manifest"
_KEYS = {"arrays_sha256": RECORD, "entries": BASELINE, "findings": RESULT, "producer": MANIFEST}


def require(wanted: str, raw: object, path: str) -> None:
    """Raises BadInput if what was read of `path` is another of our files: what it is, and which command takes it."""
    held = raw if isinstance(raw, dict) else {}
    found = next((kind for key, kind in _KEYS.items() if key in held), wanted)
    if found != wanted:
        raise BadInput(f"{path}: is {found}", wanted, _taken_by(found, path))


def _taken_by(kind: str, path: str) -> str:
    if kind == RECORD:
        return f"print it: `{command('show', path)}`; judge it: `{command('check', path)}`"
    if kind == BASELINE:
        shown, compared = command("baseline", "show", path), command("check", "RECORD", baseline=path)
        return f"print it: `{shown}`; compare with it: `{compared}`"
    if kind == RESULT:
        return f"put it on a page: `{command('report', 'RECORD', gate=path)}`"
    return f"measure the artifact: `{command('bench', Path(path).parent)}`"
