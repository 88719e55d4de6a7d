"""What goes through `Classifier.stream`: items of a source in, an answer for each out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import TiffinError

if TYPE_CHECKING:
    from .decode import PhotoSource


@dataclass(frozen=True)
class Guess:
    """One label with its probability, 0 to 1."""

    label: str
    index: int
    score: float


@dataclass(frozen=True)
class Item:
    """One photo of a source.

    Args:
        name: what people call it: a path, `video.mp4#120`, `camera`.
        source: the photo, or why there is none: such an item is answered with that error, and the rest goes on.
    """

    name: str
    source: PhotoSource | TiffinError


@dataclass(frozen=True)
class Answer:
    """What became of one item.

    Args:
        guesses: the likeliest labels, best first; empty where there was an error.
        error: why there is no answer.
        prepare_s: seconds from the photo to the model's input.
        run_s: seconds that its run on the engine took; a run of several photos is divided among them.
    """

    name: str
    guesses: tuple[Guess, ...] = ()
    error: TiffinError | None = None
    prepare_s: float = 0.0
    run_s: float = 0.0
