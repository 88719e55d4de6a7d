"""Hypothesis about a resize inside the graph: it lacks antialias, or the engine ignores what the graph says of it.

OpenVINO 2026.4 ignores `antialias=1` of ONNX's Resize without a word (openvino#35893), TensorRT refuses it; ONNX
Runtime honours it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ...artifact import RunConfig
from .hypothesis import Hypothesis, Suspect

if TYPE_CHECKING:
    import onnx

KIND = "resize"
_OPSET = 18  # the first whose Resize has antialias
_FILTERING = (b"linear", b"cubic")


def hypotheses(suspect: Suspect) -> Iterator[Hypothesis]:
    """The same graph with antialias, on ONNX Runtime; nothing where no resize stands before the first layer."""
    model = suspect.model
    if model is None or not resizes_of(model):
        return
    words = "the graph's resize antialiased, on onnxruntime"
    if next((each.version for each in model.opset_import if not each.domain), 0) < _OPSET:
        yield suspect.absent(KIND, words, f"the graph's opset is below {_OPSET}: its Resize knows no antialias")
        return
    run = suspect.own.run
    there = replace(suspect.own, run=RunConfig("onnxruntime", threads=run.threads if run else None))
    yield suspect.repaired(antialiased(model), KIND, words, there)


def resizes_of(model: onnx.ModelProto) -> list[str]:
    """Names of the Resize nodes between the input and the first layer that multiplies."""
    reached, found = {model.graph.input[0].name}, []
    for node in model.graph.node:
        if not reached & set(node.input):
            continue
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            break
        reached |= set(node.output)
        found += [node.output[0]] if node.op_type == "Resize" else []
    return found


def antialiased(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which they antialias; nearest, which cannot, becomes linear."""
    import onnx
    from onnx import helper

    made = onnx.ModelProto()
    made.CopyFrom(model)
    wanted = set(resizes_of(model))
    for node in made.graph.node:
        if node.op_type != "Resize" or node.output[0] not in wanted:
            continue
        mode = next((each.s for each in node.attribute if each.name == "mode"), b"nearest")
        kept = [each for each in node.attribute if each.name not in ("antialias", "mode", "nearest_mode")]
        del node.attribute[:]
        node.attribute.extend(kept)
        node.attribute.append(helper.make_attribute("antialias", 1))
        node.attribute.append(helper.make_attribute("mode", mode if mode in _FILTERING else b"linear"))
    return made
