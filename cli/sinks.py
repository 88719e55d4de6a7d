"""Where answers go: a table, JSON Lines or CSV; to standard output, or to a file that is never half-written."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadInput
from ..words import printable
from . import output

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    from ..runtime import Guess
    from ..runtime.items import Answer

UNKNOWN = "unknown"
_ENDINGS = {".jsonl": "jsonl", ".csv": "csv"}


def kind_of(out: Path | None) -> str:
    """The kind of `Form` that a file's name asks for; a table elsewhere, which nobody can go on with."""
    return _ENDINGS.get(out.suffix.lower(), "table") if out else "table"


@dataclass(frozen=True)
class Form:
    """How an answer is written.

    Args:
        kind: "table", "jsonl" or "csv".
        top: labels an answer.
        threshold: labels with a lower score are left out.
        unknown: an answer whose best score is lower is "unknown"; None knows everything.
    """

    kind: str
    top: int
    threshold: float = 0.0
    unknown: float | None = None

    def head(self) -> str:
        """What comes before the first answer."""
        if self.kind != "csv":
            return ""
        columns = [f"{what}_{place}" for place in range(1, self.top + 1) for what in ("label", "score")]
        return _csv(["photo", "known", *columns, "prepare_s", "run_s", "error"])

    def lines(self, answer: Answer) -> str:
        """One answer, ended by a line end."""
        return {"table": self._table, "jsonl": self._jsonl, "csv": self._csv}[self.kind](answer)

    def knows(self, answer: Answer) -> bool:
        """False where the best score is too low."""
        from ..runtime.classifier import is_known

        return is_known(answer.guesses, self.unknown)

    def _shown(self, answer: Answer) -> Sequence[Guess]:
        return [guess for guess in answer.guesses if guess.score >= self.threshold]

    def _table(self, answer: Answer) -> str:
        name = printable(answer.name)
        if answer.error:
            return f"{name}  not answered\n"
        times = f"(prepare {answer.prepare_s * 1e3:.1f} ms, run {answer.run_s * 1e3:.1f} ms)"
        rows = [] if self.knows(answer) else [f"          {UNKNOWN}"]
        rows += [f"  {guess.score:6.1%}  {guess.label}" for guess in self._shown(answer)]
        return "\n".join([f"{name}  {times}", *rows]) + "\n"

    def _jsonl(self, answer: Answer) -> str:
        if answer.error:
            return _json({"photo": answer.name, "error": _one_line(answer)})
        body = {
            "photo": answer.name,
            "known": self.knows(answer),
            "top": [asdict(guess) for guess in self._shown(answer)],
            "prepare_s": answer.prepare_s,
            "run_s": answer.run_s,
        }
        return _json(body)

    def _csv(self, answer: Answer) -> str:
        if answer.error:
            return _csv([answer.name, "", *[""] * (2 * self.top), "", "", _one_line(answer)])
        cells = [cell for guess in self._shown(answer) for cell in (guess.label, f"{guess.score:.6f}")]
        padding = [""] * (2 * self.top - len(cells))
        known = "true" if self.knows(answer) else "false"
        return _csv([answer.name, known, *cells, *padding, f"{answer.prepare_s:.6f}", f"{answer.run_s:.6f}", ""])


def _one_line(answer: Answer) -> str:
    return " ".join(str(answer.error).split())


def _json(body: dict[str, Any]) -> str:
    line = json.dumps(body, ensure_ascii=False)
    # A file name that is no UTF-8 is escaped: JSON is UTF-8.
    return (line if _is_text(line) else json.dumps(body)) + "\n"


def _is_text(line: str) -> bool:
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    return True


def _csv(cells: Sequence[str]) -> str:
    from ..records.spreadsheet import inert

    text, cells = io.StringIO(), [inert(cell) for cell in cells]
    # The writer leaves a lone carriage return bare, which its reader refuses.
    bare = any("\r" in cell for cell in cells)
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if bare else csv.QUOTE_MINIMAL).writerow(cells)
    return text.getvalue()


