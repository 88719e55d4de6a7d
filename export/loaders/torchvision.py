"""`torchvision:NAME`: a network of torchvision with its weights' transforms. With `--weights`, one's own weights."""

from __future__ import annotations

from typing import Any

from ...errors import BadInput, EngineMissing
from .classifier import Brought, as_source
from .huggingface import cropped_from, require_filter
from .source import Source
from .state import load_weights
from .told import Told

KIND = "torchvision"
PREFIX = "torchvision:"


def claims(text: str) -> bool:
    """`torchvision:…`."""
    return text.startswith(PREFIX)


def load(text: str, told: Told) -> Source:
    """Raises BadInput for an unknown name or weights that do not fit; EngineMissing where it cannot be imported."""
    try:
        from torchvision import models
        from torchvision.transforms import InterpolationMode
    except Exception as error:  # its operators are built for one torch alone
        raise EngineMissing(
            f"torchvision cannot be imported ({error})",
            "the build that belongs to the installed torch",
            "install it, or save the model to .onnx or .pt2 where it can be",
        ) from error
    name, labels = text.removeprefix(PREFIX), told.label_names()
    own = {"num_classes": len(labels)} if labels and told.weights else {}
    try:
        trained = models.get_model_weights(name).DEFAULT
        module = models.get_model(name, weights=None if told.weights else trained, **own)
    except Exception as error:  # torchvision's, the download's
        raise BadInput(f"{text}: {error}", "a classifier that torchvision.models.list_models() has") from error
    notes = load_weights(module, told.weights) if told.weights else ()
    names = None if told.weights else tuple(trained.meta["categories"])
    word = {"interpolation": InterpolationMode(told.interpolation)} if told.interpolation else {}
    transform = trained.transforms(**word)
    fields = host_fields(transform)
    return as_source(Brought(text, KIND, module, name, labels or names, fields, notes=notes, transform=transform), told)


def host_fields(transforms: Any) -> dict[str, Any]:
    """`Preprocess`'s fields of torchvision's `ImageClassification` preset.

    Args:
        transforms: has `resize_size`, `crop_size` (lists of one side), `interpolation`, `mean`, `std`.

    Raises:
        BadInput: it does something that the host part cannot.
    """
    (resized,), (crop,) = transforms.resize_size, transforms.crop_size
    own = getattr(transforms.interpolation, "value", transforms.interpolation)
    return {
        **cropped_from((resized, resized), (crop, crop), "transforms"),
        "interpolation": require_filter(str(own), "transforms"),
        "rounding": "torchvision",
        "mean": tuple(value * 255 for value in transforms.mean),
        "std": tuple(value * 255 for value in transforms.std),
    }
