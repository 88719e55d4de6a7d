"""Files and folders that are written whole or not at all.

Drafts are made as any file is, so that they have the permissions that the umask leaves.
`shutil` brings all that unpacks archives; who only reads an artifact does without.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

from ..errors import BadInput


def sha256_file(path: Path) -> str:
    """sha256 of a file's content, hex."""
    with path.open("rb") as file:
        return sha256_of(file)


def sha256_of(file: IO[bytes]) -> str:
    """sha256 of what is left to read of an open file, hex."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def replace_files(contents: Mapping[Path, bytes | Callable[[IO[bytes]], None]]) -> None:
    """All files or none: none is renamed before every one lies on the disk, nor where a folder is in its way.

    Args:
        contents: of each file, or what writes it. Where one is a link, the link stays, and what it names is replaced.

    Raises:
        OSError: it cannot be written (a full disk); what was there before is left as it was. Of several files, only a
            rename that fails after another's (a process killed in between, permissions) leaves old beside new.
    """
    contents = {Path(os.path.realpath(path)): content for path, content in contents.items()}
    for path in contents:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    drafts = {path: _draft_of(path) for path in contents}
    try:
        for path, content in contents.items():
            with drafts[path].open("xb") as file:
                if callable(content):
                    content(file)
                else:
                    file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path, drafted in drafts.items():
            drafted.replace(path)
    except BaseException:
        for drafted in drafts.values():
            drafted.unlink(missing_ok=True)
        raise


def replace_name(path: Path, content: bytes) -> None:
    """Write a small file under this very name: where it is a link, the link goes, and what it names stays.

    Raises:
        OSError: it cannot be written; what was there before is left as it was.
    """
    drafted = _draft_of(path)
    try:
        drafted.write_bytes(content)
        drafted.replace(path)
    finally:
        drafted.unlink(missing_ok=True)


def _draft_of(path: Path) -> Path:
    """Beside it, hidden, of a name that nobody else takes: in containers all processes have the same number."""
    return path.with_name(f".{path.name}.{os.urandom(6).hex()}")


@contextlib.contextmanager
def replaced_folder(target: Path, fix: str, keep: bool = False) -> Iterator[Path]:
    """A new folder beside `target` that takes its place, synced, only when the block ends well; else it goes.

    An older one is moved aside first: who opens it between the two renames finds none, and where the power fails there,
    it lies beside under a hidden name that ends in `.old`.

    Args:
        target: where it is a link, the link stays, and what it names is replaced.
        fix: what the user can do where it cannot be written.
        keep: leave one that is there when the block ends: another process was faster with the same content.

    Raises:
        BadInput: the parent is not writable, the disk is full, or the block could not read a file elsewhere.
    """
    import shutil

    target = Path(os.path.realpath(target))  # `Path.resolve` raises on links that go round
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = _draft_of(target)
        draft.mkdir()
    except OSError as error:
        raise BadInput(f"cannot write to {target.parent} ({error.strerror})", "a writable folder", fix) from error
    try:
        yield draft
        _sync(draft)
        _put_in_place(draft, target, keep)
    except OSError as error:
        reason = error.strerror or str(error)
        if _is_elsewhere(error, draft, target):
            raise BadInput(f"cannot read {error.filename} ({reason})", "a file that is there and readable") from error
        raise BadInput(f"cannot write {target} ({reason})", "room and permission to write", fix) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _is_elsewhere(error: OSError, draft: Path, target: Path) -> bool:
    """True if it names files, none of which is written here; a full disk names the source of a copy as well."""
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return bool(names) and not any(name == str(target) or name.startswith(str(draft)) for name in names)


def _put_in_place(draft: Path, target: Path, keep: bool) -> None:
    import shutil

    old = draft.with_name(draft.name + ".old")
    try:
        if target.exists() and not keep:
            target.rename(old)
        draft.rename(target)
    except OSError:
        if not (keep and target.exists()):
            raise
    finally:  # a signal may come between the two
        if old.exists() and not target.exists():
            old.rename(target)
        shutil.rmtree(old, ignore_errors=True)


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("r+b" if os.name == "nt" else "rb") as file:  # Windows flushes only what may be written
                os.fsync(file.fileno())
