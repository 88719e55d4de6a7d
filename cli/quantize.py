"""The command that makes 16-bit, int8 and fp8 artifacts."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..artifact import Artifact
from ..errors import BadInput
from . import options, render
from .build import dataset_of, done, held_out_photos, need_build, place_of, say_temperature
from .train import show_epochs

if TYPE_CHECKING:  # onnx and numpy, which `tiffin --help` does without
    from ..data import Dataset
    from ..export.confidence import HeldOut
    from ..quantize.calibration import Calibration, CalibrationSet
    from ..quantize.options import PtqOptions

_PRECISIONS, _METHODS, _SOURCES = ("int8", "fp8", "fp16", "bf16"), ("ptq", "qat"), ("photos", "data-free")
_HALVES = ("fp16", "bf16")
_OF_HALVES = ("artifact", "precision", "out", "data", "fit_temperature")


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(quantize)


def quantize(
    context: typer.Context,
    artifact: Annotated[Path, typer.Argument(help="The fp32 ONNX artifact.")],
    precision: Annotated[str, typer.Option(help="int8, fp8, fp16 or bf16.")] = "int8",
    scheme: Annotated[
        str | None, typer.Option(help="int8 dialect: cpu, cpu-vnni, cpu-u8 or tensorrt. Default: cpu; fp8: tensorrt.")
    ] = None,
    quantizer: Annotated[str | None, typer.Option(help="nncf or ort. Default: by scheme.")] = None,
    bias_correction: Annotated[
        str | None, typer.Option(help="none, fast, full or empirical. Default: fast by nncf, none by ort.")
    ] = None,
    ranges: Annotated[
        str | None,
        typer.Option(help="Of activations: minmax, moving-average, percentile, mse (nncf) or entropy (ort)."),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="performance or mixed, of nncf.")] = None,
    smooth: Annotated[bool, typer.Option("--smooth", help="SmoothQuant first, by nncf.")] = False,
    compensate: Annotated[
        bool, typer.Option(help="Fold a scale and shift of each channel into the layers at the end.")
    ] = True,
    float_node: Annotated[
        list[str] | None, typer.Option(help="Name of an ONNX node that stays in float, may repeat.")
    ] = None,
    floats: Annotated[
        str, typer.Option(help="Type of what is not quantized: fp32; or fp16, with --scheme tensorrt.")
    ] = "fp32",
    method: Annotated[
        str, typer.Option(help="ptq, or qat: trained on the train photos to answer as fp32 does.")
    ] = "ptq",
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the train photos, of qat.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of qat.")] = None,
    calibrate: Annotated[
        str, typer.Option(help="photos, or data-free: images made from the checkpoint alone.")
    ] = "photos",
    checkpoint: Annotated[
        str | None, typer.Option(help="Source that it was exported from, for data-free. Default: shipped.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write to. Default: beside the artifact.")] = None,
    data: options.Data = None,
    feeds: Annotated[
        Path | None,
        typer.Option(help="Calibrate with named arrays (.npz) instead of photos; docs/graphs.md.", show_default=False),
    ] = None,
    per_class: options.PerClass = options.PER_CLASS,
    seed: options.Seed = 0,
    fit_temperature: options.FitTemperature = True,
) -> None:
    """fp32 ONNX to fp16, bf16, int8 or fp8 ONNX."""
    need_build()
    source = Artifact.load(artifact)
    fitted = fit_temperature and source.manifest.task == "classification"
    asked = _Asked(source, precision, method, floats, epochs, learning_rate, calibrate, checkpoint, data, feeds,
                   per_class, seed, fitted)  # fmt: skip
    _check(asked, context)
    if precision in _HALVES:
        made = _half(asked, place_of(artifact, out, precision))
    else:
        from ..quantize.options import FP8_SCHEME, PtqOptions, fp8_options

        scheme = scheme or (FP8_SCHEME if precision == "fp8" else "cpu")
        wish = PtqOptions(scheme, quantizer, bias_correction, ranges, preset, smooth, compensate,
                          tuple(float_node or ()), floats)  # fmt: skip
        chosen = fp8_options(wish) if precision == "fp8" else wish.applied()
        place = place_of(artifact, out, _ending(asked, scheme))
        made = (_calibrated if feeds is None else _with_feeds)(asked, chosen, place)
    _tell(made, scheme)


@dataclass(frozen=True)
class _Asked:
    """What the user wants made of an artifact, and of which photos."""

    source: Artifact
    precision: str
    method: str
    floats: str
    epochs: int | None
    learning_rate: float | None
    calibrate: str
    checkpoint: str | None
    data: Path | None
    feeds: Path | None
    per_class: int
    seed: int
    fit_temperature: bool


def _check(asked: _Asked, context: typer.Context) -> None:
    """Raises BadInput for a word that is none, and for options that do not go together."""
    words = {"precision": _PRECISIONS, "method": _METHODS, "calibrate": _SOURCES}
    for what, known in words.items():
        if (word := getattr(asked, what)) not in known:
            raise BadInput(f"unknown {what} {word!r}", f"one of {', '.join(known)}")
    if asked.method == "ptq" and (asked.epochs or asked.learning_rate):
        raise BadInput("--epochs and --learning-rate are of training", "--method qat", "add it, or leave them out")
    _require_feeds(asked)
    other = f"--floats {asked.floats}" if asked.floats != "fp32" else None
    other = "--method qat" if asked.method == "qat" else other
    if asked.precision != "int8" and other:
        raise BadInput(f"{other} with --precision {asked.precision}", "--precision int8", "leave one of them out")
    if asked.precision in _HALVES:
        options.only(context, _OF_HALVES, f"--precision {asked.precision}", "--precision int8 or fp8")
    if asked.calibrate == "data-free":
        options.refuse(context, ("data",), "--calibrate data-free", "--calibrate photos, which are its own")
    else:
        options.refuse(
            context, ("checkpoint",), "--calibrate photos", "--calibrate data-free, which makes images of it"
        )
    if asked.feeds is not None:
        options.refuse(context, ("data", "per_class", "seed"), "--feeds", "photos, of which some are drawn")


def _ending(asked: _Asked, scheme: str) -> str:
    """What the folder's name ends in, where none was given."""
    endings = [f"-{asked.floats}"] * (asked.floats != "fp32") + ["-qat"] * (asked.method == "qat")
    return "fp8" if asked.precision == "fp8" else f"int8-{scheme}{''.join(endings)}"


