"""`package.module:factory` with `--weights FILE`: the user's own code builds the network."""

from __future__ import annotations

import inspect
import re
from typing import Any

from torch import nn

from ...artifact.files import sha256_file
from ...errors import BadInput, NotTold
from .classifier import Brought, as_source
from .named import named
from .source import Source
from .state import load_weights
from .told import Told

KIND = "factory"
_WORDS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")

_MENDED = ("a factory that makes the network", "mend what it says; TIFFIN_DEBUG=1 shows where")
_ALONE = (
    "a factory that needs no arguments",
    "write one that takes none, or num_classes alone (it gets the number of --labels)",
)


def claims(text: str) -> bool:
    """`module:callable`, each of plain names."""
    return _WORDS.fullmatch(text) is not None


def load(text: str, told: Told) -> Source:
    """Call the factory, with the number of labels where it asks for one, and load the weights.

    Raises:
        NotTold: no --weights.
        BadInput: no such module or name, it raises or returns no module, or the weights do not fit.
    """
    if told.weights is None:
        raise NotTold(f"{text} is code alone", "trained weights", "give --weights FILE (a state_dict or .safetensors)")
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
    except (Exception, SystemExit) as error:  # the user's own code
        wanted = _MENDED if _takes(factory, arguments) else _ALONE
        raise BadInput(f"{text} raised {type(error).__name__}: {error}", *wanted) from error
    if not isinstance(module, nn.Module):
        raise BadInput(f"{text} returned {type(module).__name__}", "a torch.nn.Module")
    return module


def _takes(factory: Any, arguments: dict[str, Any]) -> bool:
    """True if the factory can be called with these arguments, by its signature."""
    try:
        inspect.signature(factory).bind(**arguments)
    except (TypeError, ValueError):  # the second of what has no signature
        return False
    return True


def _asks(factory: Any) -> bool:
    """True if it takes a number of classes, needed or not."""
    try:
        asked = inspect.signature(factory).parameters.get("num_classes")
    except (TypeError, ValueError):
        return False
    return asked is not None
