"""Every error that Tiffin raises on purpose, as one tree.

    TiffinError                 exit 1
    ├── BadInput                exit 2   what the user handed over cannot be used
    │   ├── BadArtifact                  manifest, file or digest does not hold
    │   ├── BadDataset                   no photos, no labels, unreadable photo
    │   ├── NotTold                      a source does not say all of itself, and it was not told
    │   ├── Overlap                      one photo in two roles
    │   └── BadDialect                   an int8 graph in another engine's dialect
    ├── EngineMissing           exit 1   the engine is not installed, or lacks its driver
    ├── EngineFailed            exit 1   the engine refused or failed
    ├── ParityFailed            exit 1   an export left its tolerance
    ├── NothingFits             exit 1   no candidate of a search meets the budget
    ├── NotCertified            exit 1   known to answer worse on this class of CPU, or nothing in a box is known
    ├── WorkerFailed            exit 1   a worker process died, hung or answered garbage
    ├── Busy                    exit 1   the queue in front of an engine is full
    └── TimedOut                exit 1   no answer within the time that the caller gave

Each says what failed, what was expected and what to do. Ctrl-C leaves with 130.
"""

from __future__ import annotations

import shlex


class TiffinError(Exception):
    """Root of the tree.

    Args:
        what: what failed, with the offending name or value.
        expected: what would have been right.
        fix: what the user can do now; a suggested command is written as `tiffin ...` in backquotes, by `command`
            where it names what the user has.
    """

    exit_code = 1

    def __init__(self, what: str, expected: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.expected = expected
        self.fix = fix

    def __str__(self) -> str:
        lines = [self.what]
        if self.expected:
            lines.append(f"  expected: {self.expected}")
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)


class BadInput(TiffinError):
    """What the user handed over cannot be used."""

    exit_code = 2


class BadArtifact(BadInput):
    """A manifest, a file or a digest of an artifact does not hold."""


class BadDataset(BadInput):
    """Photos or labels are missing, unreadable or inconsistent."""


class NotTold(BadInput):
    """A source of a trained classifier does not say all of itself, and the rest was not told."""


class Overlap(BadInput):
    """One photo was found in two roles that must be disjoint."""


class BadDialect(BadInput):
    """An int8 graph is written in a dialect that this engine reads wrongly or not at all."""


class EngineMissing(TiffinError):
    """The engine is not installed, or what it needs (a driver, a device) is absent."""


class EngineFailed(TiffinError):
    """The engine refused the model or failed while running it."""


class ParityFailed(TiffinError):
    """An exported model's answers left their tolerance."""


class WorkerFailed(TiffinError):
    """A worker process died, hung or answered garbage."""


class NothingFits(TiffinError):
    """No candidate of a search meets the budget; the message names the nearest."""


class NotCertified(TiffinError):
    """An artifact is known to answer worse on this class of CPU, or no variant of a box is known to answer well."""


class Busy(TiffinError):
    """The queue in front of an engine is full, and the caller did not want to wait."""


class TimedOut(TiffinError):
    """No answer came within the time that the caller gave."""


def command(*words: object, **options: object) -> str:
    """A command of ours as a shell takes it: `command("bench", folder, batch=2)` is `tiffin bench FOLDER --batch 2`.

    Args:
        words: its name and arguments. A path that begins with a dash gets ./ before it: else it would be an option.
        options: None and False are left out, True is a flag, a list is an option that repeats.
    """
    told = [_argument(word) for word in words]
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            told.append(option)
        elif value is not None and value is not False:
            told += [part for each in (value if isinstance(value, list) else [value])
                     for part in (option, _argument(each))]  # fmt: skip
    return shlex.join(["tiffin", *told])


def _argument(word: object) -> str:
    text = str(word)
    return f"./{text}" if text.startswith("-") else text


def first_line(error: BaseException) -> str:
    """What a library's error says first, at most 300 characters, or its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
