"""What the user tells of a source beside its name: weights, labels, preprocessing; each wins over the source's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...artifact import Preprocess
from ...artifact.manifest import FITS, ROUNDINGS, require_numbers
from ...errors import BadInput, NotTold
from ...runtime.preprocess import with_golden

CHANNELS = ("RGB", "BGR")
TURNED = "the network wants BGR: channels are turned inside the model; mean and std were taken as blue, green, red"
_NEEDED = {"height": "--size", "width": "--size", "mean": "--mean", "std": "--std"}
_LABELS = ("labels", "id2label", "class_to_idx", "label2id")
_NAMES = "a list of names, index → name, or name → index"
FIELDS = ("height", "width", "crop_fraction", "interpolation", "mean", "std", "fit", "rounding")


@dataclass(frozen=True)
class Told:
    """All optional; None leaves it to the source.

    Args:
        weights: of a source that is code alone: .pt, .pth, .ckpt, .bin or .safetensors.
        labels: one name a line, in the order of the logits; or JSON: a list, index → name, or name → index.
        preprocess: JSON with `Preprocess`'s fields (mean and std in pixel levels), or a preprocessor_config.json.
        size: (height, width) of the input in pixels.
        mean, std: a value a channel, in the order that the network reads them (BGR: blue first), in the units of images
            from 0 to 1; where any is above 1, in pixel levels.
        channels: "RGB" or "BGR", the order that the network was trained with.
    """

    weights: Path | None = None
    labels: Path | None = None
    preprocess: Path | None = None
    size: tuple[int, int] | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    crop_fraction: float | None = None
    interpolation: str | None = None
    fit: str | None = None
    channels: str | None = None
    rounding: str | None = None

    def __post_init__(self) -> None:
        if self.channels not in (None, *CHANNELS):
            raise BadInput(f"channels {self.channels!r}", f"one of {', '.join(CHANNELS)}")
        require_numbers(
            {name: value for name in ("mean", "std") if (value := getattr(self, name)) is not None}, "options"
        )

    def label_names(self) -> tuple[str, ...] | None:
        """The labels of the file, None without one.

        Raises:
            BadInput: no such file, not names, or none.
        """
        return read_labels(self.labels) if self.labels else None

    def fields(self) -> dict[str, Any]:
        """`Preprocess`'s fields as far as they are told; options win over the file.

        Raises:
            BadInput: the file cannot be read, or holds other fields.
        """
        found = read_preprocess(self.preprocess) if self.preprocess else {}
        if self.size:
            found |= {"height": self.size[0], "width": self.size[1]}
        for name in ("crop_fraction", "interpolation", "fit", "rounding"):
            if getattr(self, name) is not None:
                found[name] = getattr(self, name)
        return found | _in_levels(self.mean, self.std)

    def host(self, own: Mapping[str, Any], source: str) -> Preprocess:
        """The source's own preprocessing with what is told, its golden hashes made.

        Args:
            own: `Preprocess`'s fields as far as the source knows them.

        Raises:
            NotTold: size, mean or std are known from neither.
            BadInput: they cannot be.
        """
        found = {**own, **self.fields()}
        lacking = sorted({option for name, option in _NEEDED.items() if name not in found})
        if lacking:
            raise NotTold(
                f"{source} says nothing of its preprocessing: {', '.join(lacking)} unknown",
                "the size, mean and std that it was trained with",
                "give " + ", ".join(lacking) + ", or --preprocess FILE.json (docs/sources.md)",
            )
        return with_golden(Preprocess(**found))


def _in_levels(mean: tuple[float, ...] | None, std: tuple[float, ...] | None) -> dict[str, Any]:
    """Mean and std in pixel levels, 0–255."""
    given = {name: value for name, value in (("mean", mean), ("std", std)) if value is not None}
    scale = 255.0 if max((max(map(abs, value)) for value in given.values()), default=0.0) <= 1 else 1.0
    return {name: tuple(each * scale for each in value) for name, value in given.items()}


def read_json(path: Path, expected: str) -> Any:
    """Raises BadInput for a file that is not there or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read ({error})", expected) from error


def read_labels(path: Path) -> tuple[str, ...]:
    """Labels in the order of the logits.

    Raises:
        BadInput: no such file, not names, or none.
    """
    expected = f"one name a line, or JSON: {_NAMES}"
    if path.suffix == ".json":
        labels = ordered(read_json(path, expected), str(path))
    else:
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, ValueError) as error:
            raise BadInput(f"{path}: cannot be read ({error})", expected) from error
        labels = tuple(line.strip() for line in lines if line.strip())
    if not labels:
        raise BadInput(f"{path}: no label", expected)
    return labels


def ordered(raw: Any, where: str) -> tuple[str, ...]:
    """A list of names, index → name, or name → index (torchvision's `class_to_idx`), as a tuple.

    Args:
        raw: one of these, or an object that has it under the name that a library gives it.

    Raises:
        BadInput: none of these, or an index is missing.
    """
    if isinstance(raw, Mapping):
        raw = next((raw[key] for key in _LABELS if raw.get(key)), raw)
    if isinstance(raw, Mapping) and raw and all(type(index) is int for index in raw.values()):
        raw = {index: name for name, index in raw.items()} if len(set(raw.values())) == len(raw) else None
    if isinstance(raw, Mapping):
        try:
            raw = [dict((int(key), name) for key, name in raw.items())[index] for index in range(len(raw))]
        except (KeyError, ValueError) as error:
            raise BadInput(f"{where}: index {error} of the labels", f"each of 0 to {len(raw) - 1} once") from error
    if not isinstance(raw, list | tuple) or not all(isinstance(name, str) for name in raw):
        raise BadInput(f"{where}: no labels", _NAMES)
    return tuple(raw)


def read_preprocess(path: Path) -> dict[str, Any]:
    """`Preprocess`'s fields in a JSON file, or those that a transformers preprocessor_config.json comes to.

    Raises:
        BadInput: not JSON, other fields, values that are no sizes, means or stds, or stds of images from 0 to 1.
    """
    raw = read_json(path, "JSON with Preprocess's fields")
    if isinstance(raw, Mapping) and isinstance(raw.get("preprocess"), Mapping):  # a checkpoint's, which is a whole rule
        raw = {"fit": FITS[0], "rounding": ROUNDINGS[0], **raw["preprocess"]}
    if not isinstance(raw, Mapping):
        raise BadInput(f"{path}: no JSON object", f"some of {', '.join(FIELDS)}")
    if "do_resize" in raw or "image_mean" in raw:
        from .huggingface import host_fields

        return host_fields(raw)
    unknown = [name for name in raw if name not in FIELDS]
    if unknown:
        raise BadInput(f"{path}: unknown field {unknown[0]!r}", f"some of {', '.join(FIELDS)}")
    require_numbers(raw, str(path))
    if max(raw.get("std", [1])) < 1:
        raise BadInput(f"{path}: std {raw['std']}", "mean and std in pixel levels, 0 to 255",
                       "multiply both by 255, or give them by --mean and --std, which may be of 0 to 1")  # fmt: skip
    return {name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()}
