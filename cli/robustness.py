"""The command that spoils photos: robustness."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import BadInput
from . import options, output, render

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    from ..records.corruption import Corruption


def register(app: typer.Typer) -> None:
    """Add this file's command."""
    app.command()(robustness)


def robustness(
    artifacts: options.Scored,
    reference: Annotated[
        str | None, typer.Option(help="Artifact that the others are compared with. Default: the first.")
    ] = None,
    corruption: Annotated[
        list[str] | None, typer.Option(help="One kind, such as noise; may be given again. Default: all.")
    ] = None,
    strength: Annotated[list[int] | None, typer.Option(help="1, 2 or 3; may be given again. Default: all.")] = None,
    backend: options.Backend = None,
    threads: options.Threads = None,
    precision: options.Precision = None,
    data: options.Data = None,
    role: Annotated[str, typer.Option(help="Role of the photos: confirm or select.")] = "confirm",
    photos: Annotated[int, typer.Option(min=1, help="How many, each under every corruption.")] = 500,
    seed: options.Seed = 0,
    out: Annotated[Path, typer.Option(help="Record to write.")] = Path("out/robustness.json"),
    as_json: options.Json = False,
) -> None:
    """Top-1 under blur, noise and other corruptions. Does an artifact fall faster than its parent?"""
    from ..benchmarks.robustness import Spoiling, measure
    from ..data import sample
    from .build import dataset_of

    words = [reference, *(word for word in artifacts if word != reference)] if reference else artifacts
    candidates = options.candidates(words, backend, threads, precision, only_scored=True)
    host, chosen = options.one_preprocess(candidates), _chosen(corruption, strength)
    dataset = options.labelled(dataset_of(data), candidates)
    if dataset.kind != "photos":
        raise BadInput(
            f"robustness on {dataset.kind} images", "photos with true labels", "give their folder with --data"
        )
    drawn = sample(dataset.role(role), photos, seed)
    output.prepare_record(out)
    render.echo_options(
        data=dataset.name, role=role, photos=len(drawn), seed=seed, reference=candidates[0].name,
        corruptions=len(chosen), out=out,
    )  # fmt: skip
    spoiling = Spoiling(drawn, dataset.kind, chosen, host, out.parent / "cache")
    record = measure(candidates, spoiling, dataset.about(role, drawn), {"seed": seed}, render.TerminalProgress().bar)
    output.finish(record, out, as_json, candidates[0].name)


def _chosen(names: list[str] | None, strengths: list[int] | None) -> list[Corruption]:
    """Every kind asked for at every strength asked for, in the order of the documentation.

    Raises:
        BadInput: a word that is no kind, or another strength.
    """
    from ..data.corruptions import KINDS, STRENGTHS, corruption_named

    asked = [corruption_named(name, level) for name in names or KINDS for level in strengths or STRENGTHS]
    places = list(KINDS)
    return sorted(set(asked), key=lambda one: (places.index(one.name), one.strength))
