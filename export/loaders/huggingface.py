"""`hf:FOLDER`: an image classifier of transformers, read from a folder; `hf:OWNER/NAME` alone downloads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from torch import nn

from ...artifact.manifest import require_numbers
from ...errors import BadInput, EngineMissing, first_line
from ...train.zoo.layers import LogitsOf
from ..quiet import quiet
from .classifier import Brought, as_source
from .source import Source
from .told import Told, ordered, read_json

KIND = "transformers"
PREFIX = "hf:"
_CONFIG = "preprocessor_config.json"
# Processors that squeeze photos into a square where their file says one number.
_SQUARE = ("ViT", "DeiT", "Beit", "EfficientNet")
# Pillow's numbers, which these files keep. The others round differently from what the host part can do.
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}


def claims(text: str) -> bool:
    """`hf:…`."""
    return text.startswith(PREFIX)


def load(text: str, told: Told) -> Source:
    """Raises BadInput for no image classifier; EngineMissing without transformers."""
    name = text.removeprefix(PREFIX)
    _require_transformers()
    if told.weights is not None:
        raise BadInput(f"{text} with --weights", "the folder's own weights", "save them into the folder")
    folder = Path(name).expanduser()
    local = folder.is_dir()
    if not local and (name.startswith((".", "/", "~")) or name.count("/") != 1):
        raise BadInput(f"{folder}: no such folder", "a folder of save_pretrained, or OWNER/NAME to download")
    where = str(folder) if local else name
    model = _model(where, local, text)
    config = _preprocessor(where, local)
    _require_one_of_classes(model.config, text)
    labels = None if told.labels else ordered(getattr(model.config, "id2label", {}), f"{text}: config.json")
    notes = [] if config else [f"no {_CONFIG}: its preprocessing is what you told"]
    if labels and all(label == f"LABEL_{index}" for index, label in enumerate(labels)):
        notes.append("its labels are numbers (LABEL_0, …): name them by --labels")
    # A filter that is told wins, so that one which cannot be had does not stop who chose another.
    chosen = _chosen(told)
    own = host_fields({**config, **chosen}) if config else {}
    transform = None
    if config:
        try:
            transform = _processor(where, local, chosen)
        except Exception as error:  # its own, of files that name no processor that it knows
            notes.append(f"its preprocessing is read from {_CONFIG} and was not checked: {first_line(error)}")
    order = "BGR" if config.get("do_flip_channel_order") else "RGB"
    brought = Brought(text, KIND, LogitsOf(model), str(model.config.model_type), labels, own, order, notes=tuple(notes),
                      transform=transform)  # fmt: skip
    return as_source(brought, told)


def _require_transformers() -> None:
    from importlib.util import find_spec

    if find_spec("transformers") is None:
        raise EngineMissing("transformers is not installed", "the hf extra", 'pip install "tiffin[hf]"')


def _model(where: str, local: bool, text: str) -> nn.Module:
    from transformers import AutoModelForImageClassification
    from transformers.utils import logging

    bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with quiet("transformers"):
            # Eager: with torch's fused attention Swin's windows have no form in ONNX.
            model, told = AutoModelForImageClassification.from_pretrained(
                where, local_files_only=local, dtype="float32", output_loading_info=True, attn_implementation="eager"
            )
    except Exception as error:  # its own, of huggingface_hub and of safetensors
        absent = "" if local else "no such folder is here, and of the hub: "
        raise BadInput(f"{text} cannot be loaded: {absent}{first_line(error)}",
                       "an image classifier of transformers: config.json, weights",
                       "save it by save_pretrained(FOLDER), then name hf:FOLDER") from error  # fmt: skip
    finally:
        if bar:
            logging.enable_progress_bar()
    _require_whole(told, text)
    return model


def _require_whole(told: Mapping[str, Any], text: str) -> None:
    """Refuse weights that lack some: transformers draws these at random."""
    shaped = {each if isinstance(each, str) else each[0] for each in told["mismatched_keys"]}
    drawn = sorted(shaped | {name for name in told["missing_keys"] if not name.endswith("num_batches_tracked")})
    if drawn:
        more = f" and {len(drawn) - 10} more" if len(drawn) > 10 else ""
        raise BadInput(f"{text}: no weights that fit {', '.join(drawn[:10])}{more}",
                       "a classifier with its head: transformers would draw what is missing at random",
                       "save the trained classifier by save_pretrained(FOLDER), then name hf:FOLDER")  # fmt: skip


def _require_one_of_classes(config: Any, text: str) -> None:
    """Refuse a head whose answers are no choice among classes."""
    problem = getattr(config, "problem_type", None)
    if problem not in (None, "single_label_classification"):
        raise BadInput(f"{text}: config.json says problem_type {problem}", "a classifier: one class for each photo",
                       "run it by export_module, which takes any network (docs/graphs.md)")  # fmt: skip


def _preprocessor(where: str, local: bool) -> dict[str, Any]:
    """The file's content, empty where there is none."""
    if local:
        path: Path | None = Path(where) / _CONFIG
    else:
        from transformers.utils import cached_file

        found = cached_file(where, _CONFIG, _raise_exceptions_for_missing_entries=False)
        path = Path(found) if found else None
    if path is None or not path.is_file():
        return {}
    raw = read_json(path, "transformers' preprocessing")
    if not isinstance(raw, Mapping):
        raise BadInput(f"{path}: no JSON object", "transformers' preprocessing")
    return dict(raw)


def _processor(where: str, local: bool, chosen: Mapping[str, Any]) -> Callable[[Image.Image], Any]:
    """Its image processor, the one that works on Pillow's images as the host part does.

    Args:
        chosen: given to it with each photo, in place of its own.

    Raises:
        ValueError, OSError: transformers knows none for these files.
    """
    from transformers import AutoImageProcessor

    with quiet("transformers"):
        processor = AutoImageProcessor.from_pretrained(where, local_files_only=local, backend="pil")
    return lambda image: processor(image, return_tensors="np", **chosen)


