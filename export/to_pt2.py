"""Checkpoint → `.pt2` program for the torch backend, without stack traces or paths of the machine that exported it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from ..artifact import Artifact, Producer
from ..machine import versions
from ..train import Checkpoint
from .confidence import HeldOut, save_fitted
from .to_onnx import base_manifest, why_fixed
from .trace import trace


def to_pt2(checkpoint: Checkpoint, out: Path, held_out: HeldOut | None = None) -> Artifact:
    """Export, fit the temperature on `held_out`, and save.

    Raises:
        BadInput: the network cannot be traced, or `out` cannot be written.
    """
    traced = trace(checkpoint)
    program = traced.program
    for node in program.graph.nodes:
        for note in ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node"):
            node.meta.pop(note, None)
    producer = Producer("export", versions(("torch",)), {"architecture": checkpoint.architecture, **why_fixed(traced)})
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.pt2"
        torch.export.save(program, path)
        manifest = base_manifest(checkpoint, "pt2", producer, traced.batch)
        return save_fitted(out, manifest, {"model.pt2": path}, held_out)
