"""Names of tensors: those that tiffin gives to a graph's ends, freed of what a foreign graph calls so."""

from __future__ import annotations

from collections.abc import Callable

import onnx

from .quantizers import free_name, graphs_of, names_of


def set_aside(model: onnx.ModelProto, is_ours: Callable[[str], bool]) -> None:
    """Call each tensor that has a name of ours otherwise, in graphs inside nodes too; in place."""
    taken = names_of(model.graph)
    fresh = {name: free_name(taken, f"{name}/theirs") for name in sorted(filter(is_ours, taken))}
    for graph in graphs_of(model.graph):
        for each in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
            each.name = fresh.get(each.name, each.name)
        for node in graph.node:
            node.input[:] = [fresh.get(word, word) for word in node.input]
            node.output[:] = [fresh.get(word, word) for word in node.output]
