"""Where the photos come from: a named folder, the cache, the official archive, or the synthesized set."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from ..artifact.files import sha256_file
from ..errors import BadDataset
from ..machine import cache_folder
from .dataset import Dataset
from .layouts import open_dataset

_log = logging.getLogger(__name__)

REPOSITORY = "https://github.com/marcusklasson/GroceryStoreDataset"
ARCHIVE_URL = f"{REPOSITORY}/archive/fc80ba9.zip"
# What is pinned is the content, by `content_hash` of a copy of the dataset: GitHub does not promise that the bytes of
# an archive stay the same. The archive itself could not be fetched where this was written; $TIFFIN_DATA_SHA256 pins
# its bytes instead.
CONTENT_SHA256 = "0c2b3eccf0710b79e4d1e5b3fec6e13b152625383214a2440eba5bcdc691bfd5"
SYNTHESIZED = Path(__file__).parent / "synthesized"
_BY_HAND = f"`git clone {REPOSITORY}`, then give its folder with --data or $TIFFIN_DATA"


class _Unavailable(BadDataset):
    """The archive cannot be had here and now, by nobody's mistake: `find_dataset` goes on without it."""


def find_dataset(
    explicit: Path | None = None,
    progress: bool = False,
    quiet: bool = False,
    url: str = ARCHIVE_URL,
    sha256: str | None = None,
) -> Dataset:
    """The dataset to work with: `explicit`, else $TIFFIN_DATA, else Grocery Store, cached or downloaded.

    If that can be neither found nor downloaded: the synthesized set that ships with Tiffin, with a warning
    that gives the reason. `Dataset.kind` tells which it is.

    Args:
        explicit: folder that the user named.
        progress: show a bar on stderr while downloading.
        quiet: log the fall-back at debug level instead of warning.
        url, sha256: as in `download_grocery_store`.

    Raises:
        BadDataset: a named folder is missing or unreadable, or the download is not what was promised.
    """
    named = explicit or (Path(os.environ["TIFFIN_DATA"]) if os.environ.get("TIFFIN_DATA") else None)
    if named:
        return _named(named, "--data" if explicit else "$TIFFIN_DATA")
    try:
        target = cache_folder() / "grocery-store"
        if target.exists():
            return _cached(target)
        return download_grocery_store(target, progress, url, sha256)
    except _Unavailable as reason:
        _log.log(logging.DEBUG if quiet else logging.WARNING, "using the synthesized set instead: %s", reason)
    return synthesized()


def _named(folder: Path, source: str) -> Dataset:
    if not folder.exists():
        what = f"{folder}, given by {source}, is not there"
        raise BadDataset(what, "a folder with a dataset", f"correct {source}")
    return open_dataset(folder)


def _cached(folder: Path) -> Dataset:
    try:
        return open_dataset(folder)
    except BadDataset as error:
        raise BadDataset(error.what, error.expected, f"delete {folder}; it is then made anew") from error


def synthesized() -> Dataset:
    """The small set of drawn pictures that ships with the package; no evidence of accuracy on photos.

    Raises:
        BadDataset: it is not there: the installation is incomplete.
    """
    if not SYNTHESIZED.is_dir():
        raise BadDataset(f"{SYNTHESIZED} is not there", "the synthesized set within the package", _BY_HAND)
    return open_dataset(SYNTHESIZED)


def download_grocery_store(
    target: Path, progress: bool = False, url: str = ARCHIVE_URL, sha256: str | None = None
) -> Dataset:
    """Download the Grocery Store archive, check its hash, and unpack its `dataset/` folder as `target`.

    `target` appears only when all of it is there and was read as a dataset; a failure leaves nothing behind.

    Args:
        target: folder to make; its parent is made if need be.
        progress: show a bar on stderr.
        url: zip archive with one top folder that has `dataset/`, as GitHub makes them.
        sha256: the archive's hash, hex; None takes $TIFFIN_DATA_SHA256; without either, the content must be
            that of `CONTENT_SHA256`.

    Raises:
        BadDataset: the archive cannot be fetched, has another hash or content, or holds no dataset.
    """
    promised = (sha256 or os.environ.get("TIFFIN_DATA_SHA256") or "").strip().lower() or None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
            archive = _fetch(url, promised, Path(scratch), progress)
            draft = _unpack(archive, Path(scratch) / "dataset")
            open_dataset(draft)
            if promised is None:
                _check_content(draft)
            _take_place(draft, target)
    except OSError as error:
        raise _Unavailable(f"cannot download to {target} ({error})", "a writable folder", _BY_HAND) from error
    return open_dataset(target)


