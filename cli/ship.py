"""Commands that hand artifacts on: pack, unpack, export-repository. They need no torch and no onnx."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import BadInput
from . import certificates as tables
from . import options, render

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    from ..artifact import RunConfig
    from ..artifact.bundle import Variant
    from ..deploy.boards import Board
    from ..records import Record

_SERVERS = ("triton", "ovms", "kserve")


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(pack)
    app.command()(unpack)
    app.command()(export_repository)


def pack(
    artifacts: Annotated[
        list[str], typer.Argument(help="Variants, fastest first; FOLDER@BACKEND names the engine.", show_default=False)
    ],
    speed: Annotated[
        Path | None, typer.Option(help="Record of `tiffin bench` with these artifacts, to order them by.")
    ] = None,
    board: Annotated[
        str | None, typer.Option(help="Check and order for raspberry-pi, jetson or x86; print what to type there.")
    ] = None,
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("out/model.tiffin"),
) -> None:
    """Several variants in one file for a device. It loads the fastest that is certified for its class of CPU."""
    from ..artifact.bundle import SUFFIX, Variant
    from ..artifact.bundle import pack as write_box

    if out.suffix != SUFFIX:
        raise BadInput(f"{out}: the name of a box", f"one that ends in {SUFFIX}", f"choose --out {out.stem}{SUFFIX}")
    target = _board(board)
    words = [_with_engine(word, target) for word in artifacts] if target else artifacts
    given = [Variant(row.artifact, _portable(row.run)) for row in
             options.candidates(words, None, None, None) if row.artifact and row.run]  # fmt: skip
    about: dict[str, object] = {"order": "as given"}
    variants, about = _by_speed(given, speed) if speed else (given, about)
    if target is None:
        write_box(out, variants, about)
        render.show(tables.box_text(out, variants, about))
        if note := tables.loaded_instead(variants):
            render.show("\n" + render.wrapped([note]))
        return
    _pack_for(target, variants, about, out)


def _portable(run: RunConfig) -> RunConfig:
    """Without this machine's cores; an ONNX model that TensorRT will build an engine of runs on the GPU."""
    from ..artifact.engine_stamp import LIBRARIES

    return replace(run, threads=None, device="gpu" if run.backend in LIBRARIES and run.device == "cpu" else run.device)


def _board(name: str | None) -> Board | None:
    if name is None:
        return None
    from ..deploy.boards import board_named

    return board_named(name)


def _with_engine(word: str, board: Board) -> str:
    """Where no engine is named, the board's own."""
    from ..artifact import Artifact
    from ..deploy.boards import engine_on

    engine = None if options.split_engine(word)[1] else engine_on(board, Artifact.load(word))
    return f"{word}@{engine}" if engine else word


def _pack_for(board: Board, variants: list[Variant], about: dict[str, object], out: Path) -> None:
    """Write the box, then say what to type on the board and what nobody could check here."""
    from ..artifact.bundle import pack as write_box
    from ..deploy.boards import UNVERIFIED, commands, fit_to, wheel

    measured = about["order"] == "by time"
    fitted = fit_to(board, variants, keep_order=measured)
    told = {**about, "board": board.name, **({} if measured else {"order": f"as is usual on {board.name}"})}
    write_box(out, fitted.variants, told)
    render.show(tables.box_text(out, fitted.variants, told))
    render.show("\n" + render.wrapped([*fitted.warnings, f"not verified: {UNVERIFIED}"]))
    place = f"{board.words} ({board.architecture}, Python {board.python} or later)"
    beside = f"{out.name} and {wheel()} (docs/platforms.md says how it is made)"
    render.show("\n" + render.wrapped([f"There, beside {beside}, on a {place}:"]) + "\n")
    for line in commands(board, fitted.variants, out):
        render.show(f"    {line}")


def _by_speed(given: list[Variant], path: Path) -> tuple[list[Variant], dict[str, object]]:
    """Fastest first by a record's times, and what the box says about it."""
    from ..records.record import load_record

    record = load_record(path)
    times = {variant.name: _cost_s(record, variant) for variant in given}
    if missing := [name for name, time_s in times.items() if time_s is None]:
        raise BadInput(f"{path}: has no time of {', '.join(missing)}", "a record of these artifacts on these engines",
                       "measure them with `tiffin bench`")  # fmt: skip
    order = sorted(given, key=lambda variant: times[variant.name] or 0.0)
    ratios = {v.name: round((times[v.name] or 0.0) / (times[order[0].name] or 1.0), 3) for v in order}
    return order, {"order": "by time", "cpu": record.environment["cpu"], "times_of_the_first": ratios}


