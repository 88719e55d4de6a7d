"""What people see: tables of 80 columns, notes below them, progress on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import command

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    from ..benchmarks.options import Status
    from ..runtime import Session

WIDTH = 80
_NARROWEST_NAME = 16
_KEPT = "\0"  # a blank at which no line may end


def say(line: str) -> None:
    """One line to stderr: what is being done."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201


def show(line: str) -> None:
    """One line to stdout: a result."""
    print(line)  # noqa: T201


def echo_options(**options: Any) -> None:
    """The options as applied."""
    say("options: " + ", ".join(f"{name.replace('_', '-')} {value}" for name, value in options.items()))


def echo_session(session: Session) -> None:
    """How a session runs, as applied."""
    applied, precision = session.applied, session.artifact.manifest.precision
    run = applied.run
    placed = {"priority": run.priority} if run.priority != "normal" else {}
    placed |= {"cpus": " ".join(map(str, run.cpus))} if run.cpus else {}
    kept = applied.details.get("cache", "")
    cache = kept if kept.startswith("off") else run.cache
    placed |= {"cache": cache} if cache else {}
    echo_options(artifact=session.artifact.folder.name, backend=run.backend, version=applied.version,
                 device=run.device, threads=run.threads, lanes=run.lanes, precision=precision,
                 float_layers=run.execution_precision, **placed)  # fmt: skip


def next_command(*words: object, **options: object) -> None:
    """What to run next, as `errors.command` takes it."""
    say(f"next: {command(*words, **options)}")


def is_watched() -> bool:
    """True if somebody looks: stderr is a terminal, and this is no CI."""
    return sys.stderr.isatty() and not os.environ.get("CI")


def redraw(line: str, end: str = "") -> None:
    """A line in place of the last one, on a terminal's stderr."""
    sys.stderr.write(f"\r{line[: WIDTH - 1]:<{WIDTH - 1}}{end}")
    sys.stderr.flush()


class TerminalProgress:
    """Lines, and one bar or status line at a time where somebody watches."""

    def say(self, line: str) -> None:
        """One line."""
        say(line)

    def timing(self, status: Status) -> None:
        """Who is timed, how well each ratio is known, the time: one line that redraws itself; nothing elsewhere."""
        if is_watched():
            redraw(_timing(status))

    def timed(self) -> None:
        """Clear the status line."""
        if is_watched():
            sys.stderr.write("\r" + " " * (WIDTH - 1) + "\r")
            sys.stderr.flush()

    def bar(self, name: str, total: int) -> Callable[[int], None]:
        """A bar that redraws itself; elsewhere one line."""
        if not is_watched():
            say(name)
            return lambda done: None

        def draw(done: int) -> None:
            filled = round(24 * done / total)
            end = "\n" if done >= total else ""
            sys.stderr.write(f"\r{name:<44} {'█' * filled:<24} {done}/{total}{end}")
            sys.stderr.flush()

        return draw

    def counted(self, name: str) -> Callable[[int, int], None]:
        """A bar for work that tells how much it is as it goes: call the result with what is done, and of how much."""
        draw: Callable[[int], None] | None = None

        def step(done: int, total: int) -> None:
            nonlocal draw
            draw = draw or self.bar(name, total)
            draw(done)

        return step


def _timing(status: Status) -> str:
    """Such as `launch 4: openvino int8  worst of 4 known to ±1.8 %  0:43 of at most 5:00`."""
    widths = [known.half_width for known in status.known.values() if known.half_width < 1]
    so_far = f"worst of {len(widths)} known to ±{max(widths):.1%}".replace("%", " %") if widths else "starting"
    time = f"{_clock(status.elapsed_s)} of at most {_clock(status.limit_s)}"
    head = f"launch {status.launch + 1}: {status.candidate}"
    return f"{head[: WIDTH - len(so_far) - len(time) - 5]}  {so_far}  {time}"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


@dataclass(frozen=True)
class Table:
    """Header and rows of text; columns but the first `left` are aligned right."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1

    def text(self, width: int = WIDTH) -> str:
        """For a terminal: the first column is wrapped where a row would be wider than `width`."""
        widths = [max(len(row[i]) for row in (self.header, *self.rows)) for i in range(len(self.header))]
        spare = width - sum(widths[1:]) - 2 * (len(widths) - 1)
        widths[0] = min(widths[0], max(_NARROWEST_NAME, spare))
        head = _wrapped_row(self.header, widths[0])
        rows = [line for row in self.rows for line in _wrapped_row(row, widths[0])]

        def line(row: Sequence[str]) -> str:
            cells = (
                c.ljust(w) if i < self.left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
            )
            return "  ".join(cells).rstrip()

        return "\n".join([*map(line, head), "  ".join("─" * w for w in widths), *map(line, rows)])

    @property
    def width(self) -> int:
        """Columns that it takes where nothing is wrapped."""
        widths = [max(len(row[i]) for row in (self.header, *self.rows)) for i in range(len(self.header))]
        return sum(widths) + 2 * (len(widths) - 1)

    def compact(self) -> Table:
        """Without the columns that say nothing."""
        kept = [i for i in range(len(self.header)) if i < self.left or any(row[i] for row in self.rows)]
        return Table([self.header[i] for i in kept], [[row[i] for i in kept] for row in self.rows], self.left)

    def markdown(self) -> str:
        """For a page."""
        rule = ["---" if i < self.left else "--:" for i in range(len(self.header))]
        return "\n".join("| " + " | ".join(row) + " |" for row in (self.header, rule, *self.rows))


def _wrapped_row(row: Sequence[str], width: int) -> list[Sequence[str]]:
    """One row as several, its first cell split over them."""
    import textwrap

    name, *cells = row
    first, *rest = textwrap.wrap(name, width, subsequent_indent="  ") or [""]
    return [[first, *cells], *([part] + [""] * len(cells) for part in rest)]


def wrapped(notes: Sequence[str], first: str = "", rest: str = "  ") -> str:
    """Notes as lines of at most 80 columns; what stands in backquotes is a command to copy, and stays on one line.

    Args:
        first, rest: what a note's first line begins with, and its other lines.
    """
    return "\n".join(_filled(note, first, rest) for note in notes)


def _filled(note: str, first: str, rest: str) -> str:
    import re
    import textwrap

    commands = re.findall(r"`[^`]+`", note)
    kept = re.sub(r"`[^`]+`", lambda found: found[0].replace(" ", _KEPT), note)
    fits = all(len(words) + len(rest) < WIDTH for words in commands)
    lines = textwrap.fill(kept, WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False,
                          break_long_words=fits)  # fmt: skip
    return lines.replace(_KEPT, " ")
