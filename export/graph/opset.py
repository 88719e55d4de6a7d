"""A graph at our opset, without what older IR versions keep among the inputs."""

from __future__ import annotations

import onnx
from onnx import inliner, version_converter

from ...errors import BadInput, first_line
from .quantizers import nodes_of

_OLDEST = 7  # below, operators broadcast and infer otherwise; onnx converts them in part only
_IR_VERSION = 10  # the first that opset 21 needs; every engine of 2025 reads it


def at_opset(model: onnx.ModelProto, opset: int, name: str) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """A copy at `opset`, its local functions put in place; and a sentence where it was at another.

    Raises:
        BadInput: too old or too new for onnx's converter.
    """
    found = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0)
    made = inliner.inline_local_functions(model) if model.functions else _copy(model)
    _name_domain_once(made)
    if found != opset:
        made = _converted(made, found, opset, name)
    given = {each.name for each in made.graph.initializer}
    kept = [each for each in made.graph.input if each.name not in given]
    del made.graph.input[:]
    made.graph.input.extend(kept)
    made.ir_version = _IR_VERSION
    return made, ((f"opset {found} converted to {opset}",) if found != opset else ())


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(model)
    return made


def _name_domain_once(model: onnx.ModelProto) -> None:
    """`ai.onnx`, ONNX's own domain, has a second name, which is empty; in place."""
    for each in (*model.opset_import, *nodes_of(model.graph)):
        each.domain = "" if each.domain == "ai.onnx" else each.domain


def _converted(model: onnx.ModelProto, found: int, opset: int, name: str) -> onnx.ModelProto:
    if found < _OLDEST:
        raise BadInput(f"{name}: opset {found}", f"opset {_OLDEST} to {opset}", f"export again with opset {opset}")
    try:
        return version_converter.convert_version(model, opset)
    except Exception as error:  # of C++; an operator without a way there
        raise BadInput(
            f"{name}: opset {found} cannot be converted to {opset} ({first_line(error)})",
            f"opset {_OLDEST} to {opset}",
            f"export again with opset {opset}",
        ) from error
