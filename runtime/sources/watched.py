"""A watched folder: what lies there, then what is written into it, each photo once and only when it is whole."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...errors import BadInput
from ..items import Item
from .files import below, is_photo

_LOOK_MS = 200
_SETTLE_S = 1.0  # unchanged for so long, where nobody can tell whether a file is closed

State = tuple[int, int, int]  # inode, bytes, time of the last change in ns


def require(folders: Sequence[Path]) -> None:
    """Before anything is run.

    Raises:
        BadInput: watchfiles is not installed, or a word is no folder.
    """
    for folder in folders:
        if not folder.is_dir():
            raise BadInput(f"{folder}: cannot be watched", "a folder")
    try:
        import watchfiles  # noqa: F401
    except ImportError as error:
        fix = "pip install 'tiffin[watch]'"
        raise BadInput("watching a folder needs watchfiles", "the extra `watch`", fix) from error


def items(folders: Sequence[Path], stopped: threading.Event) -> Iterator[Item]:
    """Photos as they become whole; a folder that vanishes is an item that says so, and the last."""
    import watchfiles

    changes = watchfiles.watch(
        *folders, watch_filter=None, debounce=_LOOK_MS, step=_LOOK_MS // 4, rust_timeout=_LOOK_MS,
        yield_on_timeout=True, stop_event=stopped, raise_interrupt=False, ignore_permission_denied=True,
    )  # fmt: skip
    waiting = Waiting()
    for looked, changed in enumerate(changes):
        if looked == 0:  # only now it watches: nothing falls between the listing and the watching
            waiting.add(path for folder in folders for path in below(str(folder)))
        for _, absolute in changed:
            waiting.add(_photos(absolute, folders))
        for path in waiting.whole():
            yield Item(path, path)
        gone = [folder for folder in folders if not folder.is_dir()]
        if gone:
            yield Item(str(gone[0]), BadInput(f"{gone[0]}: the watched folder has vanished", "a folder that stays"))
            return


def _photos(absolute: str, folders: Sequence[Path]) -> Iterator[str]:
    """The photo that changed, or those of a folder that was moved here: of them the system says nothing."""
    shown = _as_listed(absolute, folders)
    if shown and Path(shown).is_dir():
        with contextlib.suppress(BadInput):  # it has gone again
            yield from below(shown)
    elif shown and is_photo(shown):
        yield shown


def _as_listed(absolute: str, folders: Sequence[Path]) -> str | None:
    """The name that the listing gives it; None of what is hidden or in a hidden folder."""
    for folder in folders:
        if Path(absolute).is_relative_to(folder.resolve()):
            inside = Path(absolute).relative_to(folder.resolve())
            return None if any(part.startswith(".") for part in inside.parts) else str(folder / inside)
    return None


class Waiting:
    """Photos that are being written, and what was taken already."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[State, float]] = {}
        self._taken: dict[str, State] = {}

    def add(self, paths: Iterator[str]) -> None:
        """Look at these from now on; what was deleted is forgotten."""
        for path in paths:
            state = _state(path)
            if state is None:
                self._seen.pop(path, None)
                self._taken.pop(path, None)
            elif self._taken.get(path) != state:
                self._seen.setdefault(path, (state, time.monotonic()))

    def whole(self) -> Iterator[str]:
        """Those that are completely written by now, in the order in which they appeared."""
        for path, (before, since) in list(self._seen.items()):
            state = _state(path)
            if state is None:
                del self._seen[path]
            elif state != before:
                self._seen[path] = (state, time.monotonic())
            elif _is_settled(path, time.monotonic() - since):
                del self._seen[path]
                self._taken[path] = state
                yield path


def _state(path: str) -> State | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _is_settled(path: str, unchanged_s: float) -> bool:
    written = _is_being_written(path)
    return not written and (written is False or unchanged_s >= _SETTLE_S)


def _is_being_written(path: str) -> bool | None:
    """Whether somebody has it open for writing; None where the system or the file system does not tell.

    Linux grants a lease for reading only on a file that nobody has open for writing (fcntl(2), F_SETLEASE).
    """
    try:
        import fcntl

        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (ImportError, OSError):
        return None
    try:
        # Who opens it meanwhile sends the holder SIGIO, which would end the process; SIGURG is ignored by default.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except AttributeError:  # not on Linux
        return None
    except BlockingIOError:
        return True
    except OSError:  # another's file, or a file system without leases
        return None
    else:
        return False
    finally:
        os.close(descriptor)
