"""Hypothesis: an activation was lost on the way. Layers are set side by side with the trusted graph's, in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...export.graph.layers import LAYERS
from .hypothesis import Hypothesis, Suspect
from .ranges import limits_of

if TYPE_CHECKING:
    import onnx

KIND = "activation"
ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "Elu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Gelu", "Mish",
               "Softplus", "Selu")  # fmt: skip
_QDQ = ("QuantizeLinear", "DequantizeLinear")
_LISTED = 3
_LOOKED_AT = 8  # photos on which the range of a layer's values is told


@dataclass(frozen=True)
class Activation:
    """What a layer's output passes through: the operator, its attributes, and its constant inputs (limits)."""

    op: str
    attributes: tuple[tuple[str, str], ...]
    limits: tuple[float | None, ...]

    def __str__(self) -> str:
        words = ["" if limit is None else f"{limit:g}" for limit in self.limits]
        return f"{self.op}({', '.join(words)})" if words else self.op


@dataclass(frozen=True)
class Lost:
    """An activation that the trusted graph has behind a layer and the artifact's has not, or has otherwise.

    Args:
        layer: the node's name in the artifact's graph.
        tensor: its output there.
        node: the trusted graph's activation, as a node.
    """

    layer: str
    tensor: str
    wanted: Activation
    found: Activation | None
    node: onnx.NodeProto

    def __str__(self) -> str:
        return f"{self.wanted} behind {self.layer}" + (f" (it has {self.found})" if self.found else "")


def hypotheses(suspect: Suspect) -> Iterator[Hypothesis]:
    """All lost activations put back; nothing where none is lost."""
    model, parent = suspect.model, suspect.parent
    if model is None or parent is None:
        yield suspect.absent(KIND, "lost activations put back", "no ONNX graph above it to compare with is found")
        return
    if not _aligned(model, parent):
        ours, theirs = (_counted(layers_of(each)) for each in (model, parent))
        reason = f"other layers than the graph above it has ({ours}; {theirs})"
        yield suspect.absent(KIND, "lost activations put back", reason)
        return
    lost = lost_activations(model, parent)
    if lost:
        more = f" and {len(lost) - _LISTED} more" if len(lost) > _LISTED else ""
        words = f"with {', '.join(str(each) for each in lost[:_LISTED])}{more}"
        yield suspect.repaired(with_activations(model, parent, lost), KIND, words)


def observed(suspect: Suspect) -> list[dict[str, Any]]:
    """What lies behind each layer whose activation is lost: the values' range on a few photos, as plain values."""
    from ...quantize.walk import Walk

    model, parent = suspect.model, suspect.parent
    if model is None or parent is None or not _aligned(model, parent):
        return []
    lost = {each.tensor: each for each in lost_activations(model, parent)}
    if not lost:
        return []
    found, walk = [], Walk(model, np.asarray(suspect.photos.array()[:_LOOKED_AT]))
    for node in walk:
        for name in set(node.output) & set(lost):
            each, values = lost[name], walk.get(name)
            found.append({"layer": each.layer, "wanted": str(each.wanted), "found": str(each.found or ""),
                          "low": float(values.min()), "high": float(values.max())})  # fmt: skip
    return found


def _aligned(model: onnx.ModelProto, parent: onnx.ModelProto) -> bool:
    ours, theirs = ([node.op_type for node in layers_of(each)] for each in (model, parent))
    return ours == theirs


def _counted(layers: list[onnx.NodeProto]) -> str:
    return ", ".join(f"{count} {op}" for op, count in Counter(node.op_type for node in layers).items()) or "no layers"


