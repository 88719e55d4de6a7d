"""Does the artifact still answer the photos as its records say?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ...artifact import Artifact
from ...records.paired import Flipped
from ...records.record import load_record
from ...words import counted
from .answers import Again, answer_again
from .bundle import Bundle
from .check import UNREADABLE, Check, State, brief, check
from .layout import shown

_MOST_PHOTOS = 5  # that are named
Bar = Callable[[str, int], Callable[[int], None]]


def answers_check(bundle: Bundle, folder: Path, artifact: Artifact, data: Path, progress: Bar) -> Check:
    """Answer the photos again and compare photo by photo.

    The same engine version on the same class of CPU must give the same top-1 to every photo. Another may not: then
    the agreement is told and nothing is decided.

    Args:
        folder: where the bundle is unpacked.
        data: folder in which the photos are looked for.
    """
    wrong, told, elsewhere = [], [], False
    for entry in bundle.index["records"]:
        try:
            record = load_record(folder / entry["member"])
            rows = list(answer_again(record, artifact, data, progress))
        except UNREADABLE as error:
            wrong.append(f"{entry['member']}: cannot be answered here ({brief(error, folder)})")
            continue
        for row in rows:
            wrong += _missing(row)
            wrong += [] if row.elsewhere else _changed(row.changed, row.row)
            told.append(_agreement(row))
            elsewhere |= bool(row.elsewhere)
    if not told and not wrong:
        return Check("answers", State.OPEN, ("no row of real photos that this artifact answered natively",))
    found = check("answers", wrong, told[0] if told else "")
    if found.state is State.FAILS:
        return found
    return Check("answers", State.OPEN if elsewhere else State.HOLDS, tuple(told))


def _agreement(row: Again) -> str:
    found = row.agreement
    said = f"row {shown(row.row)}: {found.n - len(row.changed):,} of {found.n:,} photos get the answer of the record"
    if not row.elsewhere:
        return said
    interval = f"{found.value:.2%} ({found.low:.2%}–{found.high:.2%})".replace("%", " %")
    return f"{said}, {interval}; another place, where answers may differ: {row.elsewhere}"


def _missing(row: Again) -> list[str]:
    if not row.missing:
        return []
    return [f"row {shown(row.row)}: {counted(len(row.missing), 'photo')} not in the folder: "
            + ", ".join(digest[:16] for digest in row.missing[:_MOST_PHOTOS])]  # fmt: skip


def _changed(changed: Sequence[Flipped], row: str) -> list[str]:
    return [
        f"row {shown(row)}, photo {one.photo[:16]}: answer {one.before} in the record, {one.now} here"
        for one in changed
    ]
