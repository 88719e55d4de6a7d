"""The command that compares a model's own transform with its artifact's preprocessing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import BadInput, ParityFailed
from . import options, output, render

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    from PIL.Image import Image

    from ..artifact import Preprocess
    from ..benchmarks.preprocessing import Agreement, Transform
    from ..benchmarks.preprocessing_causes import Cause
    from ..export.loaders import Source

_PICTURE = Path("out/preprocessing.png")


def register(app: typer.Typer) -> None:
    """Add this file's command."""
    app.command()(preprocessing)


def preprocessing(
    artifact: Annotated[Path, typer.Argument(help="The artifact's folder.")],
    photos: Annotated[
        list[str],
        typer.Argument(help="Photos, folders or quoted globs, as the camera writes them.", show_default=False),
    ],
    reference: Annotated[
        str, typer.Option(help="package.module:transform, which makes of a PIL image what the network was trained on.")
    ],
    most: Annotated[int, typer.Option(min=1, help="Photos compared, spread over those named.")] = 64,
    out: Annotated[Path, typer.Option(help="Picture of both side by side, written where they differ.")] = _PICTURE,
    as_json: options.Json = False,
) -> None:
    """Are photos prepared as they were in training?

    The artifact's way beside the transform that the model was trained with. A difference beyond one level of 255 exits
    with 1, names the likeliest cause and writes a picture.
    """
    from ..artifact import Artifact

    host = Artifact.load(artifact).preprocess
    output.make_parent(out)
    if out.exists() and out.suffix.lower() != _PICTURE.suffix:
        raise BadInput(f"{out}: is there already, and no picture", f"a new file, or a {_PICTURE.suffix} to replace",
                       "choose another --out")  # fmt: skip
    held = named_reference(reference)
    found, cause = compared(host, held, _spread(photos, most), out)
    if as_json:
        render.show(_as_json(found, cause, reference, out))
    require_alike(found, cause, held, out)
    if not as_json:
        render.show(told(found, reference, host))


@dataclass(frozen=True)
class Reference:
    """What an artifact's preprocessing is held against.

    Args:
        opening: how it opens a photo.
        otherwise: what else the user can do where they differ.
    """

    name: str
    transform: Transform
    opening: Callable[[Path], Image]
    otherwise: str = ""


def named_reference(reference: str) -> Reference:
    """What `package.module:transform` names.

    Raises:
        BadInput: nothing that can be called.
    """
    from ..benchmarks.preprocessing import opened
    from ..export.loaders.named import named

    transform = named(reference, "a callable that takes one PIL image")
    if not callable(transform) or isinstance(transform, type):
        raise BadInput(f"{reference} is {type(transform).__name__}", "a callable that takes one PIL image",
                       "make one in your module: transform = MyTransform(…)")  # fmt: skip
    return Reference(reference, transform, opened)


def library_reference(source: Source, otherwise: str) -> Reference | None:
    """The transform that the source's library has; it has no part in how a photo is opened."""
    from ..runtime.decode import decode

    if source.transform is None:
        return None
    return Reference(f"the transform of {source.kind}", source.transform, decode, f"; {otherwise}")


def compared(
    host: Preprocess, reference: Reference, photos: Sequence[Path], out: Path
) -> tuple[Agreement, Cause | None]:
    """What both make of the photos; where that differs, the likeliest cause, and a picture is written.

    Args:
        out: where the picture is written.

    Raises:
        BadInput: no photos, or a transform that fails.
        ParityFailed: a size that is not the artifact's.
    """
    from ..benchmarks.preprocessing import compare
    from ..benchmarks.preprocessing_causes import likeliest

    found = compare(host, reference.transform, photos, reference.opening)
    if found.alike:
        return found, None
    _draw(found, out)
    return found, likeliest(host, found.worst)


def require_alike(found: Agreement, cause: Cause | None, reference: Reference, out: Path) -> None:
    """Raises ParityFailed where they differ."""
    if not found.alike:
        raise ParityFailed(
            f"{reference.name} prepares photos otherwise than the artifact: up to {found.largest:.0f} of 255 levels "
            f"apart ({found.worst[0].path})",
            "at most 1 level",
            f"{_cause(cause)}; both are side by side in {out}{reference.otherwise}",
        )


def _as_json(found: Agreement, cause: Cause | None, reference: str, out: Path) -> str:
    """Photo, cause and picture are those of a difference, null where there is none."""
    about = {
        "photos": found.photos,
        "resized": found.resized,
        "largest": found.largest,
        "reference": reference,
        "photo": None if found.alike else str(found.worst[0].path),
        "cause": asdict(cause) if cause else None,
        "picture": None if found.alike else str(out),
    }
    return json.dumps(about, indent=1)


def _spread(words: list[str], most: int) -> list[Path]:
    from ..runtime.sources.files import found

    paths = [Path(path) for word in words for path in found(word)]
    return paths[:: -(-len(paths) // most)]


def _draw(found: Agreement, out: Path) -> None:
    from ..artifact.files import replace_files
    from ..report.difference import side_by_side

    worst = found.worst[0]
    try:
        replace_files({out: side_by_side(worst.theirs, worst.ours)})
    except OSError as error:
        raise BadInput(f"cannot write {out} ({error.strerror})", "a file in a writable folder") from error


def _cause(cause: Cause | None) -> str:
    if cause is None:
        return "no usual cause explains it"
    return f"likeliest cause: the reference has {', '.join(cause.changes)} (then {cause.left:.1f} levels are left)"


def told(found: Agreement, reference: str, host: Preprocess) -> str:
    """What an agreement is worth."""
    lines = [f"{reference} prepares {found.photos} photos as the artifact does: largest difference {found.largest:.2f} "
             "of 255 levels (1 is allowed)"]  # fmt: skip
    if found.by_order:
        lines.append(f"tall photos differ by up to {found.by_order:.0f} levels more, since this Pillow resizes them "
                     "vertically first there; the artifact's order is the same under every Pillow")  # fmt: skip
    if not found.resized:
        size = f"{host.resized[1]}×{host.resized[0]}"
        lines.append(f"none of them had to be resized to {size}: the filter was not looked at; name larger photos")
    return render.wrapped(lines)
