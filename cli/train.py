"""Commands that fit weights: distill."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options, output, render

if TYPE_CHECKING:  # torch, which `tiffin --help` does without
    from ..train.fit import FitStatus


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(distill)


def distill(
    checkpoint: Annotated[
        Path | None, typer.Argument(help="The teacher. Default: the shipped classifier.", show_default=False)
    ] = None,
    size: Annotated[int, typer.Option(min=32, help="Side of the student's input, pixels.")] = 192,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the train photos.")] = 5,
    learning_rate: Annotated[float, typer.Option(help="Peak of AdamW's learning rate.")] = 5e-4,
    margin_weight: Annotated[float, typer.Option(help="Extra weight of photos that the teacher doubts.")] = 0.0,
    data: options.Data = None,
    seed: options.Seed = 0,
    out: Annotated[
        Path | None, typer.Option(help="Weights to write. Default: out/CHECKPOINT-SIZE.safetensors.")
    ] = None,
) -> None:
    """A student with a smaller input, taught by its teacher: what `tiffin optimize` takes by its option also."""
    from .build import need_build

    need_build()
    from dataclasses import asdict

    from ..data import find_dataset
    from ..train import DEFAULT_CHECKPOINT, load_checkpoint
    from ..train.distill import distill as teach
    from ..train.distill import training_photos
    from ..train.fit import FitOptions

    teacher = load_checkpoint(checkpoint or DEFAULT_CHECKPOINT)
    out = out or Path("out") / f"{(checkpoint or DEFAULT_CHECKPOINT).stem}-{size}.safetensors"
    output.make_parent(out)
    dataset = find_dataset(data, progress=sys.stderr.isatty())
    chosen = FitOptions(epochs=epochs, learning_rate=learning_rate, margin_weight=margin_weight, seed=seed)
    photos = training_photos(dataset.role("train"), teacher.preprocess, out.parent / "cache", dataset.kind)
    render.echo_options(teacher=teacher.sha256[:12], size=size, photos=len(photos), **asdict(chosen), out=out)
    teach(teacher, size, photos, chosen, out, show_epochs)
    render.show(f"wrote {out}")
    render.next_command(f"tiffin export {shlex.quote(str(out))}")


def show_epochs(status: FitStatus) -> None:
    """One line an epoch, and one that redraws itself where somebody watches."""
    steps_left = (status.epochs - status.epoch + 1) * status.steps - status.step
    left_s = steps_left * status.batch / status.photos_per_s
    line = (
        f"epoch {status.epoch} of {status.epochs}, step {status.step} of {status.steps}: loss {status.loss:.4f}, "
        f"{status.photos_per_s:.1f} photos/s, {left_s / 60:.0f} min left"
    )
    if render.is_watched():
        render.redraw(line, "\n" if status.step == status.steps else "")
    elif status.step == status.steps:
        render.say(line)
