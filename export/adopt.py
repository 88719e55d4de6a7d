"""A foreign graph → one as tiffin's own: uint8 photos in, logits out, every later stage as for any other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from ..artifact import Preprocess
from ..errors import BadInput
from .ahead import Ahead, noted, read_ahead
from .graph.canonical import canonical
from .graph.foreign_checks import require_plain, require_standard
from .graph.free_batch import fixed_batch, freed
from .graph.layer_norms import fuse_layer_norms
from .graph.logits_output import keep_logits, require_logits
from .graph.names import set_aside
from .graph.opset import at_opset
from .graph.photo_input import take_photos, turn_channels
from .loaders.classifier import checked_labels, require_repeatable
from .loaders.source import OnnxClassifier, Source
from .loaders.told import TURNED, Told, ordered
from .onnx_source import require_valid
from .original import Original
from .to_onnx import INPUT, OPSET, OUTPUT, photo_metadata

_TOLERANCE = 1e-4  # of the largest answer, between one batch and another


@dataclass(frozen=True)
class Foreign:
    """A graph and where it came from.

    Args:
        answers: images as the graph takes them, and an output's place among the graph's → what it was made from answers
            there; None asks the graph itself.
    """

    model: onnx.ModelProto
    text: str
    kind: str
    architecture: str
    sha256: str
    answers: Callable[[np.ndarray, int], np.ndarray] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Answer:
    """The output that classifies.

    Args:
        name: as the file calls it.
        place: among its outputs.
        values: what it is for one batch of pictures, `(N, classes)` or `(N, classes, 1, 1)`.
    """

    name: str
    place: int
    values: np.ndarray

    @property
    def classes(self) -> int:
        """How many it tells apart."""
        return self.values.shape[1]


def adopt(foreign: Foreign, told: Told) -> Source:
    """Read a graph's input, preprocessing and output, and exchange its ends for ours.

    Raises:
        BadInput: what it is no classifier of photos for, or what is not known of it and must be told.
    """
    text, metadata = foreign.text, {each.key: each.value for each in foreign.model.metadata_props}
    model, converted = _plain(foreign, told)
    ahead = read_ahead(model, told, metadata, text)
    original = Original(model if foreign.answers else foreign.model, text, fixed_batch(model))
    answer = _answer(original, ahead, told, text)
    require_logits(model.graph, model.graph.output[answer.place].name, text)
    model, batch, said = _any_batch(model, ahead.feed.images(_contrasts(ahead.host)), answer.place, text)
    labels = checked_labels(told.label_names() or _labels(metadata, text), answer.classes, text)
    host = ahead.whole()
    probabilities = _exchange_ends(model, ahead, host, answer, batch, text)
    model, fused = fuse_layer_norms(model)
    made = canonical(model, photo_metadata(foreign.sha256, labels, host))
    require_valid(made, text, "export it again, by a newer exporter")
    ask = foreign.answers or (lambda images, place: original.answers(images, answer.name))
    classifier = OnnxClassifier(
        made, lambda photos: ask(ahead.feed.images(photos), answer.place), probabilities, batch, foreign.architecture,
        labels, host, foreign.sha256,
    )  # fmt: skip
    notes = (*foreign.notes, *converted, *ahead.notes, *said, *((TURNED,) if ahead.feed.bgr else ()))
    notes += (f"{fused} layer norms in nine nodes each are one node each",) if fused else ()
    notes += ("its last layer, a softmax, is left out: logits are answered",) if probabilities else ()
    return Source(text, foreign.kind, classifier, notes, answer.values.tobytes())


def _plain(foreign: Foreign, told: Told) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The graph at our opset with names of ours set aside, and a sentence where its opset was another."""
    text = foreign.text
    if told.weights is not None:
        raise BadInput(f"{text} with --weights", "a file that holds its own")
    require_standard(foreign.model, text)
    model, notes = at_opset(foreign.model, OPSET, text)
    require_plain(model, text)
    set_aside(model, _is_ours)
    return model, notes


def _is_ours(name: str) -> bool:
    """True for names that a graph of tiffin's gives at its ends."""
    return name in (INPUT, OUTPUT) or name.startswith("preprocess/")


def _labels(metadata: Mapping[str, str], text: str) -> tuple[str, ...] | None:
    raw = noted(metadata, "tiffin.labels", text)
    return None if raw is None else ordered(raw, text)


