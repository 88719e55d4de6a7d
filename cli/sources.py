"""Options that say what a source of a trained classifier does not say itself, for every command that takes one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

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

_TOLD: dict[str, Any] = {
    "weights": Annotated[Path | None, typer.Option(
        help="Weights for package.module:factory, timm: and torchvision:; .pt, .ckpt or .safetensors.")],
    "labels": Annotated[Path | None, typer.Option(help="One name a line in the order of the logits, or JSON.")],
    "preprocess": Annotated[Path | None, typer.Option(help="JSON of Preprocess, or a preprocessor_config.json.")],
    "size": Annotated[str | None, typer.Option(help="Input in pixels: 224, or HEIGHTxWIDTH.")],
    "mean": Annotated[str | None, typer.Option(
        help="Of images from 0 to 1; above 1: in levels. In the order of --channels: R,G,B, or with BGR B,G,R.")],
    "std": Annotated[str | None, typer.Option(help="In the units and the order of --mean.")],
    "crop_fraction": Annotated[float | None, typer.Option(help="Part of the resized photo that is kept.")],
    "interpolation": Annotated[str | None, typer.Option(help="bicubic, bilinear or lanczos.")],
    "fit": Annotated[str | None, typer.Option(help="crop, or squeeze the whole photo into the input.")],
    "channels": Annotated[str | None, typer.Option(help="RGB or BGR, as it was trained; --mean and --std too.")],
    "rounding": Annotated[str | None, typer.Option(
        help="nearest, torchvision or transformers: of the longer side and the crop's corner.")],
}  # fmt: skip


Options = Mapping[str, Any]  # those of `_TOLD` as they were typed, None for what was left out


def takes_told(command: Callable[..., None]) -> Callable[..., None]:
    """A command that has the options of `_TOLD`, and is called with them as `told`; they import nothing."""

    @functools.wraps(command)
    def called(**given: Any) -> None:
        told = {name: given.pop(name) for name in _TOLD}
        command(**given, told=told)

    own = [each for each in inspect.signature(command, eval_str=True).parameters.values() if each.name != "told"]
    named = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
             for name, kind in _TOLD.items()]  # fmt: skip
    called.__signature__ = inspect.Signature([*own, *named])  # type: ignore[attr-defined]  # what typer reads
    called.__annotations__ = {each.name: each.annotation for each in (*own, *named)}
    return called


def is_told(told: Options) -> bool:
    """True if any of the options was given."""
    return any(value is not None for value in told.values())


def _told(size: str | None, mean: str | None, std: str | None, **others: Any) -> Told:
    """The options as `export.loaders` takes them.

    Raises:
        BadInput: not numbers.
    """
    from ..export.loaders import Told

    return Told(size=_size(size), mean=_triple("mean", mean), std=_triple("std", std), **others)


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
        raise BadInput(f"{name} {words!r}", "a number, or three separated by commas: red, green, blue",
                       "for --channels BGR: blue, green, red")  # fmt: skip
    return cast("tuple[float, float, float]", values)


def opened(text: str | None, told: Options | None = None) -> Source:
    """The source, shown before it is used.

    Args:
        told: None where a command has no options for it.
    """
    from ..export.loaders import open_alone, open_source
    from ..train.checkpoint import DEFAULT_CHECKPOINT

    named = text or str(DEFAULT_CHECKPOINT)
    found = open_alone(named) if told is None else open_source(named, _told(**told))
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
