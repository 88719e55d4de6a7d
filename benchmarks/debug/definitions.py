"""Hypothesis: the two files define the nodes otherwise. What differs in them is said as they hold it."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ...errors import EngineFailed
from ...records.parting import Tried
from ..explain.activations import ACTIVATIONS
from .scene import Part, Scene, run_plain
from .variants import attributes

if TYPE_CHECKING:
    import onnx

GRAPH = "graph"  # other nodes: where it is, not what it is
_KINDS = {
    "pads": "padding", "auto_pad": "padding", "count_include_pad": "padding", "ceil_mode": "padding",
    "antialias": "antialias", "exclude_outside": "antialias", "coordinate_transformation_mode": "resize",
    "mode": "resize", "epsilon": "epsilon",
}  # fmt: skip


def defined(scene: Scene) -> Tried | None:
    """The other's nodes with the trusted constants, on the trusted tensors; None where both files hold the same."""
    ours, theirs = scene.ours, scene.theirs
    if ours.model is None or theirs.model is None or ours.feeds is None or theirs.feeds is None:
        return None
    if _precision(ours) != _precision(theirs) or set(ours.feeds) != set(theirs.feeds):
        return None
    told = _differences(_computing(ours), _computing(theirs), theirs.side.name)
    if not told:
        return None
    kinds = {kind for kind, _ in told}
    words = "; ".join(words for _, words in told)
    try:
        found = run_plain(_with_constants(theirs.model, ours.model), ours.feeds)
    except EngineFailed:  # constants that do not fit the other's nodes
        return None
    return scene.tried(kinds.pop() if len(kinds) == 1 else "definition", words, found, theirs.value)


def _precision(part: Part) -> str:
    return part.side.artifact.manifest.precision


def _computing(part: Part) -> list[onnx.NodeProto]:
    return [node for node in part.nodes if node.op_type != "Constant"]


def _differences(ours: Sequence[onnx.NodeProto], theirs: Sequence[onnx.NodeProto], name: str) -> list[tuple[str, str]]:
    """Kind and words of each: in order where both have as many nodes, else the operators that one has more of."""
    if len(ours) == len(theirs):
        return [each for pair in zip(ours, theirs, strict=True) for each in _of_pair(*pair)]
    held, found = (Counter(node.op_type for node in nodes) for nodes in (ours, theirs))
    sides = (("with", found - held), ("without", held - found))
    told = [f"{word} {', '.join(sorted(ops.elements()))}" for word, ops in sides if ops]
    return [(GRAPH, f"{name} computes it {' and '.join(told)}")]


def _of_pair(wanted: onnx.NodeProto, found: onnx.NodeProto) -> Iterator[tuple[str, str]]:
    if wanted.op_type != found.op_type:
        kind = "activation" if {wanted.op_type, found.op_type} <= set(ACTIVATIONS) else "definition"
        yield kind, f"{wanted.name}: {found.op_type} in place of {wanted.op_type}"
        return
    held, others = attributes(wanted), attributes(found)
    general = "activation" if wanted.op_type in ACTIVATIONS else "definition"
    for name in sorted(held.keys() | others):
        if held.get(name) != others.get(name):
            words = f"{wanted.name}: {name} {_told(others.get(name))}, not {_told(held.get(name))}"
            yield _KINDS.get(name, general), words


def _told(value: Any) -> str:
    if value is None:
        return "the default"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if isinstance(value, int | str | list) else "another"


def _with_constants(model: onnx.ModelProto, trusted: onnx.ModelProto) -> onnx.ModelProto:
    made = copy.deepcopy(model)
    own = {each.name: each for each in trusted.graph.initializer}
    for each in made.graph.initializer:
        held = own.get(each.name)
        if held is not None and (held.data_type, list(held.dims)) == (each.data_type, list(each.dims)):
            each.CopyFrom(held)
    return made
