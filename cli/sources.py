"""Options that say what a source of a trained classifier does not say itself, for every command that takes one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ..errors import BadInput
from . import render

if TYPE_CHECKING:  # torch and onnx, which `tiffin --help` does without
    from ..data import Dataset
    from ..export.loaders import Source, Told

HELP = (
    "Trained classifier: FILE.safetensors of tiffin, package.module:factory, hf:FOLDER, timm:NAME, torchvision:NAME, "
    ".pt2, TorchScript .pt, .onnx, .keras, .h5, .tflite, a SavedModel's folder (docs/sources.md). "
    "Default: the shipped classifier."
)

Weights = Annotated[Path | None, typer.Option(help="Weights for package.module:factory, timm: "
                                              "and torchvision:; .pt, .ckpt or .safetensors.")]  # fmt: skip
Labels = Annotated[Path | None, typer.Option(help="One name a line in the order of the logits, "
                                             "or JSON.")]  # fmt: skip
PreprocessFile = Annotated[
    Path | None,
    typer.Option("--preprocess", help="JSON of Preprocess, or a preprocessor_config.json."),
]
Size = Annotated[str | None, typer.Option(help="Input in pixels: 224, or HEIGHTxWIDTH.")]
Mean = Annotated[str | None, typer.Option(help="R,G,B of images from 0 to 1; above 1: in levels.")]
Std = Annotated[str | None, typer.Option(help="R,G,B, in the units of --mean.")]
CropFraction = Annotated[float | None, typer.Option(help="Part of the resized photo that is kept.")]
Interpolation = Annotated[str | None, typer.Option(help="bicubic, bilinear or lanczos.")]
Fit = Annotated[str | None, typer.Option(help="crop, or squeeze the whole photo into the input.")]
Channels = Annotated[str | None, typer.Option(help="RGB or BGR, as it was trained.")]
Rounding = Annotated[
    str | None, typer.Option(help="nearest, torchvision or transformers: of the longer side and the crop's corner.")
]


def told(
    weights: Path | None, labels: Path | None, preprocess: Path | None, size: str | None, mean: str | None,
    std: str | None, crop_fraction: float | None, interpolation: str | None, fit: str | None, channels: str | None,
    rounding: str | None,
) -> Told:  # fmt: skip
    """The options as `export.loaders` takes them.

    Raises:
        BadInput: not numbers.
    """
    from ..export.loaders import Told

    return Told(weights, labels, preprocess, _size(size), _triple("mean", mean), _triple("std", std), crop_fraction,
                interpolation, fit, channels, rounding)  # fmt: skip


def _size(words: str | None) -> tuple[int, int] | None:
    if words is None:
        return None
    sides = words.lower().split("x")
    if not 1 <= len(sides) <= 2 or not all(side.isdigit() and int(side) for side in sides):
        raise BadInput(f"size {words!r}", "pixels: 224, or HEIGHTxWIDTH such as 224x320")
    return int(sides[0]), int(sides[-1])


def _triple(name: str, words: str | None) -> tuple[float, float, float] | None:
    if words is None:
        return None
    try:
        values = tuple(map(float, words.split(",")))
    except ValueError:
        values = ()
    values = values * 3 if len(values) == 1 else values
    if len(values) != 3:
        raise BadInput(f"{name} {words!r}", "a number, or three separated by commas: red, green, blue")
    return cast("tuple[float, float, float]", values)


def opened(text: str | None, given: Told) -> Source:
    """The source, shown before it is used."""
    from ..export.loaders import open_source
    from ..train.checkpoint import DEFAULT_CHECKPOINT

    found = open_source(text or str(DEFAULT_CHECKPOINT), given)
    if text:
        for line in found.lines():
            render.say(line)
    return found


def matched(dataset: Dataset, labels: tuple[str, ...], model: str, required: bool = True) -> Dataset:
    """The dataset with the model's labels (`data.classes`); says what that took.

    Args:
        required: False leaves a dataset of other classes as it is, for those who only look at its photos.

    Raises:
        BadDataset: its classes are not the model's.
    """
    from ..data.classes import read_as
    from ..errors import BadDataset

    try:
        found, note = read_as(dataset, labels, model)
    except BadDataset as error:
        if required:
            raise
        found, note = dataset, f"note: {error.what}"
    if note:
        render.say(note)
    return found
