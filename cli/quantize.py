"""The command that makes 16-bit, int8 and fp8 artifacts."""

from __future__ import annotations

import shlex
import tempfile
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


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(quantize)


def quantize(
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
    asked = {"precision": (precision, _PRECISIONS), "method": (method, _METHODS), "calibrate": (calibrate, _SOURCES)}
    for what, (word, words) in asked.items():
        if word not in words:
            raise BadInput(f"unknown {what} {word!r}", f"one of {', '.join(words)}")
    if method == "ptq" and (epochs or learning_rate):
        raise BadInput("--epochs and --learning-rate are of training", "--method qat", "add it, or leave them out")
    _require_feeds(source, precision, feeds, method, calibrate)
    fit_temperature = fit_temperature and source.manifest.task == "classification"
    other = "--method qat" if method == "qat" else f"--floats {floats}" if floats != "fp32" else None
    if precision != "int8" and other:
        raise BadInput(f"{other} with --precision {precision}", "--precision int8", "leave one of them out")
    if precision in ("fp16", "bf16"):
        place = place_of(artifact, out, precision)
        render.echo_options(precision=precision, out=place)
        made = _half(source, precision, place, dataset_of(data) if fit_temperature else None)
    else:
        from ..quantize.options import FP8_SCHEME, PtqOptions, fp8_options

        fp8 = precision == "fp8"
        scheme = scheme or (FP8_SCHEME if fp8 else "cpu")
        wish = PtqOptions(scheme, quantizer, bias_correction, ranges, preset, smooth, compensate,
                          tuple(float_node or ()), floats)  # fmt: skip
        chosen = fp8_options(wish) if fp8 else wish.applied()
        endings = [f"-{floats}"] * (floats != "fp32") + ["-qat"] * (method == "qat")
        suffix = "fp8" if fp8 else f"int8-{scheme}{''.join(endings)}"
        fitting = {"epochs": epochs, "learning_rate": learning_rate, "seed": seed} if method == "qat" else None
        place = place_of(artifact, out, suffix)
        if feeds is not None:
            made = _with_feeds(source, precision, chosen, place, feeds)
            _tell(made, scheme)
            return
        dataset = _made_from(source, checkpoint, place, seed) if calibrate == "data-free" else dataset_of(data)
        made = _calibrated(source, precision, chosen, place, dataset, per_class, seed, fitting, fit_temperature)
    _tell(made, scheme)


def _tell(made: Artifact, scheme: str | None) -> None:
    done(made)
    if made.manifest.task == "classification":
        say_temperature(made)
    backend = "tensorrt_rtx" if scheme == "tensorrt" else "openvino"
    render.next_command(f"tiffin compile {shlex.quote(str(made.folder))} --backend {backend}")


def _require_feeds(source: Artifact, precision: str, feeds: Path | None, method: str, calibrate: str) -> None:
    """What takes no photos is calibrated with feeds, and feeds go with nothing that wants photos."""
    if feeds is not None:
        wants = "--method qat" if method == "qat" else "--calibrate data-free" if calibrate != "photos" else None
        wants = wants or (f"--precision {precision}" if precision in ("fp16", "bf16") else None)
        if wants:
            raise BadInput(f"--feeds with {wants}", "post-training int8 or fp8", "leave one of them out")
    elif source.manifest.preprocess is None and precision in ("int8", "fp8"):
        raise BadInput(
            f"{source.folder}: takes no photos to calibrate with",
            "arrays by the names of its inputs",
            "write some hundred typical rows with np.savez and pass --feeds; see docs/graphs.md",
        )


def _with_feeds(source: Artifact, precision: str, chosen: PtqOptions, out: Path, feeds: Path) -> Artifact:
    from ..quantize.named_feeds import CalibrationFeeds
    from ..quantize.quantize import quantize_fp8, quantize_int8

    rows: Calibration = CalibrationFeeds.read(feeds)
    render.echo_options(**_words(chosen.plain()), rows=len(rows), source=rows.source, out=out)
    return (quantize_fp8 if precision == "fp8" else quantize_int8)(source, chosen, rows, out)


def _half(source: Artifact, precision: str, out: Path, dataset: Dataset | None) -> Artifact:
    """A dataset is for the temperature."""
    from ..quantize.quantize import quantize_half

    return quantize_half(source, precision, out, _held_out(source, dataset, out) if dataset else None)


def _held_out(source: Artifact, dataset: Dataset, out: Path) -> HeldOut:
    return held_out_photos(dataset, source.manifest.labels, source.preprocess, out)


def _made_from(source: Artifact, checkpoint: str | None, out: Path, seed: int) -> Dataset:
    """Images that the checkpoint remembers."""
    from ..quantize.data_free import data_free

    progress = render.TerminalProgress().counted("making images from the checkpoint")
    return data_free(source, checkpoint, out.parent / "cache", seed, progress)


def _calibrated(
    source: Artifact,
    precision: str,
    chosen: PtqOptions,
    out: Path,
    dataset: Dataset,
    per_class: int,
    seed: int,
    fitting: dict[str, Any] | None,
    fit_temperature: bool,
) -> Artifact:
    from ..data import balanced
    from ..data.prepared import prepare_photos
    from ..quantize.calibration import CalibrationSet
    from ..quantize.quantize import quantize_fp8, quantize_int8

    preprocess = source.preprocess
    drawn = balanced(dataset.role("calibrate"), per_class, seed)
    render.echo_options(**_words(chosen.plain()), photos=len(drawn), source=dataset.name, seed=seed, out=out)
    held = _held_out(source, dataset, out) if fit_temperature else None
    with tempfile.TemporaryDirectory() as scratch:
        photos = CalibrationSet.of(prepare_photos(drawn, preprocess, Path(scratch), dataset.kind), dataset.name)
        if fitting is None:
            make = quantize_fp8 if precision == "fp8" else quantize_int8
            return make(source, chosen, photos, out, held)
        return _trained(source, chosen, photos, out, dataset, fitting, held)


def _trained(
    source: Artifact,
    start: PtqOptions,
    calibration: CalibrationSet,
    out: Path,
    dataset: Dataset,
    asked: dict[str, Any],
    held: HeldOut | None,
) -> Artifact:
    from dataclasses import asdict, replace

    from ..quantize.qat import QAT_OPTIONS, quantize_qat
    from ..train.distill import training_photos

    chosen = replace(QAT_OPTIONS, **{name: value for name, value in asked.items() if value is not None})
    photos = training_photos(dataset.role("train"), source.preprocess, out.parent / "cache", dataset.kind)
    render.echo_options(method="qat", train_photos=len(photos), **asdict(chosen))
    return quantize_qat(source, start, calibration, photos, chosen, out, show_epochs, held)


def _words(options: dict[str, Any]) -> dict[str, Any]:
    """Lists as words; what a quantizer does not have is left out."""
    listed = {name: ", ".join(value) or "none" if isinstance(value, list) else value for name, value in options.items()}
    return {name: value for name, value in listed.items() if value is not None}
