"""All that hypotheses about a cause look at: the tensor where two artifacts part, and what it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ...errors import EngineFailed
from ...export.graph.layers import LAYERS
from ...records.closeness import Closeness, closeness
from ...records.parting import Tried
from .bisect import Comparison, alike
from .onnx_graph import Graph
from .point import Arrays, Point
from .side import Side

if TYPE_CHECKING:
    import onnx

PHOTOS = 4  # that hypotheses are tried on
# Names of element types as ONNX Runtime says them.
_TYPES = {"tensor(float16)": np.float16, "tensor(double)": np.float64, "tensor(uint8)": np.uint8,
          "tensor(int64)": np.int64}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """The part of one side's graph that makes the tensor of the nearest tensors that both sides have.

    Args:
        model: it, as a model; None where the side has no ONNX graph.
        feeds: what its inputs hold over the photos: the side's own tensors.
        wanted: name of its output.
    """

    side: Side
    point: Point
    value: np.ndarray
    model: onnx.ModelProto | None = None
    feeds: Mapping[str, np.ndarray] | None = None

    @cached_property
    def nodes(self) -> list[onnx.NodeProto]:
        """Of its model, without those that round."""
        held = self.model.graph.node if self.model is not None else []
        return [node for node in held if node.op_type not in ("QuantizeLinear", "DequantizeLinear")]


@dataclass(frozen=True)
class Scene:
    """Both parts; the first side is the trusted one.

    Args:
        inputs: names of the common tensors that it is made of.
        prepared: it stands before the first layer, so it is the input as the network takes it.
    """

    ours: Part
    theirs: Part
    inputs: tuple[str, ...]
    prepared: bool = False

    @cached_property
    def before(self) -> Closeness:
        """How close the two tensors are."""
        return closeness(*alike(self.ours.value, self.theirs.value))

    def tried(self, kind: str, words: str, wanted: np.ndarray, found: np.ndarray, certain: bool = False) -> Tried:
        """A hypothesis, by one side's tensor as it would then be."""
        return Tried(kind, words, self.before, closeness(*alike(wanted, found)), certain)


def looked_at(comparison: Comparison, place: int) -> Scene:
    """The scene of one place."""
    pairs = comparison.pairs
    found = [_boundary(comparison, which, place) for which in (0, 1)]
    near = sorted({at for _, inputs in found for at in inputs.values()})
    taps = tuple([pairs[at][which] for at in (*near, place)] for which in (0, 1))
    values = comparison.values((taps[0], taps[1]), PHOTOS)
    parts = [
        _part(comparison, which, place, model, inputs, values[which]) for which, (model, inputs) in enumerate(found)
    ]
    prepared = all(ours.kind not in LAYERS for ours, _ in pairs[: place + 1])
    return Scene(parts[0], parts[1], tuple(pairs[at][0].name for at in near), prepared)


def boundary(comparison: Comparison, place: int) -> list[int]:
    """Places of the nearest common tensors that this one is made of; by the first graph that is known."""
    for which in (0, 1):
        model, inputs = _boundary(comparison, which, place)
        if model is not None:
            return sorted(inputs.values())
    return []


def _boundary(comparison: Comparison, which: int, place: int) -> tuple[onnx.ModelProto | None, dict[str, int]]:
    """The part of one side's graph, and its inputs' names → places among the pairs."""
    graph, point = comparison.sides[which].graph, comparison.pairs[place][which]
    if graph is None:
        return None, {}
    stops = {raw_of(graph, pair[which]): at for at, pair in enumerate(comparison.pairs) if at != place}
    raw = raw_of(graph, point)
    if raw not in graph.made:
        return None, {}
    model, inputs = graph.between(stops, raw)
    return model, {name: stops[name] for name in inputs if name in stops}


def raw_of(graph: Graph, point: Point) -> str:
    """What the point's node itself gives, in the ONNX graph; of an IR's point, its namesake's."""
    return graph.raw(graph.named.get(point.name, point))


def _part(
    comparison: Comparison, which: int, place: int, model: onnx.ModelProto | None, inputs: Mapping[str, int],
    values: Arrays,
) -> Part:  # fmt: skip
    side, point = comparison.sides[which], comparison.pairs[place][which]
    value = values[point.tap]
    if model is None:
        return Part(side, point, value)
    feeds = {name: values[comparison.pairs[at][which].tap] for name, at in inputs.items()}
    given = comparison.first(PHOTOS)[which]
    feeds |= {each.name: given[each.name] for each in model.graph.input if each.name in given}
    whole = all(each.name in feeds for each in model.graph.input)
    return Part(side, point, value, model if whole else None, feeds)


def run_plain(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
    """Its first output as ONNX defines it: nothing optimized, nothing fused.

    Raises:
        EngineFailed: ONNX Runtime refuses the model.
    """
    from ...export.original import unoptimized

    try:
        session = unoptimized(model)
        taken = {each.name: feeds[each.name].astype(_TYPES.get(each.type, np.float32)) for each in session.get_inputs()}
        return np.asarray(session.run(None, taken)[0], np.float32)
    except Exception as error:  # a variant of a graph that makes no sense, such as a pad larger than the image
        raise EngineFailed(f"onnxruntime: {str(error).strip().splitlines()[0][:200]}") from error
