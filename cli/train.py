"""Commands that make weights: train, average, distill."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import BadInput
from . import options, output, render, training

if TYPE_CHECKING:  # torch, which `tiffin --help` does without
    from ..train.fit import FitOptions, FitStatus
    from ..train.recipes import TrainOptions

_OPTIONS = {"min_area": "crop_area", "ratio": "crop_ratio"}  # of fields, where it has another name


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(train)
    app.command()(average)
    app.command()(distill)


def train(
    context: typer.Context,
    data: options.Data = None,
    arch: Annotated[
        str | None, typer.Option(help="Network; a wrong word lists all. Default: efficientnet_lite0, or --init's.")
    ] = None,
    mode: Annotated[str | None, typer.Option(help="finetune all weights, or the head on frozen features.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Values of what is not given: default or features. Default: by mode.")
    ] = None,
    init: Annotated[
        str | None, typer.Option(help="none (from scratch), or a checkpoint. Default: ImageNet's weights.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Weights to write. Default: out/train/ARCH.safetensors.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the train photos.")] = None,
    batch: Annotated[int | None, typer.Option(help="Photos a step, 2 or more.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak of AdamW's learning rate.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="AdamW's, on kernels and matrices.")] = None,
    warmup: Annotated[float | None, typer.Option(help="Part of all steps in which the rate rises.")] = None,
    average: Annotated[float | None, typer.Option(help="Decay of the weights' moving average; 0: none.")] = None,
    size: Annotated[int | None, typer.Option(min=16, help="Side of the input when scored, pixels.")] = None,
    train_size: Annotated[
        int | None, typer.Option(help="Side of what is fitted. Default: 5/7 of size (ViT: size).")
    ] = None,
    min_area: Annotated[
        float | None, typer.Option("--crop-area", help="Least area that a crop is drawn with, of the square.")
    ] = None,
    ratio: Annotated[float | None, typer.Option("--crop-ratio", help="Greatest aspect ratio of a crop.")] = None,
    flip: Annotated[float | None, typer.Option(help="Chance of a horizontal flip.")] = None,
    colour: Annotated[float | None, typer.Option(help="Colours change by factors 1 ± this.")] = None,
    colour_chance: Annotated[float | None, typer.Option(help="Chance that a photo's colours change.")] = None,
    colour_changes: Annotated[
        int | None, typer.Option(min=1, max=3, help="How many of brightness, contrast, saturation.")
    ] = None,
    rotation: Annotated[float | None, typer.Option(help="Chance of a turn.")] = None,
    rotation_degrees: Annotated[float | None, typer.Option(help="Greatest turn to either side.")] = None,
    erasing: Annotated[float | None, typer.Option(help="Chance of a rectangle of noise.")] = None,
    erasing_min: Annotated[float | None, typer.Option(help="Its least side, as a part of the view's.")] = None,
    erasing_max: Annotated[float | None, typer.Option(help="Its greatest side.")] = None,
    mixup: Annotated[float | None, typer.Option(help="Chance that a batch is mixed with itself.")] = None,
    mixup_alpha: Annotated[float | None, typer.Option(help="By a share from Beta(alpha, alpha).")] = None,
    label_smoothing: Annotated[float | None, typer.Option(help="Part of a label that all classes share.")] = None,
    teacher: Annotated[Path | None, typer.Option(help="Checkpoint that is imitated as well.")] = None,
    label_weight: Annotated[
        float | None, typer.Option(help="Share of the labels beside a teacher. Default: 0.5.", show_default=False)
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="Of the softmax that is imitated.")] = None,
    balance: Annotated[
        str | None, typer.Option(help="Rare classes count for more: none, loss (weights) or sampler (draws).")
    ] = None,
    held_out: Annotated[float | None, typer.Option(help="Part of train that judges the epochs.")] = None,
    patience: Annotated[int | None, typer.Option(help="Stop after so many epochs without a better one; 0: no.")] = None,
    unfreeze_every: Annotated[
        float | None, typer.Option(help="Epochs after which one more stage is fitted, the head first; 0: all at once.")
    ] = None,
    rate_decay: Annotated[float | None, typer.Option(help="Rate of a stage as part of the next one's.")] = None,
    views: Annotated[int | None, typer.Option(min=1, help="Views a photo in features mode, one not augmented.")] = None,
    half: Annotated[bool | None, typer.Option("--half/--no-half", help="Weights saved as float16.")] = None,
    score_test: Annotated[bool, typer.Option(help="Score the test split too; the look is written down.")] = False,
    seed: options.Seed = 0,
) -> None:
    """A classifier trained on labelled photos. What is not given is the recipe's, which made the shipped one."""
    from .build import dataset_of, need_build

    need_build()
    from ..train import load_checkpoint
    from ..train.initial import start as start_from
    from ..train.memory import keep_memory
    from ..train.recipes import AUGMENTED, applied, changed
    from ..train.recipes import recipe as recipe_named
    from ..train.train import Watch
    from ..train.train import train as fit_classifier

    keep_memory()
    if teacher is None:
        options.refuse(context, ("temperature",), "no teacher", "--teacher, whose softmax it is of")
    given = dict(context.params)
    given["label_weight"] = _label_weight(teacher, label_weight)
    chosen = changed(recipe_named(recipe, mode), given)
    if chosen.mode == "features" and chosen.views == 1:
        options.refuse(context, AUGMENTED, "--mode features and one view", "--views 2 or more, the first not augmented")
    arch = arch or (None if _is_file(init) else "efficientnet_lite0")
    dataset = dataset_of(data)
    begun = start_from(arch, dataset.labels, init, size, seed)
    chosen = applied(chosen, begun.architecture, begun.host)
    out = out or Path("out/train") / f"{begun.architecture.name}.safetensors"
    _prepare(out, Path(init) if init and _is_file(init) else None, teacher)
    _echo(chosen, out, arch=begun.architecture.name, init=begun.source)
    watch = Watch(show_epochs, render.TerminalProgress().counted)
    taught = load_checkpoint(teacher) if teacher else None
    made = fit_classifier(dataset, begun, chosen, out, taught, score_test, watch)
    training.tell(made)