def _pictures(host: Preprocess, count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, host.height, host.width, 3), dtype=np.uint8)


def _contrasts(host: Preprocess) -> np.ndarray:
    """One picture of noise, one bright, one dark: a graph that mixes photos or branches on them shows it here."""
    noise, bright, dark = _pictures(host, 3)
    return np.stack([noise, 255 - bright // 8, dark // 8])


def _any_batch(
    model: onnx.ModelProto, images: np.ndarray, place: int, text: str
) -> tuple[onnx.ModelProto, int | None, tuple[str, ...]]:
    """The graph with a free batch, if its output at `place` is then as before; else as it is.

    Raises:
        BadInput: its batch is free, and it answers a photo otherwise beside others.
    """
    batch, output = fixed_batch(model), model.graph.output[place].name
    asked = Original(model, text, batch)
    if batch is None:
        _require_alone_as_beside(asked, images, output, text)
        return model, None, ()
    made = freed(model, batch)
    try:
        free, wanted = Original(made, text), asked.answers(images, output)
        # Of two numbers: a constant of as many rows as one of them would fit it.
        same = all(_alike(free.answers(images[:rows], output), wanted[:rows]) for rows in (len(images), 2))
    except BadInput:
        same = False
    if same:
        return made, None, (f"its batch was fixed at {batch}, and is free now: same answers on {len(images)} images",)
    return model, batch, (f"its batch is fixed at {batch} by the graph: larger ones are split, smaller ones padded",)


def _require_alone_as_beside(original: Original, images: np.ndarray, output: str, text: str) -> None:
    alone = np.concatenate([original.answers(image[None], output) for image in images])
    if not _alike(original.answers(images, output), alone):
        raise BadInput(f"{text} answers a photo otherwise beside another", "the same answer alone and in any batch",
                       "export it with a batch fixed at 1: it is then asked one photo at a time")  # fmt: skip


def _alike(found: np.ndarray, wanted: np.ndarray) -> bool:
    return found.shape == wanted.shape and bool(np.abs(found - wanted).max() <= _TOLERANCE * np.abs(wanted).max())


def _exchange_ends(
    model: onnx.ModelProto, ahead: Ahead, host: Preprocess, answer: _Answer, batch: int | None, text: str
) -> bool:
    """Photos in and logits out, in place; True where a softmax at its end was left out."""
    if ahead.feed.bgr:
        turn_channels(model, ahead.start.tensor, text)
    take_photos(model, ahead.start, (host.height, host.width), batch, host.mean, host.std, INPUT)
    theirs = model.graph.output[answer.place].name
    return keep_logits(model, theirs, answer.values.ndim, answer.classes, batch, OUTPUT)


def _answer(original: Original, ahead: Ahead, told: Told, text: str) -> _Answer:
    """What it answers to some pictures, twice the same."""
    images = ahead.feed.images(_pictures(ahead.host, original.batch or 1))
    found = original.outputs(images)
    name = _classifying(found, len(images), told, text)
    require_repeatable(found[name], original.outputs(images)[name], text)
    return _Answer(name, list(found).index(name), found[name])


def _classifying(found: Mapping[str, np.ndarray], rows: int, told: Told, text: str) -> str:
    """Name of the one output that classifies."""
    tensors = {name: value for name, value in found.items() if isinstance(value, np.ndarray)}
    fits = {name: value for name, value in tensors.items()
            if value.dtype == np.float32 and value.ndim in (2, 4) and len(value) == rows
            and value.size == rows * value.shape[1] and value.shape[1] > 1}  # fmt: skip
    labels = told.label_names()
    if labels and len(fits) > 1:
        fits = {name: value for name, value in fits.items() if value.shape[1] == len(labels)} or fits
    if len(fits) != 1:
        shapes = ", ".join(f"{name} {_shape(value)}" for name, value in found.items())
        raise BadInput(f"{text}: outputs {shapes}", "one of float32 (N, classes): an image classifier",
                       "export it with its logits as the only output")  # fmt: skip
    (name,) = fits
    if not np.isfinite(fits[name]).all():
        raise BadInput(f"{text}: answers NaN or infinity", "finite logits", "look at its weights and --std")
    return name


def _shape(value: Any) -> str:
    """Of an output, which may be a sequence or a map."""
    return f"{value.dtype}{value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
