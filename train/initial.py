"""Where training starts: ImageNet's weights, another checkpoint's, or none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from ..artifact import Preprocess
from ..errors import BadInput
from ..runtime.preprocess import with_golden
from .architecture import Architecture
from .checkpoint import Checkpoint, load_checkpoint, state_digest
from .network import architecture as architecture_named

SCRATCH = "none"


@dataclass(frozen=True)
class Start:
    """A network about to be trained.

    Args:
        host: how its input is prepared when it is scored.
        source: where its weights come from, in words.
        sha256: of these weights, the new head's drawn ones included.
        checkpoint: that they come from, if any.
    """

    module: nn.Module
    architecture: Architecture
    host: Preprocess
    source: str
    sha256: str
    checkpoint: Checkpoint | None = None


def start(name: str | None, labels: tuple[str, ...], init: str | None, size: int | None, seed: int) -> Start:
    """Build a network for these labels.

    Args:
        name: of an architecture; None takes that of the checkpoint in `init`.
        init: None for ImageNet's weights, "none" for drawn ones, or a checkpoint's file. A checkpoint of the same
            labels keeps its head; any other's is drawn anew.
        size: side of its input in pixels; None for the architecture's, or the checkpoint's.

    Raises:
        BadInput: no such architecture or checkpoint, none of ImageNet's weights, or weights of another architecture.
    """
    given = load_checkpoint(Path(init)) if init and init != SCRATCH else None
    about = architecture_named(name or (given.architecture if given else ""))
    if given and given.architecture != about.name:
        raise BadInput(f"{init} is {given.architecture}", f"weights of {about.name}", f"--arch {given.architecture}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = about.build(len(labels))
    source = f"drawn by seed {seed}"
    if given:
        source = _from_checkpoint(module, about, given, labels)
    elif init != SCRATCH:
        source = _from_imagenet(module, about)
    return Start(module, about, _host(about, given, size), source, state_digest(module.state_dict()), given)


def _host(about: Architecture, given: Checkpoint | None, size: int | None) -> Preprocess:
    side = size or about.size
    told = Preprocess(side, side, about.crop_fraction, about.interpolation, mean=about.mean, std=about.std)
    if given is not None:
        known = given.preprocess
        told = replace(known, golden={}, height=size or known.height, width=size or known.width)
    return with_golden(told)


def _from_imagenet(module: nn.Module, about: Architecture) -> str:
    if about.pretrained is None:
        raise BadInput(
            f"there are no ImageNet weights of {about.name} in any package that is installed by name",
            "weights to start from",
            "--init none trains from scratch, --init FILE.safetensors starts from a checkpoint, or take another --arch",
        )
    _put(module, about, about.pretrained(), f"ImageNet's weights of {about.name}")
    return f"ImageNet ({about.source})"


def _from_checkpoint(module: nn.Module, about: Architecture, given: Checkpoint, labels: tuple[str, ...]) -> str:
    state = given.module.state_dict()
    if given.labels == labels:
        module.load_state_dict(state)
        return f"checkpoint {given.sha256[:12]}"
    _put(module, about, state, f"checkpoint {given.sha256[:12]}")
    return f"checkpoint {given.sha256[:12]} without its head of {len(given.labels)} classes"


def _put(module: nn.Module, about: Architecture, state: dict[str, torch.Tensor], what: str) -> None:
    """Copy all weights but the head's."""
    own, head = module.state_dict(), f"{about.head}."
    body = {key: value for key, value in state.items() if not key.startswith(head)}
    odd = [key for key in body if key in own and own[key].shape != body[key].shape]
    odd += sorted({key for key in own if not key.startswith(head)} ^ set(body))
    if odd:
        raise BadInput(f"{what} do not fit: {', '.join(odd[:10])}", f"the weights of {about.name}'s own layers")
    module.load_state_dict(body, strict=False)
