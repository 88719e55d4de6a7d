"""An evidence bundle: written whole, and read so that every byte that is not as it was written is found.

bundle.json            the index: schema, its own sha256, each member's size and sha256, what is what
lineage/DIGEST/…       manifests of the artifact and its ancestors, certificates; model files where asked for
records/N-NAME.json    the records as they were measured, and .npz
photos/N-NAME.csv      what each row answered to each photo, derived from the record
figures.json           statistics derived from the records
policy.toml baseline.json gate.json report.html     where there are any
"""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...artifact.files import replace_files
from ...errors import BadInput
from .layout import (
    END,
    END_MARK,
    IN_DIRECTORY,
    INDEX,
    LOCAL,
    MOST_BYTES,
    Damage,
    contents,
    damages,
    index_digest,
    index_of,
    index_text,
    layout,
    require_members,
    strangers,
    zipped,
)

SCHEMA_VERSION = 1
_MOST_INDEX_BYTES = 16_000_000
_METHOD = 8  # where a local header says how its member is packed, two bytes; 0 is stored
_SHA256 = re.compile("[0-9a-f]{64}")
_MADE_BY = "a bundle that `tiffin evidence` wrote"


@dataclass(frozen=True)
class Bundle:
    """A bundle as it was found.

    Args:
        index: bundle.json; empty where it is damaged, and then nothing else can be told.
        members: content of each member by its name, also of damaged ones.
        damage: every byte that is not as it was written belongs to one of these.
        size_bytes: of the file.
    """

    path: Path
    index: Mapping[str, Any]
    members: Mapping[str, bytes]
    damage: tuple[Damage, ...] = ()
    size_bytes: int = 0

    @property
    def identity(self) -> str:
        """sha256 over the index, which names the sha256 of all else; empty where it is damaged."""
        return str(self.index.get("sha256", ""))


def packed(about: Mapping[str, Any], members: Mapping[str, bytes]) -> bytes:
    """A bundle's bytes.

    Args:
        about: plain values that the index holds beside the members.

    Raises:
        BadInput: a member's name is none that a bundle may hold, or it is too large.
    """
    require_members({name: len(content) for name, content in members.items()}, "the bundle")
    return zipped(index_text(index_of({**about, "schema": SCHEMA_VERSION}, members)), members)


def write(path: Path, about: Mapping[str, Any], members: Mapping[str, bytes]) -> None:
    """Write a bundle, whole or not at all.

    Raises:
        BadInput: as `packed`, or it cannot be written.
    """
    content = packed(about, members)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_files({path: content})
    except OSError as error:
        raise BadInput(f"cannot write {path} ({error.strerror})", "a file in a writable folder with room",
                       "choose another --out") from error  # fmt: skip


def read(path: Path) -> Bundle:
    """Read a bundle and find every byte that is not as it was written.

    Raises:
        BadInput: it is no bundle, a newer one, cut short, or holds what no bundle may hold.
    """
    data = _content(path)
    index, start = _find_index(path, data)
    if index is None or index.get("sha256") != index_digest(index):
        what = "it is no JSON any more" if index is None else "it has another sha256 than it names"
        return Bundle(path, {}, {}, (Damage(INDEX, what),), len(data))
    _require_index(path, index)
    regions = layout(index)
    found = data[start : start + regions[-1].stop]
    if len(found) < regions[-1].stop:
        raise BadInput(f"{path}: cut short, {len(found):,} bytes of {regions[-1].stop:,}", _MADE_BY, "copy it again")
    around = ((start, "before its start"), (len(data) - start - len(found), "after its end"))
    outside = [Damage("the zip", f"{count:,} bytes {where}") for count, where in around if count]
    held = contents(found, regions)
    directory = start + next(region.start for region in regions if region.part == IN_DIRECTORY)
    damage = (*outside, *strangers(data, held, directory), *damages(index, found))
    return Bundle(path, index, {name: held[name] for name in sorted(index["members"])}, damage, len(data))


@contextlib.contextmanager
def unpacked(bundle: Bundle) -> Iterator[Path]:
    """The members as files of a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="tiffin-evidence-") as name:
        for member, content in bundle.members.items():
            path = Path(name, member)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        yield Path(name)


def _content(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise BadInput(f"{path}: {size:,} bytes", f"a bundle of at most {MOST_BYTES:,}")
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})", _MADE_BY) from error


def _find_index(path: Path, data: bytes) -> tuple[dict[str, Any] | None, int]:
    """The index and where the zip begins; None for an index that is no JSON.

    Raises:
        BadInput: this is no bundle, or it ends within its index.
    """
    name = INDEX.encode()
    begins = data[LOCAL : LOCAL + len(name)] == name
    later = 0 if begins else data.find(name + b"{") - LOCAL
    for start in dict.fromkeys((0, later)):
        if start >= 0 and (index := _parsed(data, start)) is not None:
            return index, start
    if later < 0 or data[later + _METHOD : later + _METHOD + 2] != bytes(2):
        why = f"a zip that does not begin with {INDEX}, stored; packed again?" if data[:2] == b"PK" else "no zip"
        raise BadInput(f"{path}: {why}", f"{_MADE_BY}, as it was written")
    if END_MARK not in data[-END - 65_536 :]:
        raise BadInput(f"{path}: cut short within {INDEX}", _MADE_BY, "copy it again")
    return None, later


def _parsed(data: bytes, start: int) -> dict[str, Any] | None:
    at = start + LOCAL + len(INDEX)
    try:
        index, _ = json.JSONDecoder().raw_decode(data[at : at + _MOST_INDEX_BYTES].decode("latin-1"))
    except (ValueError, RecursionError):
        return None
    return index if isinstance(index, dict) and "sha256" in index else None


def _require_index(path: Path, index: Mapping[str, Any]) -> None:
    """Its sha256 holds: what is wrong was written so.

    Raises:
        BadInput: a newer schema, names or sizes that no bundle may hold.
    """
    schema = index.get("schema")
    if not isinstance(schema, int) or schema > SCHEMA_VERSION:
        raise BadInput(f"{path}: bundle schema {schema!r}", f"at most {SCHEMA_VERSION}", "upgrade tiffin")
    try:
        sizes = {name: entry["bytes"] for name, entry in index["members"].items()}
        sound = all(_SHA256.fullmatch(entry["sha256"]) for entry in index["members"].values())
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path}: {INDEX} lists no members ({error})", _MADE_BY) from error
    if not sound or not all(type(size) is int and size >= 0 for size in sizes.values()):
        raise BadInput(f"{path}: {INDEX} lists members without size or sha256", _MADE_BY)
    require_members(sizes, str(path))
