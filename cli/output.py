"""What a command does with the record it made: write it, print it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..artifact.certificate import MARGIN
from ..errors import BadInput, EngineMissing, command
from . import answers, falls, notes, plain, render, tables

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    from ..records import Record


def make_parent(out: Path, option: str = "--out") -> None:
    """Before minutes of measuring: can the record be written at all?

    Args:
        option: that named it.

    Raises:
        BadInput: it cannot.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(out, error.strerror, option) from error
    require_file(out, option)
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise _unwritable(out, "permission denied", option)


def prepare_record(out: Path) -> None:
    """Before minutes of measuring: `make_parent`, and the name leaves room for the arrays, which end in .npz beside it.

    Raises:
        BadInput: it cannot be written, or does not end in .json: `run.1` and `run.2` would share one `run.npz`.
    """
    make_parent(out)
    require_ending("--out", out, ".json")


def require_ending(option: str, path: Path | None, ending: str) -> None:
    """What is written is of this kind, so its name says so.

    Raises:
        BadInput: it does not.
    """
    if path is not None and path.suffix != ending:
        raise BadInput(f"{option} {path}", f"a file that ends in {ending}")


def require_file(out: Path, option: str = "--out") -> None:
    """Raises BadInput for what is there and no regular file: a device is read without end, a record replaces it."""
    if out.exists() and not out.is_file():
        raise _unwritable(out, "it is a folder" if out.is_dir() else "it is no regular file", option)


def _unwritable(out: Path, reason: str | None, option: str = "--out") -> BadInput:
    return BadInput(f"cannot write {out} ({reason})", "a file in a writable folder", f"choose another {option}")


def save(record: Record, out: Path) -> None:
    """Write a record.

    Raises:
        BadInput: it cannot be written (a full disk); what was there before is left as it was.
    """
    try:
        record.save(out)
    except OSError as error:
        raise _unwritable(out, error.strerror) from error


def save_text(text: str, out: Path, option: str = "--out") -> None:
    """Write a text file whole, or leave what was there.

    Raises:
        BadInput: it cannot be written (a full disk).
    """
    from ..artifact.files import replace_files

    try:
        replace_files({out: text.encode()})
    except OSError as error:
        raise _unwritable(out, error.strerror, option) from error


def finish(record: Record, out: Path, as_json: bool, reference: str) -> None:
    """Print, write, and say where.

    Raises:
        EngineMissing: nothing could run; see `keep` for the record.
    """
    nothing_ran = all(subject.reason for subject in record.subjects)
    try:
        print_record(record, reference, as_json)  # first: a full disk must not lose it
    finally:
        keep(record, out, nothing_ran)
    if nothing_ran:
        raise EngineMissing(
            "nothing could run here; the reasons stand above", "at least one engine", "see `tiffin backends`"
        )


def keep(record: Record, out: Path, is_empty: bool) -> None:
    """Write a record and say where; one that measured nothing is never written over another."""
    if is_empty and out.exists():
        render.say(f"{out}: kept as it was, since nothing was measured now")
        return
    save(record, out)
    say_record(out)


def say_record(out: Path) -> None:
    """Where a record lies, and how to print it again."""
    render.say(f"record: {out} (print it again: {command('show', out)})")


def print_record(record: Record, reference: str, as_json: bool, markdown: bool = False, details: bool = False) -> None:
    """Tables and notes, or JSON."""
    if record.kind == "robustness":
        render.show(falls.as_json(record, reference) if as_json else falls.as_text(record, reference, markdown))
        return
    from ..benchmarks.simulation import is_simulated
    from ..optimize.proof import not_faster, vnni_notes

    if as_json:
        render.show(plain.as_json(plain.record_json(record, reference)))
        return
    if record.predictions:
        marks = not_faster(record)
        main, said = tables.main_table(record, reference, marks), notes.record_notes(record, reference, marks)
        if any(subject.precision == "int8" and not is_simulated(subject) for subject in record.subjects):
            said += vnni_notes(record.environment)
    else:
        found = tables.speeds(record, reference)
        main, said = tables.speed_table(record, reference, found), notes.record_notes(record, reference, {})
        said += notes.precision_notes(record, found)
    shown = [main, tables.verdict_table(record, reference, MARGIN), tables.detail_table(record, reference)]
    if details:
        shown += [tables.stages_table(record), tables.cold_start_table(record), tables.sustained_table(record)]
        shown += [answers.answers_table(record, reference), answers.coarse_table(record, reference)]
        said += [
            *notes.sensor_notes(record),
            *answers.confidence_notes(record),
            *answers.answer_notes(record, reference),
        ]
    shown = [table.compact() for table in shown if table.rows]
    if markdown:
        parts = [notes.legend(record), *(table.markdown() for table in shown), "\n".join(f"- {note}" for note in said)]
    else:
        parts = [notes.legend(record), *(table.text() for table in shown), render.wrapped(said)]
    render.show(("" if markdown else "\n") + "\n\n".join(part for part in parts if part))