class Sink:
    """Writes answers as they come.

    A file is only ever appended to, a whole answer at a time: a kill leaves what was written, at most one torn line
    at its end, which `resume` cuts off.

    Args:
        out: the file, or None for standard output.
        resume: go on with a file; `answered` then says whose answers it has.

    Raises:
        BadInput: it is no regular file, holds something and `resume` is false, is of another form, or is not writable.
    """

    def __init__(self, form: Form, out: Path | None, resume: bool = False) -> None:
        self._form, self._out = form, out
        self.answered: frozenset[str] = frozenset()
        self._file: int | None = None
        if out is not None:
            self._open(out, resume)
        elif isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="surrogateescape")  # names that are no UTF-8 keep their bytes
        if not self._length:
            self._put(form.head())

    _length = 0

    def write(self, answer: Answer) -> None:
        """One answer.

        Raises:
            BadInput: the disk is full; what was written before stays whole.
            BrokenPipeError: nobody reads standard output any more.
        """
        self._put(self._form.lines(answer))

    def _open(self, out: Path, resume: bool) -> None:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            output.require_file(out)
            self._file = os.open(out, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
            whole = out.stat().st_size
            if whole and not resume:
                os.close(self._file)
                raise BadInput(
                    f"{out}: is there already", "a new file", "pass --resume to go on with it, or another --out"
                )
            self.answered, self._length = _read_answered(out, self._form)
            os.ftruncate(self._file, self._length)
            os.lseek(self._file, self._length, os.SEEK_SET)
        except OSError as error:
            raise self._unwritable(error) from error

    def _put(self, text: str) -> None:
        if self._file is None:
            self._say(text)
            return
        data = text.encode(errors="surrogateescape")
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._length)
            raise self._unwritable(error) from error
        self._length += len(data)

    def _say(self, text: str) -> None:
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is buffered would fail again at exit
            raise BadInput(f"cannot write to standard output ({error.strerror})", "room for the answers",
                           "make room, or name a file: --out answers.jsonl") from error  # fmt: skip

    def _unwritable(self, error: OSError) -> BadInput:
        return BadInput(f"cannot write {self._out} ({error.strerror})", "a file in a writable folder with room",
                        "make room and go on with --resume, or choose another --out")  # fmt: skip

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *about: object) -> None:
        self.close()


def _read_answered(out: Path, form: Form) -> tuple[frozenset[str], int]:
    """Names that a file has answers of, without those that had errors, and the length of its whole lines.

    Raises:
        BadInput: it was not written in this form.
    """
    data = out.read_bytes()
    data = data[: _whole(data, form)]
    if form.kind == "table" and data:
        raise BadInput(f"{out}: a table cannot be gone on with", "JSON Lines or CSV", "pass --jsonl or --csv")
    try:
        text = data.decode(errors="surrogateescape")
        if form.kind == "csv":
            return _csv_names(text, form), len(data)
        bodies = [json.loads(line) for line in text.split("\n") if line]
        return frozenset(body["photo"] for body in bodies if "error" not in body), len(data)
    except (ValueError, KeyError, TypeError, IndexError, csv.Error) as error:
        raise BadInput(f"{out}: holds no answers as {form.kind} ({error})", "a file that was written so",
                       "choose another --out") from error  # fmt: skip


def _whole(data: bytes, form: Form) -> int:
    """Bytes up to the last answer's end; in CSV a line's end inside quotes, so after an odd number of them, is none."""
    end = data.rfind(b"\n") + 1
    while form.kind == "csv" and data.count(b'"', 0, end) % 2:
        end = data.rfind(b"\n", 0, end - 1) + 1
    return end


def _csv_names(text: str, form: Form) -> frozenset[str]:
    from ..records.spreadsheet import without_guard

    rows = list(csv.reader(io.StringIO(text, newline="")))
    if rows and _csv(rows[0]) != form.head():
        raise ValueError("other columns")
    return frozenset(without_guard(row[0]) for row in rows[1:] if not row[-1])
