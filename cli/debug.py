"""The command that finds the first layer at which two artifacts part: debug."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..artifact.store import is_artifact
from ..errors import BadInput
from . import fed, options, output, parting, render

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    from ..benchmarks.candidate import Candidate

_PLAIN, _PRECISIONS = "plain", ("fp32", "fp16", "bf16")
_PHOTOS = "16"
_Word = Annotated[
    str, typer.Argument(help="FOLDER or FOLDER@BACKEND, then :plain (nothing fused), :fp32, :fp16 or :bf16.")
]


def register(app: typer.Typer) -> None:
    """Add this file's command."""
    app.command()(debug)


def debug(
    context: typer.Context,
    one: _Word,
    other: _Word,
    photos: Annotated[
        str | None, typer.Option(help=f"How many of --role, or a folder of photos. Default: {_PHOTOS}.")
    ] = None,
    data: options.Data = None,
    role: Annotated[
        str | None, typer.Option(help="Role of the photos. Default: select; calibrate, where there are none.")
    ] = None,
    feeds: Annotated[Path | None, typer.Option(help="An .npz of inputs by name, in place of photos.")] = None,
    floor: Annotated[
        float | None, typer.Option(help="Signal to noise, dB, below which a layer has parted. Default: by precision.")
    ] = None,
    whole: Annotated[bool, typer.Option("--all", help="Look at every tensor; default: bisect.")] = False,
    reduce: Annotated[
        Path | None, typer.Option(help="Write the smallest .onnx that shows it, its inputs beside it as .npz.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Picture of the difference by depth to write, .svg.")] = None,
    threads: options.Threads = None,
    seed: options.Seed = 0,
    out: Annotated[Path, typer.Option(help="Record to write.")] = Path("out/debug.json"),
    as_json: options.Json = False,
) -> None:
    """The first layer where two artifacts part, and why. ONE is trusted. See docs/debug.md."""
    from .build import need_build

    need_build(("onnx", "onnxruntime"))
    from ..benchmarks.debug.measure import Asked
    from ..benchmarks.debug.measure import debug as find

    if feeds:
        options.refuse(context, ("photos", "data", "role", "seed"), "--feeds", "arrays in place of photos")
    if floor is not None and not math.isfinite(floor):
        raise BadInput(f"--floor {floor}", "a number of decibels")
    output.require_ending("--reduce", reduce, ".onnx")
    output.require_ending("--plot", plot, ".svg")
    pair = _named_apart(_candidate(one, threads), _candidate(other, threads), (one, other))
    output.prepare_record(out)
    for path, option in ((plot, "--plot"), (reduce, "--reduce")):
        if path is not None:
            output.make_parent(path, option)
    sides, about = fed.from_file(pair, feeds) if feeds else fed.from_photos(pair, photos or _PHOTOS, data, role, seed)
    render.echo_options(one=pair[0].name, other=pair[1].name, data=about["name"], count=about["count"], seed=seed,
                        out=out)  # fmt: skip
    asked = Asked(*pair, (sides[0], sides[1]), about, floor, whole, reduce)
    record = find(asked, (lambda line: None) if as_json else render.say)
    output.save(record, out)
    parting.show_result(record, as_json)
    if plot:
        output.save_text(parting.depth_chart(record), plot, "--plot")
        render.say(f"picture: {plot}")
    output.say_record(out)


def _candidate(word: str, threads: int | None) -> Candidate:
    """`FOLDER@BACKEND:HOW`, in which all but the folder may be left out."""
    rest, _, how = word.rpartition(":")
    if how not in (_PLAIN, *_PRECISIONS) or is_artifact(word):
        rest, how = word, ""
    folder, backend = options.split_engine(rest)
    if ":" in backend:
        raise BadInput(f"{word}: how it runs is {backend.partition(':')[2]!r}",
                       f"one of {', '.join((_PLAIN, *_PRECISIONS))}")  # fmt: skip
    (found,) = options.candidates([f"{folder}@{backend}"], None, threads, None, only_scored=True)
    assert found.run is not None
    changes: dict[str, Any] = {"graph_level": "none"} if how == _PLAIN else {"execution_precision": how} if how else {}
    name = found.name + (f":{how}" if how else "")
    return replace(found, name=name, run=replace(found.run, **changes))


def _named_apart(one: Candidate, other: Candidate, words: tuple[str, str]) -> tuple[Candidate, Candidate]:
    """By their folders' names, where these differ; else as they were written."""
    if one.name != other.name:
        return one, other
    return replace(one, name=words[0]), replace(other, name=words[1] if words[0] != words[1] else f"{words[1]} again")
