"""Commands that make artifacts: export, synthesize."""

from __future__ import annotations

import contextlib
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..artifact import Artifact
from ..errors import BadArtifact, BadInput, EngineMissing
from . import options, output, render, sources

if TYPE_CHECKING:  # onnx and torch, which `tiffin --help` does without
    from collections.abc import Callable

    from ..artifact import Preprocess
    from ..data import Dataset
    from ..export.confidence import HeldOut
    from ..export.loaders import Source

COMPARED = 64  # photos that are prepared by the source's library too
_BUILD = ("torch", "onnx", "onnxscript", "nncf", "safetensors")


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(sources.takes_told(export))
    app.command()(sources.takes_told(synthesize))


def need_build(packages: tuple[str, ...] = _BUILD, extra: str = "build") -> None:
    """One clear error where the packages of an extra, the workstation's if none is named, are missing."""
    from importlib.util import find_spec

    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise EngineMissing(
            f"{', '.join(missing)} not installed", f"the {extra} extra", f'pip install "tiffin[{extra}]"'
        )


def export(
    source: Annotated[str | None, typer.Argument(help=sources.HELP, show_default=False)] = None,
    out: options.Out = Path("out/fp32"),
    form: Annotated[str, typer.Option("--format", help="onnx, or pt2 for the torch backend.")] = "onnx",
    data: options.Data = None,
    photos: Annotated[int, typer.Option(min=1, help="Photos for the parity check.")] = 64,
    seed: options.Seed = 0,
    fit_temperature: options.FitTemperature = True,
    reference: Annotated[
        str | None,
        typer.Option(
            help="package.module:transform of training: refuse another preprocessing (docs/preprocessing.md). "
            "Default: the transform of timm, torchvision or transformers; none: no check."
        ),
    ] = None,
    *,
    told: sources.Options,
) -> None:
    """A trained classifier to ONNX, its logits proven.

    It is kept only if they are those of its source; with --format pt2 there is no such proof.
    """
    need_build()
    from ..quantize.quantize import is_row_by_row

    if form not in ("onnx", "pt2"):
        raise BadInput(f"unknown format {form!r}", "onnx or pt2")
    opened = sources.opened(source, told)
    trained = opened.model
    render.echo_options(checkpoint=trained.sha256[:12], architecture=trained.architecture, format=form, out=out)
    say_replaced(out)
    found = functools.cache(lambda: dataset_of(data))
    drawn = functools.cache(lambda: drawn_paths(found(), "confirm", photos, seed))
    require_same_preprocessing(opened, reference, drawn, out)
    held = held_out_photos(found(), trained.labels, trained.preprocess, out) if fit_temperature else None
    if form == "pt2":
        from ..export.from_source import program_of

        artifact = program_of(opened, out, held)
    else:
        artifact = _proven(opened, out, drawn(), held)
    done(artifact)
    _say_fixed_batch(artifact)
    say_temperature(artifact)
    if form == "onnx" and is_row_by_row(artifact):
        render.next_command("quantize", out, data=data)
    else:
        render.next_command("bench", out)


def drawn_paths(dataset: Dataset, role: str, photos: int, seed: int) -> list[Path]:
    """Some of a role's photos."""
    from ..data import sample

    return [photo.path for photo in sample(dataset.role(role), photos, seed)]


def require_same_preprocessing(
    source: Source,
    reference: str | None,
    photos: Callable[[], list[Path]],
    out: Path,
    otherwise: str = "or tell --preprocess FILE.json, which is not checked",
) -> None:
    """Before anything is exported: the host part against the reference, or the source's library.

    Args:
        reference: `package.module:transform`, "none", or None for the library's own transform, if there is one.
        photos: called where there is something to compare with.
        otherwise: what else to do where its library prepares photos otherwise.
    """
    from .preprocessing import compared, library_reference, named_reference, require_alike, told

    if reference == "none":
        return
    held = named_reference(reference) if reference else library_reference(source, otherwise)
    if held is None:
        return
    host, picture = source.model.preprocess, beside(out, "preprocessing.png")
    output.make_parent(picture)
    found, cause = compared(host, held, photos(), picture)
    require_alike(found, cause, held, picture)
    render.show(told(found, held.name, host))


