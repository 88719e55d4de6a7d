"""What is told of a training: the result, its pictures, and that the test split was looked at."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from . import output, render

if TYPE_CHECKING:  # torch, which `tiffin --help` does without
    from ..train.train import Trained


def tell(made: Trained) -> None:
    """What came of it, and what to run next; a look at the test split is written down before anyone sees it."""
    from ..train.train import score_lines

    _write_look(made)
    render.show(f"wrote {made.path} ({made.path.stat().st_size / 1e6:.1f} MB, {_whose(made)})")
    for line in score_lines(made.record):
        render.show(line)
    for picture in _draw(made):
        render.show(f"drew {picture}")
    render.next_command("export", made.path)


def _whose(made: Trained) -> str:
    if "parts" in made.record:
        return f"the mean of {len(made.record['parts'])} checkpoints"
    return f"the weights of epoch {made.record['kept_epoch']} of {len(made.record['history'])}"


def _draw(made: Trained) -> list[Path]:
    """Learning curves and confusion matrices beside the weights, where the packages that draw are installed."""
    missing = [name for name in ("altair", "vl_convert") if find_spec(name) is None]
    if missing:
        render.say(f'no pictures: {", ".join(missing)} not installed (pip install "tiffin[report]")')
        return []
    from ..report.charts.training import confusion_matrix, learning_curves

    history = made.record.get("history")
    drawn = {_beside(made.path, "curves"): learning_curves(history)} if history else {}
    for told in made.record["scores"]:
        if "confusion" in told:
            drawn[_beside(made.path, f"confusion-{told['role']}")] = confusion_matrix(told["confusion"], made.labels)
    for path, text in drawn.items():
        output.save_text(text, path)
    return list(drawn)


def _beside(weights: Path, what: str) -> Path:
    return weights.with_name(f"{weights.stem}-{what}.svg")


def _write_look(made: Trained) -> None:
    """Add a look at the test split, if there was one, to the list beside the weights, and say how many there were."""
    from ..artifact.files import sha256_file
    from ..optimize.confirmation import add_look

    told = next((told for told in made.record["scores"] if told["role"] == "confirm"), None)
    if told is None:
        return
    seen = {"artifact": sha256_file(made.path), "photos": told["photos_sha256"]}
    looks = add_look(made.path.parent / "looks.json", seen, {"top_1": told.get("top_1", {}).get("value")})
    count = sum(look["photos"] == told["photos_sha256"] for look in looks)
    render.say(f"looks at the test split so far, this one included: {count} (looks.json)")
