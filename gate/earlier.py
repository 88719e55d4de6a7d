"""The artifacts as they were: in another folder, or at a git revision, built there where it holds only the recipe."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..artifact.store import is_artifact
from ..errors import BadInput, TiffinError


@contextmanager
def earlier(folders: Sequence[Path], against: str, build: str | None = None) -> Iterator[list[Path]]:
    """Where the earlier version of each artifact lies, in the order given; what was checked out goes away at the end.

    Args:
        folders: the artifacts as they are now.
        against: an artifact's folder (for one artifact), a folder that holds artifacts of the same names, or a git
            revision of the repository that the artifacts lie in.
        build: shell command that makes the artifacts, run in the root of the checked-out revision; None where they
            are committed.

    Raises:
        BadInput: no such folder or revision, or an artifact that is not there.
        TiffinError: the build command failed.
    """
    place = Path(against)
    if not place.is_dir():
        with _checked_out(folders, against, build) as found:
            yield found
        return
    if build:
        raise BadInput(f"--build with the folder {against}", "a git revision to build, or no --build")
    if is_artifact(place):
        if len(folders) != 1:
            raise BadInput(f"{against} is one artifact, to compare {len(folders)} with", "one artifact",
                           "name a folder that holds artifacts of the same names")  # fmt: skip
        yield [place]
        return
    yield [_there(place / folder.name, against) for folder in folders]


@contextmanager
def _checked_out(folders: Sequence[Path], revision: str, build: str | None) -> Iterator[list[Path]]:
    root = _root(folders[0])
    inside = [_inside(folder, root) for folder in folders]
    commit = _commit(root, revision)
    with tempfile.TemporaryDirectory(prefix="tiffin-earlier-") as scratch:
        tree = Path(scratch) / "tree"
        _git(root, "worktree", "add", "--quiet", "--detach", str(tree), commit)
        try:
            if build:
                _run(build, tree, revision)
            yield [_there(tree / path, revision) for path in inside]
        except TiffinError as error:
            _restate(error, tree, revision)
            raise
        finally:
            _git(root, "worktree", "remove", "--force", str(tree))


def _restate(error: TiffinError, tree: Path, revision: str) -> None:
    """The checkout is gone when the error is read: its files are those of the revision."""
    error.what = error.what.replace(f"{tree}/", f"{revision}:")
    if str(tree) in error.fix:
        error.fix = f"in a checkout of {revision}: {error.fix.replace(f'{tree}/', '')}"


def _root(folder: Path) -> Path:
    try:
        return Path(_git(folder if folder.is_dir() else folder.parent, "rev-parse", "--show-toplevel"))
    except TiffinError as error:
        raise BadInput(
            f"{folder}: no git repository around it ({error.what})",
            "artifacts in a repository, or --against FOLDER",
        ) from error


def _inside(folder: Path, root: Path) -> Path:
    found = folder.absolute().resolve()
    if not found.is_relative_to(root.resolve()):
        raise BadInput(f"{folder} lies outside the repository {root}", "all artifacts in one repository")
    return found.relative_to(root.resolve())


def _commit(root: Path, revision: str) -> str:
    try:
        return _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except TiffinError as error:
        raise BadInput(
            f"{revision!r} is no folder and no git revision",
            "an artifact, a folder of artifacts, or a branch, tag or commit that is here",
            "in a shallow clone fetch it first: `git fetch origin REVISION`",
        ) from error


def _there(folder: Path, against: str) -> Path:
    if is_artifact(folder):
        return folder
    raise BadInput(
        f"{against}: no artifact {folder.name} in it",
        "an artifact of the same name to compare with",
        "if it is built and not committed, say how: --build 'COMMAND'",
    )


def _run(command: str, tree: Path, revision: str) -> None:
    done = subprocess.run(["sh", "-c", command], cwd=tree, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-5:])
        raise TiffinError(
            f"--build failed at {revision} with exit {done.returncode}:\n{last}",
            f"a command that makes the artifacts in a checkout of {revision}",
        )


def _git(folder: Path, *words: str) -> str:
    """Its output.

    Raises:
        TiffinError: git is not installed, or refuses.
    """
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
    except OSError as error:
        raise TiffinError(f"git cannot be run ({error})", "git, to check a revision out") from error
    if done.returncode:
        raise TiffinError(done.stderr.strip() or f"git {words[0]} failed", "a git repository")
    return done.stdout.strip()
