"""The bytes of a bundle: a zip whose every byte is decided by its members, so that a changed byte can be named.

Members are stored, not deflated, at fixed times, in a fixed order, behind an index that comes first: equal contents
give equal bytes with any zlib, no member can unpack to more than is there, and the place of each byte follows from the
index alone (APPNOTE.TXT 4.3 gives the sizes of a zip's headers).
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ...errors import BadInput

INDEX = "bundle.json"
LOCAL, CENTRAL, END = 30, 46, 22  # bytes of a zip's headers without the name
END_MARK = b"PK\x05\x06"
IN_DIRECTORY = "entry in the central directory"
MOST_BYTES = 2_000_000_000  # all of it is read into memory, and a zip without its 64-bit extension holds 4 GB
_WHEN = (1980, 1, 1, 0, 0, 0)  # a zip's earliest
_PART = "[A-Za-z0-9_][A-Za-z0-9._-]{0,120}"
_NAME = re.compile(f"{_PART}(/{_PART}){{0,7}}")


class Damage(NamedTuple):
    """One thing that is not as it was written: in which member, or in the zip, and what."""

    member: str
    what: str


@dataclass(frozen=True)
class Region:
    """Bytes of the zip, from start up to stop, and what they are: "content", or one of a zip's headers."""

    start: int
    stop: int
    member: str
    part: str


def shown(text: object) -> str:
    """A foreign name for people: what cannot be printed, and what would turn the line around, as escapes."""
    return ascii(str(text))


def index_text(index: Mapping[str, Any]) -> bytes:
    """Canonical: sorted keys, ASCII, so that equal indices have equal bytes."""
    return (json.dumps(index, indent=1, sort_keys=True) + "\n").encode()


def index_digest(index: Mapping[str, Any]) -> str:
    """sha256 of the index without its own field "sha256", hex."""
    return hashlib.sha256(index_text({key: value for key, value in index.items() if key != "sha256"})).hexdigest()


def index_of(about: Mapping[str, Any], members: Mapping[str, bytes]) -> dict[str, Any]:
    """The index over these members."""
    listed = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in members.items()
    }
    index = {**about, "members": listed}
    return {**index, "sha256": index_digest(index)}


def zipped(index: bytes, members: Mapping[str, bytes]) -> bytes:
    """The zip: the index first, the members sorted by name."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as opened:
        for name, content in [(INDEX, index), *sorted(members.items())]:
            info = zipfile.ZipInfo(name, _WHEN)
            info.create_system = 3  # of the mode that follows: Unix
            info.external_attr = 0o100644 << 16
            opened.writestr(info, content)
    return target.getvalue()


def layout(index: Mapping[str, Any]) -> list[Region]:
    """Every byte of the zip that has this index, in order."""
    sizes = {INDEX: len(index_text(index))} | {name: entry["bytes"] for name, entry in sorted(index["members"].items())}
    parts = [
        part for name, size in sizes.items()
        for part in ((name, "local header", LOCAL + len(name)), (name, "content", size))
    ]  # fmt: skip
    parts += [(name, IN_DIRECTORY, CENTRAL + len(name)) for name in sizes]
    regions, stop = [], 0
    for name, part, size in [*parts, ("the zip", "end of the central directory", END)]:
        regions.append(Region(stop, stop + size, name, part))
        stop += size
    return regions


def contents(found: bytes, regions: Sequence[Region]) -> dict[str, bytes]:
    """Each member's bytes, the index's among them."""
    return {region.member: found[region.start : region.stop] for region in regions if region.part == "content"}


def damages(index: Mapping[str, Any], found: bytes) -> list[Damage]:
    """All that is not as it was written: contents by their sha256, the rest by the bytes of the zip written again.

    Args:
        found: as long as the layout.
    """
    regions = layout(index)
    held = contents(found, regions)
    wanted = {INDEX: hashlib.sha256(index_text(index)).hexdigest()}
    wanted |= {name: entry["sha256"] for name, entry in index["members"].items()}
    changed = {name for name, content in held.items() if hashlib.sha256(content).hexdigest() != wanted[name]}
    again = zipped(held[INDEX], {name: content for name, content in held.items() if name != INDEX})
    headers = [
        Damage(region.member, f"{region.part}, byte {region.start + at:,} of the file")
        for region in regions
        # a changed content has another checksum, which its headers tell
        if region.part != "content" and region.member not in changed
        if (at := _first_difference(found[region.start : region.stop], again[region.start : region.stop])) is not None
    ]
    return [Damage(name, "its content is another") for name in held if name in changed] + headers


def _first_difference(one: bytes, other: bytes) -> int | None:
    pairs = enumerate(zip(one, other, strict=True))
    return None if one == other else next(at for at, (a, b) in pairs if a != b)


def strangers(data: bytes, members: Mapping[str, bytes], directory: int) -> list[Damage]:
    """Members that the index does not name, and names that are there twice, as another tool would unpack them.

    Args:
        directory: where the central directory stood: one before it is that of a zip within a member.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as opened:
            names = opened.namelist() if opened.start_dir >= directory else []
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, OSError):
        return []  # damaged headers are named by their bytes
    if len(names) <= len(members):
        return []  # a damaged name is named by its bytes, and is nobody's member
    unknown = [name for name in dict.fromkeys(names) if name not in members]
    twice = [name for name in members if names.count(name) > 1]
    return [Damage(shown(name), f"is not named in {INDEX}") for name in unknown] + [
        Damage(name, "is there twice") for name in twice
    ]


def require_members(sizes: Mapping[str, int], where: str) -> None:
    """Refuse what no bundle may hold.

    Args:
        sizes: bytes by the member's name.

    Raises:
        BadInput: a name that is no plain relative path, two of one name, or too many bytes.
    """
    for name in sizes:
        if not _NAME.fullmatch(name) or name == INDEX:
            raise BadInput(f"{where}: member {shown(name)}", "a plain relative path of letters, digits and ._-/")
    folded = [name.casefold() for name in sizes]
    folders = {"/".join(name.split("/")[:depth]) for name in folded for depth in range(1, name.count("/") + 1)}
    if len(set(folded)) < len(folded) or folders & set(folded):
        raise BadInput(f"{where}: two members of one name", "each member under a name of its own")
    if sum(sizes.values()) > MOST_BYTES:
        raise BadInput(f"{where}: members of {sum(sizes.values()):,} bytes", f"at most {MOST_BYTES:,}")
