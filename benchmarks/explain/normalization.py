"""Hypotheses about mean and standard deviation: the graph's own exchanged for those in use elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ...artifact import Preprocess
from .hypothesis import Hypothesis, Suspect

if TYPE_CHECKING:
    import onnx

KIND = "normalization"
Triple = tuple[float, float, float]

# In pixel units, 0–255. Sources: torchvision's models, Keras' modes "tf" and "caffe", EfficientNet-Lite's README.
KNOWN: dict[str, tuple[Triple, Triple]] = {
    "ImageNet's mean and std": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "pixels as 0 to 1": ((0.0,) * 3, (255.0,) * 3),
    "pixels as -1 to 1": ((127.5,) * 3, (127.5,) * 3),
    "pixels as 0 to 255": ((0.0,) * 3, (1.0,) * 3),
    "ImageNet's mean alone": ((123.68, 116.779, 103.939), (1.0,) * 3),
    "mean 127, std 128": ((127.0,) * 3, (128.0,) * 3),
}


def hypotheses(suspect: Suspect) -> Iterator[Hypothesis]:
    """The checkpoint's own values first, where they are known and others than the graph's."""
    model = suspect.model
    own = normalization_of(model) if model is not None else None
    if model is None or own is None:
        yield suspect.absent(KIND, "another mean and std", "no ONNX graph of it with tiffin's preprocessing is found")
        return
    ways = dict(KNOWN)
    if suspect.wanted is not None:
        ways = {"the checkpoint's mean and std": _values(suspect.wanted), **ways}
    tried = [own]
    for words, (mean, std) in ways.items():
        if not any(_near((mean, std), other) for other in tried):
            tried.append((mean, std))
            yield suspect.repaired(with_normalization(model, mean, std), KIND, f"normalized by {words}")


def _values(host: Preprocess) -> tuple[Triple, Triple]:
    return host.mean, host.std


def _near(one: tuple[Triple, Triple], other: tuple[Triple, Triple]) -> bool:
    """Within float32's rounding of the reciprocal that the graph holds."""
    return all(np.allclose(a, b, rtol=1e-4, atol=1e-3) for a, b in zip(one, other, strict=True))


def normalization_of(model: onnx.ModelProto) -> tuple[Triple, Triple] | None:
    """Mean and std by channel as the graph computes them; None where it does not begin with tiffin's preprocessing."""
    found = _constants(model)
    if found is None:
        return None
    scale, shift = (np.broadcast_to(array.reshape(-1), 3).astype(np.float64) for array in found.values())
    if not np.all(np.isfinite(scale)) or np.any(scale == 0):
        return None
    mean, std = -shift / scale, 1 / scale
    return tuple(mean.tolist()), tuple(std.tolist())  # type: ignore[return-value]


def _constants(model: onnx.ModelProto) -> dict[str, np.ndarray] | None:
    """The constants of scale and shift, by the names of their initializers."""
    from onnx import numpy_helper

    from ...export.graph.canonical import PROLOGUE
    from ...export.graph.dialect import constants_of

    held, nodes = constants_of(model.graph), {node.name: node for node in model.graph.node}
    names = []
    for name in PROLOGUE[1:3]:
        node = nodes.get(name)
        names += [word for word in node.input if word in held] if node is not None else []
    arrays = {name: numpy_helper.to_array(held[name]) for name in names}
    fits = len(names) == len(arrays) == 2 and all(array.size in (1, 3) for array in arrays.values())
    return arrays if fits else None


def with_normalization(model: onnx.ModelProto, mean: Triple, std: Triple) -> onnx.ModelProto:
    """A copy whose preprocessing is `(photo - mean) / std`.

    Args:
        model: one that `normalization_of` reads.
    """
    import onnx
    from onnx import numpy_helper

    from ...export.graph.canonical import PROLOGUE

    names = list(_constants(model) or ())
    made = onnx.ModelProto()
    made.CopyFrom(model)
    values = ((1 / np.asarray(std)), -np.asarray(mean) / np.asarray(std))
    for node_name, name, value in zip(PROLOGUE[1:3], names, values, strict=True):
        fresh = f"{node_name}/value"
        node = next(each for each in made.graph.node if each.name == node_name)
        node.input[:] = [fresh if word == name else word for word in node.input]
        made.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), fresh))
    return made
