"""Names of tensors: those that tiffin gives to a graph's ends, freed of what a foreign graph calls so."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnx


def set_aside(model: onnx.ModelProto, is_ours: Callable[[str], bool]) -> None:
    """Call each tensor that has a name of ours otherwise, in graphs inside nodes too; in place."""
    graphs = list(_graphs(model.graph))
    taken = {name for graph in graphs for name in _named(graph)}
    fresh = {name: _free(name, taken) for name in taken if is_ours(name)}
    for graph in graphs:
        for each in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
            each.name = fresh.get(each.name, each.name)
        for node in graph.node:
            node.input[:] = [fresh.get(word, word) for word in node.input]
            node.output[:] = [fresh.get(word, word) for word in node.output]


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and those inside its nodes."""
    yield graph
    for node in graph.node:
        for each in node.attribute:
            for inner in (*([each.g] if each.HasField("g") else []), *each.graphs):
                yield from _graphs(inner)


def _named(graph: onnx.GraphProto) -> Iterator[str]:
    for each in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        yield each.name
    for node in graph.node:
        yield from (*node.input, *node.output)


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "/theirs"
    return name
