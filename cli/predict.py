"""The command that answers: predict. It needs no torch and no onnx."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import BadInput
from ..words import printable
from . import options, render

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    from ..runtime.items import Answer
    from .sinks import Sink

_EVERY_S = 0.2  # the progress line


def register(app: typer.Typer) -> None:
    """Add this file's command."""
    app.command()(predict)


def predict(
    artifact: Annotated[
        str, typer.Argument(help="The artifact's folder, or a .tiffin file; FOLDER@BACKEND runs it on another engine.")
    ],
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Photos, folders, quoted globs, videos, camera:0, rtsp://…; - reads paths from standard input.",
            show_default=False,
        ),
    ],
    backend: options.Backend = None,
    threads: options.Threads = None,
    precision: options.Precision = None,
    lanes: options.Lanes = None,
    priority: options.Priority = None,
    cpus: options.Cpus = None,
    cache: options.Cache = None,
    top: Annotated[int, typer.Option(min=1, help="How many labels.")] = 5,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Leave out labels with a lower score.")] = 0.0,
    unknown: Annotated[
        float | None, typer.Option(min=0, max=1, help="Say unknown where the best score is lower (docs/confidence.md).")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Photos a run.")] = 1,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads that prepare photos. Default: cores.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Of a video, one frame of so many.")] = 1,
    fps: Annotated[float | None, typer.Option(help="Of a video, at most so many frames a second of its time.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Watch the folders: answer each new photo, for ever.")] = False,
    zero: Annotated[bool, typer.Option("--null", "-0", help="Paths on standard input end with NUL.")] = False,
    as_json: Annotated[bool, typer.Option("--jsonl", "--json", help="Print a JSON object a photo.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, a row a photo.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="File to append to, instead of printing; .jsonl and .csv say in what form.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with --out: skip what it answers.")] = False,
    allow_uncertified: Annotated[
        bool, typer.Option("--allow-uncertified", help="Run what is known to answer worse on this class of CPU.")
    ] = False,
) -> None:
    """Labels of photos, videos or cameras. The likeliest are written as they come."""
    from ..runtime import Classifier, Session, resolve
    from ..runtime.sources import Options, open_words
    from .sinks import Form, Sink, kind_of

    if as_json and as_csv:
        raise BadInput("--jsonl with --csv", "one of them")
    if resume and out is None:
        raise BadInput("--resume without --out", "the file to go on with", "name it: --out answers.jsonl")
    if "" in sources:
        raise BadInput("an empty source", "a photo, a folder or another source")
    form = Form("jsonl" if as_json else "csv" if as_csv else kind_of(out), top, threshold, unknown)
    source = open_words(sources, Options(every, fps, watch, zero))
    changes = options.run_changes(threads, precision, lanes, priority, cpus, cache)
    folder, engine = options.split_engine(artifact)
    loaded, run = resolve(folder, engine or backend, allow_uncertified, **changes)
    with Session(loaded, run) as session, _unread_is_fine(), Sink(form, out, resume) as sink:
        classifier = Classifier(session)
        render.echo_session(session)
        classifier.warm_up(batch)
        left = (item for item in source.items if item.name not in sink.answered)
        if resume:
            render.say(f"{out}: {len(sink.answered)} are answered already")
        answers = classifier.stream(left, top, batch, workers)
        try:
            _write(answers, sink, Progress(None if resume else source.count))
        finally:
            source.stopped.set()
            if dropped := source.dropped():
                render.say(f"{dropped} frames were dropped for newer ones")


@contextlib.contextmanager
def _unread_is_fine() -> Iterator[None]:
    """Whoever reads standard output may stop at any moment, before the first line too: `| head` has seen enough."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write(answers: Iterator[Answer], sink: Sink, progress: Progress) -> None:
    """All answers; errors are said at once and decide the exit code at the end."""
    failed = total = 0
    try:
        for answer in answers:
            total += 1
            if answer.error:
                failed += 1
                progress.clear()
                render.say("error: " + "\n".join(map(printable, str(answer.error).split("\n"))))
            sink.write(answer)
            progress.step()
    finally:
        progress.clear()
        answers.close()  # type: ignore[attr-defined]
    if failed:
        render.say(f"{failed} of {total} were not answered; the reasons stand above")
        raise typer.Exit(1)


class Progress:
    """Photos, photos a second and the time left, on a terminal's stderr."""

    def __init__(self, count: int | None) -> None:
        self._count, self._done, self._start, self._shown = count, 0, time.monotonic(), 0.0

    def step(self) -> None:
        """One more is done."""
        self._done += 1
        now = time.monotonic()
        if now - self._shown < _EVERY_S or not render.is_watched():
            return
        self._shown, rate = now, self._done / max(now - self._start, 1e-9)
        words = f"{self._done}" + (f" of {self._count}" if self._count is not None else "") + f", {rate:.1f} a second"
        if self._count is not None:
            words += f", {max(0, self._count - self._done) / rate:.0f} s left"
        render.redraw(words)

    def clear(self) -> None:
        """Take the line away before something else is said."""
        if self._shown:
            render.redraw("", "\r")
