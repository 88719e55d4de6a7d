"""A bundle's photos answered once more, by the artifact itself, here."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ... import machine
from ...artifact import Artifact, RunConfig
from ...benchmarks.accuracy import score
from ...benchmarks.candidate import Candidate
from ...data.dataset import Photo
from ...data.overlap import pixel_hash
from ...data.prepared import prepare_photos
from ...errors import BadDataset, BadInput
from ...records import Record, Subject
from ...records.estimate import Estimate
from ...records.paired import Flipped, agreement, flipped_photos
from ...runtime.sources.files import PHOTO_ENDINGS
from ..measured import cpu_class

_log = logging.getLogger(__name__)
_ENDINGS = PHOTO_ENDINGS | {".ppm"}
_OTHERS = ("robustness", "explain")  # kinds whose predictions are of spoilt photos, or of other stages


@dataclass(frozen=True)
class Again:
    """One row, answered again.

    Args:
        agreement: share of the photos with the same top-1 as in the record.
        changed: those with another.
        missing: pixel hashes of photos that were not found.
        elsewhere: in what engine or CPU this run differs from the record's; empty where the answers must be equal.
    """

    row: str
    agreement: Estimate
    changed: tuple[Flipped, ...]
    missing: tuple[str, ...]
    elsewhere: str = ""


def rows_of(record: Record, artifact: Artifact) -> list[Subject]:
    """Rows of real photos that this artifact answered natively."""
    return [
        subject for subject in record.subjects
        if subject.artifact == artifact.digest and subject.place == "native" and record.kind not in _OTHERS
        and subject.name in record.predictions and record.predictions[subject.name].kind == "photos"
    ]  # fmt: skip


def answer_again(
    record: Record, artifact: Artifact, data: Path, progress: Callable[[str, int], Callable[[int], None]]
) -> Iterator[Again]:
    """Answer each row's photos as the record says that they were asked.

    Args:
        data: folder in which the photos are looked for, by their pixels.
        progress: title and count → called with what is done.

    Raises:
        BadInput: none of the photos is there, or the record's request is none.
        EngineMissing, EngineFailed, WorkerFailed: it cannot be run here.
    """
    rows = rows_of(record, artifact)
    wanted = {digest for row in rows for digest in record.predictions[row.name].photos}
    looking = progress("looking for the photos", len(wanted))
    found = find_photos(data, wanted, _files(record), looking)
    if wanted and not found:
        raise BadInput(f"{data}: none of the {len(wanted):,} photos is in it", "the photos that were scored")
    with tempfile.TemporaryDirectory(prefix="tiffin-verify-") as cache:
        for row in rows:
            yield _row_again(record, row, artifact, found, Path(cache), progress)


def _files(record: Record) -> list[str]:
    """Names of the photos in their dataset, where the record tells them."""
    told = record.data.get("files")
    return [str(name) for name in told] if isinstance(told, list) else []


def _row_again(
    record: Record, row: Subject, artifact: Artifact, found: dict[str, Path], cache: Path,
    progress: Callable[[str, int], Callable[[int], None]],
) -> Again:  # fmt: skip
    told = record.predictions[row.name]
    kept = [at for at, digest in enumerate(told.photos) if digest in found]
    photos = [Photo(found[told.photos[at]], int(told.truth[at])) for at in kept]
    prepared = prepare_photos(photos, artifact.preprocess, cache)
    done = progress(f"answering again: {ascii(row.name)}", len(photos))
    answered, applied = score(Candidate(row.name, artifact, _run(row)), prepared, cache, done)
    before = told.rows(kept)
    missing = tuple(digest for digest in told.photos if digest not in found)
    return Again(row.name, agreement(answered, before), tuple(flipped_photos(answered, before)), missing,
                 _elsewhere(row, record.environment, applied))  # fmt: skip


def _run(row: Subject) -> RunConfig:
    try:
        return dataclasses.replace(RunConfig(**row.requested), cache=None)
    except (AttributeError, TypeError) as error:
        raise BadInput(f"row {ascii(row.name)}: a request that is none ({error})", "a RunConfig's fields") from error


def _elsewhere(row: Subject, environment: Any, applied: dict[str, object]) -> str:
    """In what this run differs from the record's, of what may change an answer."""
    here = machine.environment()
    pairs = {
        "engine": (row.applied.get("version"), applied.get("version")),
        "CPU class": (cpu_class(environment) or "unknown", cpu_class(here) or "unknown"),
        "architecture": (environment.get("system"), here["system"]),
    }
    return "; ".join(f"{name} {one}, here {other}" for name, (one, other) in pairs.items() if one != other)


def find_photos(
    data: Path, wanted: Collection[str], names: Sequence[str], progress: Callable[[int], None]
) -> dict[str, Path]:
    """Pixel hash → a file of that picture: those that the record names are tried first, then all in the folder."""
    found: dict[str, Path] = {}
    named = [data / name for name in names if ".." not in Path(name).parts and not Path(name).is_absolute()]
    for path in _each_once(named, data):
        if len(found) == len(wanted):
            break
        try:
            digest = pixel_hash(path)
        except BadDataset as error:
            _log.info("passed over: %s", error.what)
            continue
        if digest in wanted:
            found.setdefault(digest, path)
            progress(len(found))
    return found


def _each_once(named: Sequence[Path], data: Path) -> Iterator[Path]:
    seen = set()
    for path in named:
        if path.is_file():
            seen.add(path)
            yield path
    for path in sorted(data.rglob("*")):
        if path.suffix.lower() in _ENDINGS and path not in seen and path.is_file():
            yield path