def content_hash(root: Path) -> str:
    """sha256 over name and sha256 of the lists, the classes, and every photo that the lists name, sorted by name."""
    lists = [f"{split}.txt" for split in ("train", "val", "test")]
    names = [line.split(",")[0] for name in lists for line in (root / name).read_text().splitlines() if line.strip()]
    lines = (f"{name} {sha256_file(root / name)}\n" for name in sorted([*lists, "classes.csv", *names]))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _check_content(root: Path) -> None:
    found = content_hash(root)
    if found != CONTENT_SHA256:
        what = f"the downloaded photos and lists have content hash {found[:12]}…"
        raise BadDataset(what, f"{CONTENT_SHA256[:12]}…, that of the official dataset", _BY_HAND)


def _take_place(draft: Path, target: Path) -> None:
    try:
        draft.rename(target)
    except OSError:
        if not target.is_dir():  # else another process was first, with the same archive
            raise


def _fetch(url: str, sha256: str | None, folder: Path, progress: bool) -> Path:
    try:
        import pooch
    except ImportError as error:
        raise _Unavailable("no dataset is named, and pooch, which downloads one, is not installed", "labelled photos",
                           "give --data FOLDER, TIFFIN_DATA, or pip install 'tiffin[build]'") from error  # fmt: skip
    pooch.get_logger().setLevel(logging.ERROR)
    fetcher = pooch.HTTPDownloader(progressbar=progress, timeout=30)  # seconds without an answer
    try:
        return Path(pooch.retrieve(url, sha256 and f"sha256:{sha256}", "archive.zip", folder, downloader=fetcher))
    except OSError as error:  # requests' errors are OSErrors, some of them ValueErrors as well
        raise _Unavailable(f"{url} cannot be fetched ({error})", "an answer from it", _BY_HAND) from error
    except ValueError as error:
        what = f"{url}: what came is not what was promised ({error})"
        raise BadDataset(what, f"an archive with sha256 {sha256}", _BY_HAND) from error


def _inner(info: zipfile.ZipInfo) -> PurePosixPath | None:
    """Path below the archive's `TOP/dataset/`, or None for what is not a file there.

    Raises:
        BadDataset: a path that leads out of the folder, or a link.
    """
    path = PurePosixPath(info.filename)
    escapes = path.is_absolute() or ".." in path.parts or "\\" in info.filename or ":" in info.filename
    if escapes or stat.S_ISLNK(info.external_attr >> 16):
        what = f"archive entry {info.filename!r} leads elsewhere"
        raise BadDataset(what, "plain files below one folder", _BY_HAND)
    within = len(path.parts) > 2 and path.parts[1] == "dataset" and not info.is_dir()
    return PurePosixPath(*path.parts[2:]) if within else None


def _unpack(archive: Path, folder: Path) -> Path:
    """Write the archive's `TOP/dataset/` files below `folder`, and return it.

    Raises:
        BadDataset: not a zip, a broken one, one with unsafe entries, or one without `dataset/`.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [(info, inner) for info in opened.infolist() if (inner := _inner(info))]
            for info, inner in members:
                (folder / inner).parent.mkdir(parents=True, exist_ok=True)
                with opened.open(info) as source, (folder / inner).open("wb") as sink:
                    shutil.copyfileobj(source, sink)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, zlib.error) as error:
        raise BadDataset(f"{archive.name}: {error}", "a whole zip archive", _BY_HAND) from error
    if not members:
        raise BadDataset(f"{archive.name}: no dataset/ folder in it", f"an archive of {REPOSITORY}", _BY_HAND)
    return folder
