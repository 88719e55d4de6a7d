"""`FILE.safetensors` with its JSON beside it: what `tiffin train` wrote."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ...errors import BadInput
from ...runtime.preprocess import with_golden
from ...train import load_checkpoint
from .classifier import checked_labels
from .source import Source
from .told import Told

KIND = "checkpoint"


def claims(text: str) -> bool:
    """By its ending."""
    return text.endswith(".safetensors")


def load(text: str, told: Told) -> Source:
    """Raises BadInput as `load_checkpoint` does, or where --weights or --channels are told."""
    if told.weights is not None or told.channels == "BGR":
        raise BadInput(f"{text} with --weights or --channels BGR", "the checkpoint's own",
                       "for weights alone name the code too: package.module:factory --weights FILE")  # fmt: skip
    found = load_checkpoint(Path(text))
    labels = checked_labels(told.label_names() or found.labels, len(found.labels), text)
    fields = told.fields()
    host = with_golden(dataclasses.replace(found.preprocess, **fields)) if fields else found.preprocess
    return Source(text, KIND, dataclasses.replace(found, labels=labels, preprocess=host))