def _chosen(told: Told) -> dict[str, Any]:
    """A filter that was told, as these files have it."""
    number = {word: key for key, word in _FILTERS.items()}.get(told.interpolation or "")
    return {} if number is None else {"resample": number}


def host_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """`Preprocess`'s fields of a preprocessor_config.json, as transformers' image processors read it.

    Raises:
        BadInput: it does something that the host part cannot, or a field is no number.
    """
    try:
        found = {**_sizes(config), **_normalization(config)}
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise BadInput(f"{_CONFIG}: {error}", "sizes, factors, means and stds that are numbers") from error
    rounding = "nearest" if found.get("fit") == "squeeze" else "transformers"  # alike where a photo is squeezed
    return {"fit": "crop", "rounding": rounding, **found}


def _sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    crop = _pair(config.get("crop_size")) if config.get("do_center_crop") else None
    if config.get("do_pad"):
        raise BadInput(
            f"{_CONFIG}: do_pad", "photos resized and cropped, not padded", "tell by --preprocess what to do"
        )
    if not config.get("do_resize", True):
        raise BadInput(f"{_CONFIG}: do_resize false", "photos resized to the network's size", "give --preprocess FILE")
    size = config.get("size")
    filtered = _FILTERS.get(config.get("resample", 2), str(config.get("resample")))
    found: dict[str, Any] = {"interpolation": require_filter(filtered, _CONFIG)}
    shorter = size.get("shortest_edge") if isinstance(size, Mapping) else None
    if isinstance(size, int) and not _class_of(config).startswith(_SQUARE):  # of old files
        shorter = size
        if "crop_pct" not in config:
            raise BadInput(f"{_CONFIG}: size {size}", "size with height and width, or with shortest_edge",
                           "save it again by a newer transformers, or give --preprocess FILE.json")  # fmt: skip
    if shorter and config.get("crop_pct"):
        return found | _convnext(int(shorter), float(config["crop_pct"]))
    if shorter:
        return found | cropped_from((shorter, shorter), crop or (shorter, shorter), _CONFIG)
    exact = _pair(size)
    if exact is None:
        raise BadInput(f"{_CONFIG}: size {size}", "size with height and width, or with shortest_edge",
                       "give --preprocess FILE.json")  # fmt: skip
    return found | {"fit": "squeeze"} | cropped_from(exact, crop or exact, _CONFIG)


def _class_of(config: Mapping[str, Any]) -> str:
    """The processor's class, under the name that it had when the file was written."""
    return str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")


def _convnext(size: int, crop_pct: float) -> dict[str, Any]:
    """ConvNeXt's rule: below 384 the shorter side becomes `size / crop_pct` (cut off) and is cropped; else squeezed."""
    if size >= 384:
        return {"height": size, "width": size, "crop_fraction": 1.0, "fit": "squeeze"}
    larger = int(size / crop_pct)
    return cropped_from((larger, larger), (size, size), _CONFIG)


def _pair(size: Any) -> tuple[int, int] | None:
    if isinstance(size, int):
        return size, size
    if isinstance(size, Mapping) and {"height", "width"} <= set(size):
        return int(size["height"]), int(size["width"])
    return None


def cropped_from(resized: tuple[int, int], crop: tuple[int, int], where: str) -> dict[str, Any]:
    """Size and fraction that cut `crop` (height, width) from a photo resized to `resized`.

    Raises:
        BadInput: the crop is larger, or no one fraction makes both sides.
    """
    height, width = crop
    fraction = height / resized[0]
    if fraction <= 1 and (round(height / fraction), round(width / fraction)) == resized:
        return {"height": height, "width": width, "crop_fraction": fraction}
    raise BadInput(
        f"{where}: {height}×{width} cut from {resized[0]}×{resized[1]}",
        "one crop fraction for both sides, at most 1",
        "give --size and --crop-fraction that come near, and look at the difference",
    )


def require_filter(word: str, where: str) -> str:
    """Raises BadInput for a filter that the host part does not have."""
    if word not in ("bicubic", "bilinear", "lanczos"):
        raise BadInput(
            f"{where}: interpolation {word!r}",
            "bicubic, bilinear or lanczos, antialiased: the same bytes on every device",
            "choose one by --interpolation, and look at what it changes: `tiffin score`",
        )
    return word


def _normalization(config: Mapping[str, Any]) -> dict[str, Any]:
    """`(level * factor - offset - mean) / std` with transformers' names → mean and std in pixel levels.

    EfficientNet's processor divides by its std once more, as the weights ported from Keras want it.
    """
    factor = float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0
    offset = 1.0 if config.get("rescale_offset") else 0.0
    usual = config.get("do_normalize", True) and "image_mean" in config
    mean, std = [_triple(config[key]) for key in ("image_mean", "image_std")] if usual else [(0.0,) * 3, (1.0,) * 3]
    if "image_std" in config and config.get("include_top", _class_of(config).startswith("EfficientNet")):
        std = _triple([each * more for each, more in zip(std, _triple(config["image_std"]), strict=True)])
    require_numbers({"mean": mean, "std": std}, _CONFIG)
    return {"mean": tuple((value + offset) / factor for value in mean), "std": tuple(value / factor for value in std)}


def _triple(value: Any) -> tuple[float, float, float]:
    values = [float(value)] * 3 if isinstance(value, int | float) else [float(each) for each in value]
    if len(values) != 3:
        raise BadInput(f"{_CONFIG}: mean or std of {len(values)} channels", "3: colour photos")
    return values[0], values[1], values[2]