def _tell(made: Artifact, scheme: str | None) -> None:
    done(made)
    if made.manifest.task == "classification":
        say_temperature(made)
    backend = "tensorrt_rtx" if scheme == "tensorrt" else "openvino"
    render.next_command("compile", made.folder, backend=backend)


def _require_feeds(asked: _Asked) -> None:
    """What takes no photos is calibrated with feeds, and feeds go with nothing that wants photos."""
    if asked.feeds is not None:
        data_free = "--calibrate data-free" if asked.calibrate != "photos" else None
        wants = "--method qat" if asked.method == "qat" else data_free
        wants = wants or (f"--precision {asked.precision}" if asked.precision in _HALVES else None)
        if wants:
            raise BadInput(f"--feeds with {wants}", "post-training int8 or fp8", "leave one of them out")
    elif asked.source.manifest.preprocess is None and asked.precision not in _HALVES:
        raise BadInput(
            f"{asked.source.folder}: takes no photos to calibrate with",
            "arrays by the names of its inputs",
            "write some hundred typical rows with np.savez and pass --feeds; see docs/graphs.md",
        )


def _half(asked: _Asked, out: Path) -> Artifact:
    """Its dataset is for the temperature."""
    from ..quantize.quantize import quantize_half

    render.echo_options(precision=asked.precision, out=out)
    held = _held_out(asked, dataset_of(asked.data), out) if asked.fit_temperature else None
    return quantize_half(asked.source, asked.precision, out, held)