def _proven(source: Source, out: Path, photos: list[Path], held: HeldOut | None) -> Artifact:
    from ..export.from_source import export_source
    from ..runtime.preprocess import prepare_batch

    artifact, parity = export_source(source, out, prepare_batch(photos, source.model.preprocess), held)
    render.show(
        f"parity on {parity.photos} photos: largest difference {parity.max_relative:.1e} of the largest logit "
        f"(tolerance {parity.tolerance:.0e}), top-1 agreement {parity.top1_agreement:.2%}"
    )
    return artifact


def _say_fixed_batch(artifact: Artifact) -> None:
    batch, reason = artifact.manifest.inputs[0].shape[0], artifact.manifest.producer.options.get("fixed_batch")
    if batch is not None:
        render.say(f"note: takes {batch} photo{'s' * (batch > 1)} a run ({reason}); larger batches are split")


def dataset_of(data: Path | None) -> Dataset:
    """The dataset to work with; says how many photos each role got where the set does not say it by its splits."""
    from ..data import find_dataset

    dataset = find_dataset(data, progress=sys.stderr.isatty())  # a download's
    if dataset.note:
        counts = ", ".join(f"{len(dataset.roles[role])} {role}" for role in ("train", "select", "confirm"))
        render.say(f"photos of {dataset.name}: {counts} ({dataset.note})")
    return dataset


def held_out_photos(dataset: Dataset, labels: tuple[str, ...], host: Preprocess, out: Path) -> HeldOut:
    """What a temperature is fitted on, prepared in the cache beside `out`."""
    from ..export.confidence import held_out

    named = sources.matched(dataset, labels, "the model", required=False) if dataset.kind == "photos" else dataset
    return held_out(named, labels, host, out.parent / "cache")


def say_temperature(artifact: Artifact) -> None:
    """Say what the artifact's probabilities are divided by, and where it comes from."""
    from ..export.confidence import told

    render.show(told(artifact.manifest))


def synthesize(
    out: Annotated[Path, typer.Argument(help="Folder to write the set to.")],
    checkpoint: Annotated[
        str | None,
        typer.Option(
            help="Source with torch code and batch norms: FILE.safetensors of tiffin, package.module:factory, hf:, "
            "timm:, torchvision: (docs/sources.md). Default: the shipped classifier.",
            show_default=False,
        ),
    ] = None,
    seed: options.Seed = 0,
    *,
    told: sources.Options,
) -> None:
    """Photos made from the checkpoint alone. They calibrate, and tell agreement, where there is no data."""
    need_build()
    import logging
    from dataclasses import asdict

    from ..quantize.synthesis import SynthesisOptions
    from ..quantize.synthesis import synthesize as make

    chosen = SynthesisOptions(seed=seed)
    render.echo_options(**asdict(chosen), out=out)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    make(sources.opened(checkpoint, told).module(), out, chosen)
    render.show(f"wrote {out}")
    render.next_command("quantize", "ARTIFACT", data=out)


def beside(artifact: Path, suffix: str) -> Path:
    """The default folder of what is made from an artifact."""
    named = artifact if artifact.name not in ("", "..") else artifact.resolve()
    return named.with_name(f"{named.name}-{suffix}")


def place_of(artifact: Path, out: Path | None, suffix: str) -> Path:
    """Where what is made from an artifact is written: `out`, else the default folder; says what it replaces.

    Raises:
        BadInput: `out` is the artifact itself.
    """
    place = out or beside(artifact, suffix)
    if place.resolve() == artifact.resolve():
        raise BadInput(f"--out {place} is the artifact itself", "another folder", "choose another --out")
    say_replaced(place)
    return place


def say_replaced(place: Path) -> None:
    """Say which artifact is there, if one is: it stays until the new one is written."""
    with contextlib.suppress(BadArtifact):  # a damaged one is replaced as well
        found = Artifact.load(place)
        render.say(f"replaces {place} ({found.manifest.precision}, {found.digest[:12]})")


def done(artifact: Artifact) -> None:
    """Say what was written."""
    render.show(f"wrote {artifact.folder} ({artifact.size_bytes / 1e6:.1f} MB, artifact {artifact.digest[:12]})")
