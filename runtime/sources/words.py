"""One word of the command line → the source that it names."""

from __future__ import annotations

import re
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import BadInput
from ..items import Item
from . import files, listed, live, video, watched

STDIN = "-"
VIDEO_ENDINGS = frozenset([
    ".3gp", ".avi", ".flv", ".h264", ".h265", ".hevc", ".m2ts", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4",
    ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv", ".y4m",
])  # fmt: skip
_STREAM = re.compile(r"[a-z][a-z0-9+.-]+://|lavfi:", re.IGNORECASE)
_CAMERA = re.compile(r"camera:(\d+)|(/dev/video\d+)")


@dataclass(frozen=True)
class Options:
    """How sources are read.

    Args:
        every: of a video's or camera's frames, each so-many-th.
        fps: at most so many frames a second of its own time; not together with `every`.
        watch: the words are folders, and what is written into them later counts too.
        nul: paths on stdin end in NUL instead of a line's end.
    """

    every: int = 1
    fps: float | None = None
    watch: bool = False
    nul: bool = False

    def sampling(self) -> video.Sampling:
        """Which frames are taken."""
        return video.Sampling(self.every, self.fps)


@dataclass
class Source:
    """Items to come, one iteration only.

    Args:
        items: in the order of the words.
        count: how many there are, where that is known.
        stopped: set it, and cameras and watched folders end.
        dropped: frames of live sources that came while the engine was busy.
    """

    items: Iterator[Item]
    count: int | None
    stopped: threading.Event
    dropped: Callable[[], int] = field(default=lambda: 0)


def open_words(words: Sequence[str], options: Options | None = None) -> Source:
    """What the words name.

    Raises:
        BadInput: a pattern or folder without photos, options that contradict each other, or a library is missing.
    """
    options = options or Options()
    _require_sense(words, options)
    stopped = threading.Event()
    if options.watch:
        return Source(watched.items([Path(word) for word in words], stopped), None, stopped)
    cameras: list[live.Latest] = []
    parts = [_part(word, options, stopped, cameras) for word in words]
    count = sum(map(len, parts)) if all(isinstance(part, list) for part in parts) else None  # type: ignore[arg-type]
    return Source(_chained(parts), count, stopped, lambda: sum(camera.dropped for camera in cameras))


def _require_sense(words: Sequence[str], options: Options) -> None:
    if options.every < 1 or (options.fps is not None and not 0 < options.fps < float("inf")):
        raise BadInput(f"every {options.every}, {options.fps} frames a second", "more than none")
    if options.every > 1 and options.fps is not None:
        raise BadInput("--every and --fps", "one of the two")
    if list(words).count(STDIN) > 1:
        raise BadInput("stdin is named twice", f"{STDIN} once")
    if options.nul and STDIN not in words:
        raise BadInput("NUL-separated paths, but none from stdin", f"{STDIN} among the sources")
    if options.watch:
        watched.require([Path(word) for word in words])


def _part(
    word: str, options: Options, stopped: threading.Event, cameras: list[live.Latest]
) -> list[str] | Iterator[Item]:
    """Paths where they are known already, else items to come."""
    if word == STDIN:
        return listed.items(options.nul)
    if match := _CAMERA.fullmatch(word):
        address = match[2] or f"/dev/video{match[1]}"
        return _live(word, video.Address(address, "v4l2"), options, stopped, cameras)
    if _STREAM.match(word):
        return _stream(word, options, stopped, cameras)
    if Path(word).suffix.lower() in VIDEO_ENDINGS or _is_pipe(word):
        video.require_library()
        return video.items(word, video.Address(word), options.sampling())
    return files.found(word)


def _stream(word: str, options: Options, stopped: threading.Event, cameras: list[live.Latest]) -> Iterator[Item]:
    address = video.address(word)
    if video.is_live(word):
        return _live(word, address, options, stopped, cameras)
    video.require_library()
    if video.is_http(word):
        return live.either(word, address, options.sampling(), stopped, cameras)
    return video.items(word, address, options.sampling())


def _live(
    word: str, address: video.Address, options: Options, stopped: threading.Event, cameras: list[live.Latest]
) -> Iterator[Item]:
    video.require_library()
    cameras.append(live.Latest(word, address, options.sampling(), stopped))
    return cameras[-1].items()


def _is_pipe(word: str) -> bool:
    try:
        return stat.S_ISFIFO(Path(word).stat().st_mode)
    except (OSError, ValueError):
        return False


def _chained(parts: Sequence[list[str] | Iterator[Item]]) -> Iterator[Item]:
    for part in parts:
        if isinstance(part, list):
            yield from (Item(path, path) for path in part)
        else:
            yield from part
