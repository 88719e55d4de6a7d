"""What a search ends with, and in which words."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from ..artifact import Artifact
from ..records import Record
from ..records.estimate import Decision
from .choice import Choice
from .confirmation import Confirmation


@dataclass(frozen=True)
class Answer:
    """What a search ends with.

    Args:
        search: its record; `choice` follows from it.
        confirmation: of the winner; None where nothing was left to confirm.
        shipped: the candidate's name, and its artifact with its RunConfig; None where nothing meets the budget.
        looks: how often any winner was confirmed on these photos so far, this time included.
    """

    search: Record
    choice: Choice
    confirmation: Confirmation | None = None
    shipped: str | None = None
    artifact: Artifact | None = None
    looks: int = 0


def sentence(answer: Answer) -> str:
    """«ship this, because …», first of all that is printed."""
    choice, found = answer.choice, answer.confirmation
    if answer.shipped is None:
        return choice.because
    if found is None and answer.shipped == choice.reference:
        return f"ship {answer.shipped}, the given model in fp32: {choice.because}"
    if found is None:
        change = choice.row(answer.shipped).top_1_change
        judged = (
            f" (top-1 {change.value * 100:+.2f} points, 95 % {change.low * 100:+.2f} to {change.high * 100:+.2f})"
            if change else ""
        )  # fmt: skip
        return (
            f"ship {answer.shipped}, because {choice.because}; not confirmed: its answers{judged} were judged on the "
            "photos that it was chosen by"
        )
    if found.passed:
        return (
            f"ship {answer.shipped}, because {choice.because}, and its answers are confirmed on photos that the search "
            f"never saw: {found.verdict.reason}, {found.flips.count} flips"
        )
    failed = (
        found.verdict
        if found.verdict.decision is not Decision.PASS
        else next(verdict for verdict in found.places.values() if verdict.decision is not Decision.PASS)
    )
    better = "smaller" if answer.search.options.get("objective") == "size" else "faster"
    refused = choice.row(answer.shipped).refused
    return (
        f"ship {answer.shipped}: the {better} {choice.winner} was not confirmed "
        f"({failed.decision.value}: {failed.reason})" + (f"; beyond the budget: {refused}" if refused else "")
    )


def plain(answer: Answer) -> str:
    """As JSON."""
    rows = [
        {"name": row.name, "refused": row.refused, "front": row.front, "size_bytes": row.size_bytes,
         "departure": row.departure, "cost_s": asdict(row.cost) if row.cost else None,
         "top_1_change": asdict(row.top_1_change) if row.top_1_change else None,
         "flips": row.flips.count if row.flips else None,
         "divergence": row.divergence.value if row.divergence else None}
        for row in answer.choice.rows
    ]  # fmt: skip
    found = answer.confirmation
    about = {
        "sentence": sentence(answer),
        "shipped": answer.shipped,
        "folder": str(answer.artifact.folder) if answer.artifact else None,
        "winner": answer.choice.winner,
        "reference": answer.choice.reference,
        "confirmed": {place: verdict.decision.value for place, verdict in
                      {"native": found.verdict, **found.places}.items()} if found else None,
        "looks": answer.looks,
        "rows": rows,
    }  # fmt: skip
    return json.dumps(about, indent=1, ensure_ascii=False)