def layers_of(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Nodes that multiply, in order of their names' numbers where both quantizer and exporter keep these."""
    found = [node for node in model.graph.node if node.op_type in LAYERS]
    numbers = [node.name.rpartition("_")[2] for node in found]
    numbered = all(number.isdigit() for number in numbers) and len(set(numbers)) == len(found)
    return sorted(found, key=lambda node: int(node.name.rpartition("_")[2])) if numbered else found


def lost_activations(model: onnx.ModelProto, parent: onnx.ModelProto) -> list[Lost]:
    """Behind which layers; both graphs have the same layers in the same order."""
    ours, theirs = _Reader(model), _Reader(parent)
    found = []
    for mine, above in zip(layers_of(model), layers_of(parent), strict=True):
        node = theirs.activation(above.output[0])
        if node is None:
            continue
        wanted, held = theirs.read(node), ours.activation(mine.output[0])
        have = ours.read(held) if held is not None else None
        if have != wanted and not (have is None and _is_held(model, ours, mine.output[0], wanted)):
            found.append(Lost(mine.name, held.output[0] if held is not None else mine.output[0], wanted, have, node))
    return found


def _is_held(model: onnx.ModelProto, reader: _Reader, tensor: str, wanted: Activation) -> bool:
    """Whether a quantizer right behind cuts off what a Relu or a Clip would: its range lies within theirs."""
    quantizer = reader.only(tensor)
    if quantizer is None or quantizer.op_type != _QDQ[0] or wanted.op not in ("Relu", "Clip"):
        return False
    least, most = (0.0, None) if wanted.op == "Relu" else (*wanted.limits, None, None)[:2]
    low, high = limits_of(model, quantizer)
    step = float(np.max((high - low) / 255))
    return (least is None or bool(np.all(low >= least - step))) and (most is None or bool(np.all(high <= most + step)))


class _Reader:
    """A graph's readers by tensor, and its constants."""

    def __init__(self, model: onnx.ModelProto) -> None:
        from onnx import numpy_helper

        from ...export.graph.dialect import constants_of

        self.constants = {name: numpy_helper.to_array(held) for name, held in constants_of(model.graph).items()}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)

    def only(self, tensor: str) -> onnx.NodeProto | None:
        """The node that alone reads a tensor."""
        readers = self._readers.get(tensor, [])
        return readers[0] if len(readers) == 1 else None

    def activation(self, tensor: str) -> onnx.NodeProto | None:
        """The activation that alone reads a tensor, quantized and restored in between or not."""
        reader = self.only(tensor)
        while reader is not None and reader.op_type in _QDQ:
            reader = self.only(reader.output[0])
        return reader if reader is not None and reader.op_type in ACTIVATIONS else None

    def read(self, node: onnx.NodeProto) -> Activation:
        """As a value that can be compared across graphs."""
        attributes = sorted((each.name, str(each).strip()) for each in node.attribute)
        limits = (self.constants.get(name) for name in node.input[1:])
        told = tuple(None if limit is None else round(float(np.ravel(limit)[0]), 5) for limit in limits)
        return Activation(node.op_type, tuple(attributes), told)


def with_activations(model: onnx.ModelProto, parent: onnx.ModelProto, lost: list[Lost]) -> onnx.ModelProto:
    """A copy with the trusted graph's activations put behind the tensors that lack them."""
    import onnx
    from onnx import numpy_helper

    made = onnx.ModelProto()
    made.CopyFrom(model)
    constants = _Reader(parent).constants
    for count, each in enumerate(lost):
        node = onnx.NodeProto()
        node.CopyFrom(each.node)
        node.name, fresh = f"restored_{count}", f"{each.tensor}/restored"
        for place, name in enumerate(node.input[1:], 1):
            if name:
                node.input[place] = f"restored_{count}/{place}"
                made.graph.initializer.append(numpy_helper.from_array(constants[name], node.input[place]))
        _behind(made.graph, each.tensor, fresh)
        node.input[0], node.output[0] = each.tensor, fresh
        at = next(i for i, other in enumerate(made.graph.node) if each.tensor in other.output)
        made.graph.node.insert(at + 1, node)
    return made


def _behind(graph: onnx.GraphProto, tensor: str, fresh: str) -> None:
    """All readers of a tensor read another one."""
    for other in graph.node:
        other.input[:] = [fresh if name == tensor else name for name in other.input]