def average(
    checkpoints: Annotated[
        list[Path], typer.Argument(help="Weights that were trained from the same ones.", show_default=False)
    ],
    data: options.Data = None,
    half: Annotated[bool, typer.Option("--half/--no-half", help="Weights saved as float16.")] = True,
    score_test: Annotated[bool, typer.Option(help="Score the test split too; the look is written down.")] = False,
    out: Annotated[Path, typer.Option(help="Weights to write.")] = Path("out/train/average.safetensors"),
) -> None:
    """One classifier of several trainings.

    The mean of their weights, a model soup: as fast as one of them, often better than each.
    """
    from .build import dataset_of, need_build

    need_build()
    from ..train import load_checkpoint
    from ..train.average import average as mean
    from ..train.memory import keep_memory
    from ..train.train import score_lines
    from .sources import matched

    keep_memory()
    _prepare(out, *checkpoints)
    parts = [load_checkpoint(path) for path in checkpoints]
    dataset = matched(dataset_of(data), parts[0].labels, checkpoints[0].name)
    render.echo_options(data=dataset.name, parts=len(parts), half=half, out=out)
    made = mean(parts, dataset, out, half, score_test)
    for path, told in zip(checkpoints, made.record["parts"], strict=True):
        for line in score_lines(told):
            render.show(f"{path.name}: {line}")
    training.tell(made)
    if _is_worse(made.record):
        render.say("note: a part has more val photos right than the mean: were all trained from the same weights?")


def _is_worse(record: dict[str, Any]) -> bool:
    """Where that is known."""
    known = {told["role"]: told["top_1"]["value"] for told in record["scores"] if "top_1" in told}
    parts = [told["top_1"]["value"] for part in record["parts"] for told in part["scores"] if "top_1" in told]
    return "select" in known and max(parts, default=0.0) > known["select"]


def _label_weight(teacher: Path | None, given: float | None) -> float | None:
    return 0.5 if teacher and given is None else given


def _is_file(init: str | None) -> bool:
    return init not in (None, "none")


def _prepare(out: Path, *given: Path | None) -> None:
    """Before minutes of fitting: can weights be written there, over none of those that they are made from?

    Raises:
        BadInput: they cannot.
    """
    from ..train.checkpoint import require_name

    require_name(out)
    if out.resolve() in [path.resolve() for path in given if path]:
        raise BadInput(f"--out {out} is what it is made from", "another file", "choose another --out")
    output.make_parent(out)


def _echo(chosen: TrainOptions | FitOptions, out: Path, **about: Any) -> None:
    """The options as applied, by the names that they are given by."""
    from dataclasses import asdict

    told = about | asdict(chosen)
    for part in ("fit", "augmentation"):
        told |= told.pop(part, {})
    render.echo_options(**{_OPTIONS.get(name, name): value for name, value in told.items()}, out=out)


def distill(
    checkpoint: Annotated[
        Path | None, typer.Argument(help="The teacher, .safetensors of tiffin. Default: shipped.", show_default=False)
    ] = None,
    size: Annotated[int, typer.Option(min=32, help="Side of the student's input, pixels.")] = 192,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the train photos.")] = 5,
    batch: Annotated[int, typer.Option(help="Photos a step, 2 or more.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Peak of AdamW's learning rate.")] = 5e-4,
    margin_weight: Annotated[float, typer.Option(help="Extra weight of photos that the teacher doubts.")] = 0.0,
    half: Annotated[bool, typer.Option("--half/--no-half", help="Weights saved as float16.")] = True,
    data: options.Data = None,
    seed: options.Seed = 0,
    out: Annotated[
        Path | None, typer.Option(help="Weights to write. Default: out/CHECKPOINT-SIZE.safetensors.")
    ] = None,
) -> None:
    """A student with a smaller input, taught by its teacher. Offer it to the search: `tiffin optimize --also FILE`."""
    from .build import dataset_of, need_build

    need_build()
    from ..train import DEFAULT_CHECKPOINT, load_checkpoint
    from ..train.distill import distill as teach
    from ..train.distill import student_of, training_photos
    from ..train.fit import FitOptions, require_fit
    from ..train.memory import keep_memory

    keep_memory()
    checkpoint = checkpoint or DEFAULT_CHECKPOINT
    teacher = load_checkpoint(checkpoint)
    out = out or Path("out") / f"{checkpoint.stem}-{size}.safetensors"
    _prepare(out, checkpoint)
    student_of(teacher, size)  # refused before minutes of preparing photos
    dataset = dataset_of(data)
    chosen = FitOptions(epochs=epochs, batch=batch, learning_rate=learning_rate, margin_weight=margin_weight,
                        seed=seed)  # fmt: skip
    require_fit(len(dataset.role("train")), chosen, taught=True, judged=False)
    photos = training_photos(dataset.role("train"), teacher.preprocess, out.parent / "cache", dataset.kind)
    _echo(chosen, out, teacher=teacher.sha256[:12], size=size, photos=len(photos), half=half)
    teach(teacher, size, photos, chosen, out, show_epochs, half)
    render.show(f"wrote {out}")
    render.next_command("export", out)


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
