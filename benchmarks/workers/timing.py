"""The timed loops, by regime. Nothing but the call stands between two readings of the clock."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from time import perf_counter_ns as clock
from typing import Any

import numpy as np

from ...runtime.session import Session

Feeds = dict[str, np.ndarray]
Call = Callable[[Feeds], Any]
STAGES = ("decode", "preprocess", "inference", "postprocess")


def prolonged(call: Call, delay: float) -> Call:
    """The same call, then spinning for `delay` times its duration; the call itself where there is no delay."""
    if not delay:
        return call

    def slow(feeds: Feeds) -> Any:
        start = clock()
        found = call(feeds)
        now = clock()
        end = now + int((now - start) * delay)
        while clock() < end:
            pass
        return found

    return slow


def back_to_back(call: Call, feeds: Feeds, seconds: float, min_calls: int) -> list[int]:
    """One call after the other: caches and clocks stay hot."""
    taken: list[int] = []
    now = clock()
    end = now + int(seconds * 1e9)
    while now < end or len(taken) < min_calls:
        start = clock()
        call(feeds)
        now = clock()
        taken.append(now - start)
    return taken


def paced(call: Call, feeds: Feeds, seconds: float, min_calls: int, fps: float) -> list[int]:
    """One call every 1/fps seconds, as a camera delivers; asleep in between. A late call drops the frames it missed."""
    taken: list[int] = []
    period = int(1e9 / fps)
    now = clock()
    due, end = now + period, now + int(seconds * 1e9)
    while now < end or len(taken) < min_calls:
        time.sleep(max(0, due - clock()) / 1e9)
        start = clock()
        call(feeds)
        now = clock()
        taken.append(now - start)
        due += period * max(1, -(-(now - due) // period))
    return taken


def in_flight(session: Session, feeds: Feeds, seconds: float, min_calls: int) -> list[int]:
    """Two requests a lane kept in flight: nanoseconds from submission to completion, in order of submission."""
    waiting: deque[tuple[int, Future[Any], list[int]]] = deque()
    taken: list[int] = []
    end = clock() + int(seconds * 1e9)

    def collect() -> None:
        start, future, done = waiting.popleft()
        future.result()
        taken.append((done[0] if done else clock()) - start)

    while clock() < end or len(taken) < min_calls:
        done: list[int] = []
        start = clock()
        future = session.submit(feeds)
        future.add_done_callback(lambda _, done=done: done.append(clock()))  # type: ignore[misc]
        waiting.append((start, future, done))
        if len(waiting) >= 2 * session.requested.lanes:
            collect()
    while waiting:
        collect()
    return taken


def stages(session: Session, photos: list[Path]) -> list[list[int]]:
    """Photo to label, split as `STAGES`: one row a photo; its bytes are in memory before the clock starts."""
    from ...runtime.classifier import Classifier  # Pillow: no other loop needs it
    from ...runtime.decode import decode
    from ...runtime.preprocess import fit

    classifier = Classifier(session)
    rows = []
    for content in [photo.read_bytes() for photo in photos]:
        times = [clock()]
        image = decode(content)
        times.append(clock())
        prepared = fit(image, classifier.preprocess)
        times.append(clock())
        logits = classifier(prepared[None])
        times.append(clock())
        classifier.rank(logits)
        times.append(clock())
        rows.append([int(step) for step in np.diff(times)])
    return rows
