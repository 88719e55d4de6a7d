"""The smallest ONNX model around the parting that still shows it, with its inputs fixed from a photo.

In the manner of Polygraphy's `debug reduce`: the graph is cut, and a cut counts only if the failure is still there.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...artifact import Producer, TensorSpec
from ...artifact.files import replace_files
from ...artifact.store import save
from ...errors import BadInput, EngineFailed
from ...records.closeness import Closeness, closeness
from ...runtime import Session
from .bisect import Comparison, alike
from .onnx_graph import Graph
from .point import Arrays
from .scene import raw_of, run_plain
from .side import Side

if TYPE_CHECKING:
    import onnx

WANTED = "wanted"  # the array of the .npz that holds what the side that is not cut gives


@dataclass(frozen=True)
class Reduced:
    """What was written.

    Args:
        nodes, of: nodes left, and of how many.
        inputs: names of its inputs.
        found: the model's answer on its side's engine against the other side's tensor.
    """

    path: str
    nodes: int
    of: int
    inputs: tuple[str, ...]
    output: str
    found: Closeness


def reduce(comparison: Comparison, place: int, out: Path) -> Reduced:
    """Cut at the nearest common tensors, further and further up, until the cut still shows the difference.

    Raises:
        BadInput: as `cut_side`, or no cut shows the difference: it lies in how the whole is fused.
    """
    which = cut_side(comparison.sides)
    graph = comparison.sides[which].graph
    assert graph is not None
    raw = raw_of(graph, comparison.pairs[place][which])
    stops = {raw_of(graph, pair[which]): at for at, pair in enumerate(comparison.pairs) if at < place}
    while True:
        model, inputs = graph.between(stops, _end(graph, raw))
        feeds = _feeds(comparison, which, inputs, stops)
        wanted = _tensor(comparison, 1 - which, place)
        found = closeness(*alike(wanted, _answer(comparison.sides[which], model, feeds)))
        if found.sqnr_db < comparison.floor_db:
            _write(model, feeds, wanted, out)
            return Reduced(out.name, len(model.graph.node), len(graph.model.graph.node), tuple(inputs),
                           model.graph.output[0].name, found)  # fmt: skip
        nearest = {name for name in inputs if name in stops}
        if not nearest:
            raise BadInput(
                f"no part of the graph alone parts at {raw} ({found.sqnr_db:.0f} dB)",
                "a difference that is there in a part of the graph",
                "it lies in how the engine fuses the whole: compare FOLDER@onnxruntime:plain",
            )
        stops = {name: at for name, at in stops.items() if name not in nearest}


def cut_side(sides: tuple[Side, Side]) -> int:
    """Which side's graph is cut: the trusted one's where the other, a torch program, has none.

    Raises:
        BadInput: no side has an ONNX graph.
    """
    for which in (1, 0):
        if sides[which].graph is not None:
            return which
    raise BadInput("neither side has an ONNX graph to reduce", "an ONNX artifact, or what was compiled from one")


def _end(graph: Graph, raw: str) -> str:
    """Behind its rounding, where it is rounded."""
    quantizer = graph.quantizer(raw)
    return graph.readers[quantizer.output[0]][0].output[0] if quantizer is not None else raw


def _tensor(comparison: Comparison, which: int, place: int) -> np.ndarray:
    """A tensor of one side, of the first photo (of a whole batch, where a graph holds its size)."""
    point = comparison.pairs[place][which]
    empty: list[list] = [[], []]  # type: ignore[type-arg]
    empty[which] = [point]
    return comparison.values((empty[0], empty[1]), 1)[which][point.tap]


def _feeds(comparison: Comparison, which: int, inputs: list[str], stops: dict[str, int]) -> Arrays:
    """The tensors of the side that is not cut; the photo itself where the graph begins."""
    given = comparison.first(1)[which]
    return {name: given[name] if name in given else _tensor(comparison, 1 - which, stops[name]) for name in inputs}


def _answer(side: Side, model: onnx.ModelProto, feeds: Arrays) -> np.ndarray:
    """The model on its side's engine."""
    inputs = tuple(TensorSpec(name, str(_typed(model, name, feeds).dtype), (None, *feeds[name].shape[1:]))
                   for name in feeds)  # fmt: skip
    output = TensorSpec(model.graph.output[0].name, "float32", (None,))
    manifest = replace(side.artifact.manifest, format="onnx", inputs=inputs, outputs=(output,), run=None,
                       producer=Producer("debug"), parent=side.artifact.digest)  # fmt: skip
    made = save(side.work / "reduced", manifest, {"model.onnx": model.SerializeToString()})
    try:
        with Session(made, side.run_config) as session:
            found = session.run({name: _typed(model, name, feeds) for name in feeds})
    except EngineFailed:  # an engine that does not take the part alone
        return run_plain(model, feeds)
    return np.asarray(found[output.name], np.float32)


def _typed(model: onnx.ModelProto, name: str, feeds: Arrays) -> np.ndarray:
    from onnx import helper

    kind = next(each.type.tensor_type.elem_type for each in model.graph.input if each.name == name)
    return np.asarray(feeds[name].astype(helper.tensor_dtype_to_np_dtype(kind)))


def _write(model: onnx.ModelProto, feeds: Arrays, wanted: np.ndarray, out: Path) -> None:
    packed = io.BytesIO()
    held = {name: _typed(model, name, feeds) for name in feeds} | {WANTED: wanted}
    np.savez_compressed(packed, **held)  # type: ignore[arg-type]
    replace_files({out: model.SerializeToString(deterministic=True), out.with_suffix(".npz"): packed.getvalue()})