def _cost_s(record: Record, variant: Variant) -> float | None:
    for subject in record.subjects:
        same = subject.artifact == variant.artifact.digest and subject.requested.get("backend") == variant.run.backend
        if same and subject.name in record.rounds:
            return record.rounds[subject.name].cost_s()
    return None


def unpack(
    source: Annotated[Path, typer.Argument(help="A .tiffin file, or an artifact's folder.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="Folder to write to. Default: only list what is in it.")] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Plain files instead of artifacts: model, labels, preprocessing, C++.")
    ] = False,
) -> None:
    """What a box holds, or its artifacts as folders again. With --plain as files for people without Tiffin."""
    from ..deploy.unpack import opened

    if plain and out is None:
        raise BadInput("--plain without --out", "the folder to write to", "pass --out FOLDER")
    box = opened(source)
    if out is None:
        render.show(tables.box_text(source, box.variants, box.about) if source.is_file() else _listed(box.variants))
    elif plain:
        _unpack_plain(box.variants, out)
    else:
        _unpack_artifacts(box.variants, out)


def _listed(variants: tuple[Variant, ...]) -> str:
    rows = [[v.name, v.artifact.manifest.format, v.artifact.manifest.precision, f"{v.artifact.size_bytes / 1e6:.2f}"]
            for v in variants]  # fmt: skip
    return render.Table(("variant", "format", "precision", "MB"), rows, left=3).text()


def _unpack_artifacts(variants: tuple[Variant, ...], out: Path) -> None:
    from ..deploy.unpack import extract
    from .build import done

    for artifact in {variant.folder_name: variant.artifact for variant in variants}.values():
        done(extract(artifact, out / artifact.folder.resolve().name))


def _unpack_plain(variants: tuple[Variant, ...], out: Path) -> None:
    """One variant into the folder itself, several into a folder each."""
    from ..deploy.plain import write_plain

    for variant in variants:
        folder = out if len(variants) == 1 else out / variant.name
        programs = write_plain(variant.artifact, folder, variant.run)
        render.show(f"wrote {folder} ({', '.join(programs) or 'no'} program in C++)")
        if programs:
            place = shlex.quote(str(folder))
            render.say(f"next: cmake -S {place}/cpp -B build && cmake --build build  ({place}/README.txt)")


def export_repository(
    artifact: Annotated[Path, typer.Argument(help="An artifact's folder.", show_default=False)],
    server: Annotated[str, typer.Option("--for", help="triton, ovms or kserve.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The repository; kserve: the folder to write.")] = Path("out/repository"),
    name: Annotated[str | None, typer.Option(help="Name of the model. Default: that of the folder.")] = None,
    max_batch: Annotated[int | None, typer.Option(min=1, help="Triton: photos joined at most in one run.")] = None,
    storage_uri: Annotated[str | None, typer.Option(help="KServe: where storage/ will be uploaded to.")] = None,
) -> None:
    """A repository for Triton, OpenVINO Model Server, KServe."""
    from ..artifact import Artifact
    from ..deploy.kserve import write_kserve
    from ..deploy.ovms import write_ovms
    from ..deploy.triton import write_triton

    if server not in _SERVERS:
        raise BadInput(f"unknown server {server!r}", f"one of {', '.join(_SERVERS)}")
    _refuse_unused(server, max_batch, storage_uri)
    found = Artifact.load(artifact)
    render.echo_options(server=server, name=name or found.folder.resolve().name, max_batch=max_batch or "default",
                        out=out)  # fmt: skip
    if server == "triton":
        written = write_triton(found, out, name, max_batch)
    elif server == "ovms":
        written = write_ovms(found, out, name)
    else:
        written = write_kserve(found, out, name, storage_uri, max_batch)
    render.show(f"wrote {written.folder}")
    if written.notes:
        render.show(render.wrapped(written.notes))
    render.say(f"start it: {written.start}")


def _refuse_unused(server: str, max_batch: int | None, storage_uri: str | None) -> None:
    """Raises BadInput for an option that would be passed over."""
    unfit = {"--max-batch": max_batch and server == "ovms", "--storage-uri": storage_uri and server != "kserve"}
    for option in (option for option, given in unfit.items() if given):
        raise BadInput(f"{option} with --for {server}", "options that it takes", f"leave {option} out")