def _held_out(asked: _Asked, dataset: Dataset, out: Path) -> HeldOut:
    return held_out_photos(dataset, asked.source.manifest.labels, asked.source.preprocess, out)


def _with_feeds(asked: _Asked, chosen: PtqOptions, out: Path) -> Artifact:
    from ..quantize.named_feeds import CalibrationFeeds

    assert asked.feeds is not None
    rows = CalibrationFeeds.read(asked.feeds)
    render.echo_options(**_words(chosen.plain()), rows=len(rows), source=rows.source, out=out)
    return _quantized(asked, chosen, rows, out, None)


def _quantized(
    asked: _Asked, chosen: PtqOptions, calibration: Calibration, out: Path, held: HeldOut | None
) -> Artifact:
    from ..quantize.quantize import quantize_fp8, quantize_int8

    make = quantize_fp8 if asked.precision == "fp8" else quantize_int8
    return make(asked.source, chosen, calibration, out, held)


def _images(asked: _Asked, out: Path) -> Dataset:
    """Photos, or images that the checkpoint remembers."""
    if asked.calibrate == "photos":
        dataset = dataset_of(asked.data)
        if asked.data is None:
            _require_its_classes(dataset, asked.source)
        return dataset
    from ..quantize.data_free import data_free

    progress = render.TerminalProgress().counted("making images from the checkpoint")
    return data_free(asked.source, asked.checkpoint, out.parent / "cache", asked.seed, progress)


def _require_its_classes(dataset: Dataset, artifact: Artifact) -> None:
    """Photos that nobody named calibrate a model of other classes in silence."""
    labels = artifact.manifest.labels
    if labels and not set(labels) & set(dataset.labels):
        raise BadInput(f"no class of {dataset.name} is a label of {artifact.folder} ({labels[0]}, …)",
                       "photos like those that it will be shown",
                       "name them by --data, though called otherwise, or --calibrate data-free")  # fmt: skip


def _calibrated(asked: _Asked, chosen: PtqOptions, out: Path) -> Artifact:
    from ..data import balanced
    from ..data.prepared import prepare_photos
    from ..quantize.calibration import CalibrationSet

    dataset = _images(asked, out)
    drawn = balanced(dataset.role("calibrate"), asked.per_class, asked.seed)
    render.echo_options(**_words(chosen.plain()), photos=len(drawn), source=dataset.name, seed=asked.seed, out=out)
    held = _held_out(asked, dataset, out) if asked.fit_temperature else None
    with tempfile.TemporaryDirectory() as scratch:
        prepared = prepare_photos(drawn, asked.source.preprocess, Path(scratch), dataset.kind)
        photos = CalibrationSet.of(prepared, dataset.name)
        if asked.method == "ptq":
            return _quantized(asked, chosen, photos, out, held)
        return _trained(asked, chosen, photos, dataset, out, held)


def _trained(
    asked: _Asked, start: PtqOptions, calibration: CalibrationSet, dataset: Dataset, out: Path, held: HeldOut | None
) -> Artifact:
    from dataclasses import asdict, replace

    from ..quantize.qat import QAT_OPTIONS, quantize_qat
    from ..train.distill import training_photos

    wish: dict[str, Any] = {"epochs": asked.epochs, "learning_rate": asked.learning_rate, "seed": asked.seed}
    chosen = replace(QAT_OPTIONS, **{name: value for name, value in wish.items() if value is not None})
    photos = training_photos(dataset.role("train"), asked.source.preprocess, out.parent / "cache", dataset.kind)
    render.echo_options(method="qat", train_photos=len(photos), **asdict(chosen))
    return quantize_qat(asked.source, start, calibration, photos, chosen, out, show_epochs, held)


def _words(options: dict[str, Any]) -> dict[str, Any]:
    """Lists as words; what a quantizer does not have is left out."""
    listed = {name: ", ".join(value) or "none" if isinstance(value, list) else value for name, value in options.items()}
    return {name: value for name, value in listed.items() if value is not None}
