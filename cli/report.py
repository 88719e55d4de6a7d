"""`tiffin report`: records become a page, a comment, tables, a model card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import BadInput
from . import output, render
from .build import need_build

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    from ..data import Dataset
    from ..report.gallery import Gallery


def register(app: typer.Typer) -> None:
    """Add this file's command."""
    app.command()(report)


def report(
    records: Annotated[list[Path], typer.Argument(help="Records of any kind, as .json.", show_default=False)],
    html: Annotated[
        Path | None, typer.Option(help="Page to write: one file, no network. Default without others: out/report.html.")
    ] = None,
    md: Annotated[Path | None, typer.Option(help="Markdown, below 60 kB: for a README or a pull request.")] = None,
    csv: Annotated[Path | None, typer.Option(help="The table of candidates, with intervals.")] = None,
    latex: Annotated[Path | None, typer.Option(help="The same for a paper (booktabs).")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="All that was derived, with its sources.")] = None,
    card: Annotated[Path | None, typer.Option(help="A model card.")] = None,
    gate: Annotated[
        Path | None, typer.Option(help="gate.json of `tiffin check`: the answer is then the gate's.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Dataset folder, for pictures of photos whose answer changed.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Row that others are compared with. Default: the first fp32.")
    ] = None,
    margin: Annotated[float, typer.Option(help="Non-inferiority margin of top-1: 0.01 is one point.")] = 0.01,
    history: Annotated[Path | None, typer.Option(help="Folder of earlier records of the same rows.")] = None,
    photos: Annotated[int, typer.Option(min=0, help="Photos listed in the gallery, at most.")] = 300,
    pictures: Annotated[int, typer.Option(min=0, help="Of these with a picture, at most.")] = 200,
    picture_kb: Annotated[int, typer.Option(min=0, help="Kilobytes of all pictures, at most.")] = 1500,
    weights_licence: Annotated[str | None, typer.Option(help="For the model card.")] = None,
    data_licence: Annotated[str | None, typer.Option(help="For the model card.")] = None,
) -> None:
    """What the records say, for people.

    The answer first, then charts, changed photos and where each figure is from.

    A page with --data holds small pictures of your photos: do not publish it where these may not go.
    """
    from ..records.findings import load_result
    from ..report.charts import charts
    from ..report.gallery import gallery
    from ..report.markdown import as_markdown
    from ..report.model_card import licences, model_card
    from ..report.page import page
    from ..report.sources import load_sources
    from ..report.story import tell
    from ..report.tables import as_csv, as_json, as_latex

    if not any((html, md, csv, latex, json_file, card)):
        html = Path("out/report.html")
    if html or md or json_file:
        need_build(("altair", "vl_convert", "jinja2"), "report")
    given = {"--html": html, "--md": md, "--csv": csv, "--latex": latex, "--json": json_file, "--card": card}
    options = {path: option for option, path in given.items()}
    taken = {path.resolve() for path in (*records, *([gate] if gate else []))}
    for option, path in given.items():
        if path is None:
            continue
        if path.resolve() in taken:
            raise BadInput(f"{option} {path}", "a file that is neither read nor named twice")
        taken.add(path.resolve())
        output.make_parent(path, option)
    story = tell(load_sources(records), load_result(gate) if gate else None, reference, margin, history)
    found = gallery(story, photos)
    texts = {csv: lambda: as_csv(story), latex: lambda: as_latex(story),
             card: lambda: model_card(story, licences(story, weights_licence, data_licence))}  # fmt: skip
    if html or md or json_file:
        drawn, missing = charts(story)
        shown = _illustrated(found, data, pictures, 1000 * picture_kb) if html else found
        texts |= {html: lambda: page(story, drawn, missing, shown), md: lambda: as_markdown(story, drawn, found),
                  json_file: lambda: as_json(story, drawn, found)}  # fmt: skip
    for path, text in texts.items():
        if path is not None:
            output.save_text(text(), path, options[path])
            render.say(f"wrote {path} ({path.stat().st_size / 1000:.0f} kB)")
    render.show("\n" + render.wrapped([story.answer.line, *story.answer.more]))


def _illustrated(found: Gallery, data: Path | None, most: int, most_bytes: int) -> Gallery:
    """With pictures from the dataset, where one is named."""
    from ..report.thumbnails import illustrated

    return illustrated(found, _dataset(data) if data else None, most, most_bytes, Path("out/cache/pixel-hashes.json"))


def _dataset(data: Path) -> Dataset:
    from ..data import find_dataset

    if not data.is_dir():
        raise BadInput(
            f"--data {data}: no folder", "the dataset's folder", "leave --data out for a page without pictures"
        )
    return find_dataset(data)
