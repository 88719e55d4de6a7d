"""`package.module:factory` with `--weights FILE`: the user's own code builds the network."""

from __future__ import annotations

import inspect
import re
from typing import Any

from torch import nn

from ...artifact.files import sha256_file
from ...errors import BadInput
from .classifier import Brought, as_source
from .named import named
from .source import Source
from .state import load_weights
from .told import Told

KIND = "factory"
_WORDS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def claims(text: str) -> bool:
    """`module:callable`, each of plain names."""
    return _WORDS.fullmatch(text) is not None


def load(text: str, told: Told) -> Source:
    """Call the factory, with the number of labels where it asks for one, and load the weights.

    Raises:
        BadInput: no such module or name, it raises or returns no module, or the weights do not fit.
    """
    if told.weights is None:
        raise BadInput(f"{text} is code alone", "trained weights", "give --weights FILE (a state_dict or .safetensors)")
    labels = told.label_names()
    module = _built(text, named(text, "a function or class that makes the network"), len(labels) if labels else None)
    notes = load_weights(module, told.weights)
    return as_source(
        Brought(text, KIND, module, type(module).__name__, labels, {}, sha256=sha256_file(told.weights), notes=notes),
        told,
    )


def _built(text: str, factory: Any, classes: int | None) -> nn.Module:
    arguments = {"num_classes": classes} if classes and _asks(factory) else {}
    try:
        module = factory(**arguments) if callable(factory) and not isinstance(factory, nn.Module) else factory
    except Exception as error:  # the user's own code
        raise BadInput(
            f"{text} raised {type(error).__name__}: {error}",
            "a factory that needs no arguments",
            "write one that takes none, or num_classes alone (it gets the number of --labels)",
        ) from error
    if not isinstance(module, nn.Module):
        raise BadInput(f"{text} returned {type(module).__name__}", "a torch.nn.Module")
    return module


def _asks(factory: Any) -> bool:
    """True if it takes a number of classes, needed or not."""
    try:
        asked = inspect.signature(factory).parameters.get("num_classes")
    except (TypeError, ValueError):
        return False
    return asked is not None
