"""A model card (Mitchell et al. 2019, FAT*; front matter as Hugging Face reads it) from records alone."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from ..artifact.files import sha256_file
from ..records.markdown import escaped
from ..records.record import CONFIRM
from .cell import Cell
from .markdown import cells
from .provenance import provenance
from .story import Story
from .tables import HEADER, table

NOT_STATED = "not stated"
_WEIGHTS = Path(__file__).parents[1] / "train" / "weights"
# Of the weights that this package ships: its own licence, that of what they were trained from and on.
_SHIPPED_ID = "Apache-2.0"
_SHIPPED_WEIGHTS = f"{_SHIPPED_ID} (fine-tuned from EfficientNet-Lite's ImageNet weights, Apache-2.0)"
_SHIPPED_DATA = "MIT (Grocery Store Dataset, Klasson et al., WACV 2019)"


@dataclass(frozen=True)
class Licences:
    """Of weights and data; `NOT_STATED` where nobody told."""

    weights: str = NOT_STATED
    data: str = NOT_STATED


def licences(story: Story, weights: str | None, data: str | None) -> Licences:
    """What the user states; else the facts about the shipped weights, where the row to ship comes from them."""
    row = story.row(story.focus)
    shipped = row is not None and row.subject.checkpoint in {
        sha256_file(path) for path in _WEIGHTS.glob("*.safetensors")
    }
    return Licences(
        weights or (_SHIPPED_WEIGHTS if shipped else NOT_STATED), data or (_SHIPPED_DATA if shipped else NOT_STATED)
    )


def model_card(story: Story, stated: Licences) -> str:
    """The card as Markdown."""
    parts = [
        _front_matter(story, stated),
        f"# {escaped(story.focus or 'Classifier')}",
        escaped(story.answer.line),
        "## Intended use",
        _use(story),
        "## Metrics",
        _metrics(story),
        "## Limits",
        _limits(story),
        "## Licences",
        f"- weights: {escaped(stated.weights)}\n- data: {escaped(stated.data)}",
        "## Where the figures come from",
        "\n".join(f"- {escaped(one['file'])}, sha256 `{one['sha256']}`" for one in provenance(story).records),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(story: Story, stated: Licences) -> str:
    row = story.row(story.focus)
    lines = ["---", *_licence(stated.weights), "pipeline_tag: image-classification", "tags: [food, tiffin]"]
    if row is not None and row.top_1 is not None and row.answered is not None and row.answered.role == CONFIRM:
        lines += [
            "metrics: [accuracy]",
            "model-index:",
            f"- name: {_quoted(story.focus)}",
            "  results:",
            "  - task: {type: image-classification}",
            f"    dataset: {{name: {_quoted(str(story.data.get('name', '')))}, type: image}}",
            f"    metrics: [{{type: accuracy, value: {row.top_1.value:.6f}}}]",
        ]
    return "\n".join([*lines, "---"])


def _licence(stated: str) -> list[str]:
    """An id as it is; a name of several words is no id, and its first word would be another licence's."""
    known = {NOT_STATED: "unknown", _SHIPPED_WEIGHTS: _SHIPPED_ID}.get(stated, stated)
    if re.fullmatch(r"[\w.+-]+", known):
        return [f"license: {_quoted(known.lower())}"]
    return ['license: "other"', f"license_name: {_quoted(known)}"]


def _quoted(text: str) -> str:
    """A YAML string, whatever a name holds: as JSON's, but that two surrogates are no letter to YAML."""
    return '"' + "".join(letter if letter > "\uffff" else json.dumps(letter)[1:-1] for letter in text) + '"'


def _use(story: Story) -> str:
    labels = story.data.get("labels") or ()
    what = f"Photos of food, one of {len(labels)} classes each" if labels else "Photos of food"
    return (
        f"{what}, as in {escaped(str(story.data.get('name', 'the scored set')))}. It answers with one of its classes "
        "whatever it sees: what is none of them is answered wrongly. Not for allergens or "
        "anything else where a wrong answer harms."
    )


def _metrics(story: Story) -> str:
    lines = [line for line in table(story) if line[1].text in (story.focus, story.reference)]
    if not lines:
        return "Nothing was measured."
    rows: list[tuple[Cell, ...]] = [
        (Cell(title), *(line[place] for line in lines)) for place, title in enumerate(HEADER) if place > 1
    ]
    return cells(("", *(line[1].text for line in lines)), rows)


def _limits(story: Story) -> str:
    found = [*story.answer.more]
    found += [
        f"{row.name}: {row.accuracy.decision.value}, {row.accuracy.reason}"
        for row in story.rows
        if row.is_elsewhere and row.accuracy
    ]
    return "\n".join(f"- {escaped(line)}" for line in found) or "None is known from these records."
