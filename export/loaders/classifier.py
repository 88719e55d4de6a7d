"""A torch module that a user brought → `Checkpoint`, once it behaves as a classifier."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from ...artifact import Preprocess
from ...artifact.manifest import require_shown
from ...errors import BadInput, NotTold, first_line
from ...train import Checkpoint
from ...train.checkpoint import not_finite, state_digest
from ...train.zoo.layers import LogitsOf, logits_in
from .source import Source
from .told import TURNED, Told

_REPEATED = 1e-4  # of the largest logit, as much as parity allows


class Contiguous(nn.Module):
    """A network whose code asks for images as they lie after NCHW decoding (`view`): photos lie by pixels."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalized float `(N, 3, H, W)` → logits `(N, classes)`."""
        return self.network(images.contiguous())


class Bgr(nn.Module):
    """A network trained on BGR, given RGB."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalized float RGB `(N, 3, H, W)` → logits `(N, classes)`."""
        return self.network(images.flip(1))


@dataclass(frozen=True)
class Brought:
    """What a loader knows of a network.

    Args:
        own: `Preprocess`'s fields as the source has them, as far as it does.
        channels: the order that the source says its network wants.
        sha256: of the file of its weights; None hashes the weights.
        transform: its library's own preprocessing of one PIL image, with the filter that is told.
    """

    text: str
    kind: str
    module: nn.Module
    architecture: str
    labels: tuple[str, ...] | None
    own: Mapping[str, Any]
    channels: str = "RGB"
    sha256: str | None = None
    notes: tuple[str, ...] = ()
    transform: Callable[[Image.Image], Any] | None = None


def as_source(brought: Brought, told: Told) -> Source:
    """Put what is told to what the source says, and require a classifier.

    Raises:
        BadInput: weights are no numbers, the network fails on an image, answers no logits or by chance,
            labels are missing or as many as other classes, or preprocessing is not known.
    """
    host = told.host(brought.own, brought.text)
    notes = list(brought.notes)
    module = brought.module
    _require_finite(module, brought.text)
    module = module.float().eval()
    answer = _answer(module, host, brought.text)
    if not _takes_photos(module, host):
        module = Contiguous(module).eval()
    if not torch.is_tensor(answer):
        plain = isinstance(answer, tuple | list) and not hasattr(answer, "logits")
        which = f"the first of {len(answer)} is" if plain else "its logits are"
        module, answer = LogitsOf(module).eval(), logits_in(answer)
        notes.append(f"the network answers with more than one tensor: {which} taken")
    classes = _classes(answer, brought.text)
    require_repeatable(answer.numpy(), logits_in(_answer(module, host, brought.text)).numpy(), brought.text)
    if (told.channels or brought.channels) == "BGR":
        module, host = Bgr(module).eval(), _turned(host)
        notes.append(TURNED)
    labels = told.label_names() or brought.labels
    checked = checked_labels(labels, classes, brought.text)
    digest = brought.sha256 or state_digest(module.state_dict())
    checkpoint = Checkpoint(module, brought.architecture, checked, host, digest)
    other = dataclasses.replace(told, interpolation=None).fields()
    as_it_is = not other and (told.channels or brought.channels) == "RGB"
    transform = brought.transform if as_it_is else None
    return Source(brought.text, brought.kind, checkpoint, tuple(notes), answer.numpy().tobytes(), transform)


def _turned(host: Preprocess) -> Preprocess:
    """Means of a BGR network are in its own order; the host part knows RGB alone."""
    return dataclasses.replace(host, mean=host.mean[::-1], std=host.std[::-1])


def _require_finite(module: nn.Module, text: str) -> None:
    if wrong := not_finite(module.state_dict()):
        raise BadInput(f"{text}: weights hold NaN or infinity: {', '.join(wrong[:10])}", "finite weights",
                       "train again, or take an earlier checkpoint")  # fmt: skip


def example(host: Preprocess, rows: int = 1) -> torch.Tensor:
    """Seeded normalized noise `(rows, 3, H, W)`."""
    drawn = np.random.default_rng(0).integers(0, 256, (rows, host.height, host.width, 3))
    images = (torch.from_numpy(drawn).float() - torch.tensor(host.mean)) / torch.tensor(host.std)
    return images.permute(0, 3, 1, 2).contiguous()


def _answer(module: nn.Module, host: Preprocess, text: str) -> Any:
    try:
        with torch.inference_mode():
            return module(example(host))
    except Exception as error:  # the user's own code
        raise BadInput(
            f"{text} fails on an image of (1, 3, {host.height}, {host.width}): {first_line(error)}",
            "a network that takes float images (N, 3, height, width)",
            "give the --size (HEIGHTxWIDTH) that it was trained with",
        ) from error


def _takes_photos(module: nn.Module, host: Preprocess) -> bool:
    """True if images may lie in memory as photos do: channels last."""
    try:
        with torch.inference_mode():
            module(example(host).contiguous(memory_format=torch.channels_last))
    except RuntimeError:
        return False
    return True


def _classes(answer: Any, text: str) -> int:
    if not torch.is_tensor(answer) or answer.ndim != 2 or not answer.is_floating_point():
        told = f"{answer.dtype} {tuple(answer.shape)}" if torch.is_tensor(answer) else type(answer).__name__
        raise BadInput(f"{text} answers an image with {told}", "float logits (N, classes): an image classifier")
    if not bool(torch.isfinite(answer).all()):
        raise BadInput(
            f"{text} answers an image with NaN or infinity", "finite logits", "look at its weights and --std"
        )
    if answer.shape[1] < 2:
        raise BadInput(
            f"{text} answers an image with one number",
            "a logit for each of at least two classes",
            "where its sigmoid is the second class's probability, answer torch.cat([torch.zeros_like(x), x], 1)",
        )
    if bool((answer >= 0).all()) and abs(float(answer.sum()) - 1) < 1e-4:
        raise BadInput(
            f"{text} answers with probabilities: a softmax is its last layer",
            "logits",
            "leave the softmax out: int8 cannot hold small probabilities, and the temperature is fitted on logits",
        )
    return int(answer.shape[1])


def require_repeatable(first: np.ndarray, second: np.ndarray, text: str) -> None:
    """Raises BadInput where two answers to the same images differ by more than rounding."""
    if np.abs(first - second).max() > _REPEATED * np.abs(first).max():
        raise BadInput(f"{text} answers the same image otherwise when asked again: by chance",
                       "a network that draws nothing in eval mode",
                       "draw noise and drop values only while self.training")  # fmt: skip


def checked_labels(labels: tuple[str, ...] | None, classes: int, text: str) -> tuple[str, ...]:
    """Labels of which none is another's: classes of one name (ImageNet's two cranes) get their number behind it.

    Raises:
        NotTold: there are none, or other than the network has classes.
        BadInput: one holds a control character.
    """
    if labels is None:
        raise NotTold(f"{text} names none of its {classes} classes", "a name for each class",
                       "give --labels FILE, one name a line in the order of the logits")  # fmt: skip
    if len(labels) != classes:
        raise NotTold(f"{text} answers {classes} classes, there are {len(labels)} labels",
                       "one label a class", "give --labels FILE that fits, or weights for these labels")  # fmt: skip
    require_shown(labels, f"{text}: a label")
    times = Counter(labels)
    return tuple(f"{label} ({index})" if times[label] > 1 else label for index, label in enumerate(labels))
