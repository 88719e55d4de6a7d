"""Make an exported graph the same bytes each time, without paths, stack traces or exporter's notes."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from .constants import folded

# Names of the nodes that turn uint8 NHWC photos into normalized float NCHW; quantizers leave them alone.
PROLOGUE = ("preprocess/cast", "preprocess/scale", "preprocess/shift", "preprocess/layout")
_PROLOGUE_OPS = ("Cast", "Mul", "Add", "Transpose")


def canonical(model: onnx.ModelProto, metadata: Mapping[str, str], prologue: bool = True) -> onnx.ModelProto:
    """Compute what is constant, strip notes, name the nodes, set `metadata_props`; the model that is given may change.

    Args:
        prologue: the graph begins with that of photos; without, no node is named so.
    """
    model = folded(model)
    graph = model.graph
    for item in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        item.ClearField("doc_string")
        item.ClearField("metadata_props")
    graph.ClearField("doc_string")
    graph.ClearField("metadata_props")
    graph.ClearField("value_info")
    graph.name = "tiffin"
    model.ClearField("functions")
    model.ClearField("metadata_props")
    model.producer_name, model.producer_version = "tiffin", ""
    for key, value in sorted(metadata.items()):
        model.metadata_props.add(key=key, value=value)
    _name_nodes(graph, dict(zip(_PROLOGUE_OPS, PROLOGUE, strict=True)) if prologue else {})
    return model


def _name_nodes(graph: onnx.GraphProto, roles: dict[str, str]) -> None:
    """Prologue by role, the rest by operator and position."""
    tensor = graph.input[0].name
    for position, node in enumerate(graph.node):
        if tensor in node.input and node.op_type in roles:
            node.name = roles.pop(node.op_type)
            tensor = node.output[0]
        else:
            node.name = f"{node.op_type}_{position}"
