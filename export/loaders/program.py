"""`FILE.pt2`: a program of torch.export that takes normalized images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...artifact.files import sha256_file
from ...errors import BadInput, first_line
from ..quiet import quiet
from .classifier import Brought, as_source
from .source import Source
from .told import Told

KIND = "torch.export program"


class Program(nn.Module):
    """A program as a module. It has no training mode: torch refuses to switch it."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        super().__init__()
        self.network = program.module()

    def train(self, mode: bool = True) -> Program:
        """Left as it was exported."""
        return self

    def forward(self, images: torch.Tensor) -> Any:
        """Normalized float `(N, 3, H, W)` → what the program answers."""
        return self.network(images)


def claims(text: str) -> bool:
    """By its ending."""
    return text.endswith(".pt2")


def load(text: str, told: Told) -> Source:
    """Raises BadInput for no program, or one that takes something else than images."""
    path = Path(text)
    if not path.is_file():
        raise BadInput(f"{text}: no such file", "a .pt2 file of torch.export.save")
    try:
        with quiet("torch.export"):
            program = torch.export.load(path)
    except Exception as error:  # of zip, JSON and torch
        raise BadInput(f"{text}: no torch.export program ({first_line(error)})",
                       "a whole .pt2 file of torch.export.save", "save or copy it again") from error  # fmt: skip
    _require_evaluated(program, text)
    size, notes = _size(program, text)
    brought = Brought(text, KIND, Program(program), path.stem, None, size, sha256=sha256_file(path), notes=notes)
    return as_source(brought, told)


def _require_evaluated(program: torch.export.ExportedProgram, text: str) -> None:
    """Refuse what was exported in training mode: it drops values, or normalizes by the photos beside."""
    trains = sorted({str(node.target) for node in program.graph.nodes if node.op == "call_function" and _trains(node)})
    if trains:
        raise BadInput(f"{text} was exported in training mode: {', '.join(trains)}",
                       "a program of a network in eval mode",
                       "call network.eval() before torch.export.export")  # fmt: skip


def _trains(node: torch.fx.Node) -> bool:
    """True for dropout that drops, and for a batch norm by its batch that has running statistics to go by."""
    schema = getattr(node.target, "_schema", None)
    given = dict(zip((each.name for each in schema.arguments), node.args, strict=False)) if schema else {}
    given |= node.kwargs
    return given.get("train") is True or (given.get("training") is True and given.get("running_mean") is not None)


def _size(program: torch.export.ExportedProgram, text: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Height and width, where the program was exported with fixed ones."""
    names = set(program.graph_signature.user_inputs)
    found = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    if len(found) != 1 or found[0].ndim != 4 or found[0].dtype != torch.float32 or found[0].shape[1] != 3:
        told = ", ".join(f"{each.dtype} {tuple(map(str, each.shape))}" for each in found)
        raise BadInput(f"{text} takes {told}", "one input of normalized float32 images (N, 3, height, width)",
                       "what tiffin exported is an artifact already: name its folder")  # fmt: skip
    batch, _, height, width = found[0].shape
    if isinstance(batch, int) and batch != 1:
        raise BadInput(f"{text} was exported for {batch} images at a time, no more and no fewer", "a free batch, or 1",
                       'export it with dynamic_shapes=({0: torch.export.Dim("batch")},)')  # fmt: skip
    notes = ("exported for one image at a time",) if isinstance(batch, int) else ()
    fixed = isinstance(height, int) and isinstance(width, int)
    return ({"height": int(height), "width": int(width)} if fixed else {}), notes
