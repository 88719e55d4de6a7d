"""A trained classifier as a torch program that takes photos; what cannot be traced is told by its line."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..artifact import Preprocess
from ..errors import BadInput, first_line
from ..train import Checkpoint
from .quiet import quiet_tracing

log = logging.getLogger(__name__)

_TORCH = str(Path(torch.__file__).parent)
_OURS = str(Path(__file__).parents[1])
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<name>\S+)\n\s*(?P<code>[^\n]*)')
_CAUSED = re.compile(r"Caused by: \((?P<file>[^:)]+):(?P<line>\d+) in (?P<name>\w+)\)")
_TOLERANCE = 1e-3  # of the largest logit: kernels round one photo otherwise than two


class PhotoInput(nn.Module):
    """A classifier that takes photos as they are: uint8 `(N, H, W, 3)`, RGB → float32 logits."""

    def __init__(self, network: nn.Module, preprocess: Preprocess) -> None:
        super().__init__()
        mean, std = torch.tensor(preprocess.mean), torch.tensor(preprocess.std)
        self.network = network
        self.register_buffer("scale", 1 / std)
        self.register_buffer("shift", -mean / std)

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        """Cast, normalize, NHWC → NCHW, classify."""
        images = photos.float() * self.scale + self.shift
        return self.network(images.permute(0, 3, 1, 2))


@dataclass(frozen=True)
class Traced:
    """A program, uint8 photos `(N, H, W, 3)` → float32 logits.

    Args:
        batch: None where N is free; 1 where the network answers one photo at a time. Sessions split batches then.
        reason: why it is fixed.
    """

    program: torch.export.ExportedProgram
    batch: int | None = None
    reason: str = ""


def trace(checkpoint: Checkpoint) -> Traced:
    """Trace with a free batch; where the network allows none, with one photo.

    Raises:
        BadInput: it cannot be traced at all; names the line of the network's code and what to change.
    """
    host = checkpoint.preprocess
    model = PhotoInput(checkpoint.module, host).eval()
    photos = torch.randint(0, 256, (2, host.height, host.width, 3), dtype=torch.uint8,
                           generator=torch.Generator().manual_seed(0))  # fmt: skip
    reason = _why_one_at_a_time(model, photos)
    if not reason:
        try:
            return Traced(_program(model, photos, free=True))
        except Exception as error:  # torch.export has no error of its own for what it cannot trace
            reason = str(cannot_be_traced(checkpoint.architecture, error).what)
            log.info("%s; traced again with one photo", reason)
    try:
        return Traced(_program(model, photos[:1], free=False), 1, reason)
    except Exception as error:
        raise cannot_be_traced(checkpoint.architecture, error) from error


def _program(model: nn.Module, photos: torch.Tensor, free: bool) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1, max=4096)
    with torch.no_grad(), quiet_tracing():
        return torch.export.export(model, (photos,), dynamic_shapes=({0: batch},) if free else None)


def _why_one_at_a_time(model: nn.Module, photos: torch.Tensor) -> str:
    """Empty if a batch is answered as its photos alone are."""
    with torch.inference_mode():
        alone = torch.cat([model(photo[None]) for photo in photos])
        try:
            together = model(photos)
        except Exception as error:  # the user's own code
            return f"it fails on two photos at once ({_said(error)})"
    if together.shape != alone.shape:
        return f"it answers two photos by {tuple(together.shape)}"
    gap = float((together - alone).abs().max() / alone.abs().max().clamp_min(1e-30))
    return "" if gap <= _TOLERANCE else f"it answers a photo otherwise beside another (by {gap:.1e} of the largest)"


def cannot_be_traced(name: str, error: BaseException) -> BadInput:
    """torch.export's report as one error: which line, and what to change."""
    text = str(error)
    place, code = _line_of(error)
    return BadInput(
        f"{name} cannot be traced{place}: {_said(error)}",
        "a forward that computes the same graph for every photo",
        _advice(text, code),
    )


def _said(error: BaseException) -> str:
    """Its first line, without the list that ends torch's "Could not guard on …  (Size-like symbols: none)"."""
    return first_line(error).split("  (Size-like")[0]


def _line_of(error: BaseException) -> tuple[str, str]:
    """` at FILE:LINE in NAME: CODE` of the innermost frame outside torch and this package, and the code."""
    frames = [(m["file"], m["line"], m["name"], m["code"].strip()) for m in _FRAME.finditer(str(error))]
    frames += list(_stack(error))
    own = [frame for frame in frames if not frame[0].startswith((_TORCH, _OURS))]
    if not own:
        found = _CAUSED.search(str(error))
        return (f" at {found['file']}:{found['line']} in {found['name']}" if found else ""), ""
    file, line, name, code = own[-1]
    return f" at {file}:{line} in {name} (`{code}`)", code


def _stack(error: BaseException) -> Iterator[tuple[str, str, str, str]]:
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.name == "forward" and not frame.filename.startswith("<"):
            yield frame.filename, str(frame.lineno), frame.name, frame.line or ""


def _advice(text: str, code: str) -> str:
    if code.startswith(("if ", "elif ", "while ")):
        return "a branch on values cannot be traced: compute both sides and choose by torch.where, or branch on shapes"
    if ".item()" in code or "int(" in code or "float(" in code:
        return "a number taken out of a tensor cannot be traced: keep it a tensor, or make it a constant of the module"
    if ".numpy()" in code or "numpy" in text:
        return "numpy cannot be traced: write it with torch's own functions"
    if "data-dependent" in text:
        return "sizes and branches must not depend on values: use torch.where, masks, or fixed sizes"
    return "change that line to plain tensor operations; `torch.export.draft_export(network, (images,))` lists all"
