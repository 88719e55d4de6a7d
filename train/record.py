"""What a checkpoint's JSON says of its training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ..machine import environment, versions
from .run import Epoch, computes_bf16

_PACKAGES = ("tiffin", "torch", "numpy", "pillow", "safetensors", "efficientnet-lite-pytorch", "transformers")


def trained_with() -> dict[str, str]:
    """Versions of what weights are made with."""
    return versions(_PACKAGES)


def training_record(
    method: str,
    photos: int,
    photos_sha256: str,
    options: dict[str, Any],
    history: Sequence[Epoch],
    **more: Any,
) -> dict[str, Any]:
    """Plain values: what was fitted on what, how, epoch by epoch, with which versions on which machine.

    Args:
        photos: fitted, without those held out.
        options: as applied.
        more: what this method has beside.
    """
    return {
        "method": method,
        "photos": photos,
        "photos_sha256": photos_sha256,
        **more,
        "options": options,
        "autocast": "bfloat16" if computes_bf16() else "none",
        "history": [asdict(epoch) for epoch in history],
        "fit_seconds": sum(epoch.seconds for epoch in history),
        "versions": trained_with(),
        "machine": environment(),
    }
