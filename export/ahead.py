"""What photos go through before a foreign graph's first layer, by the graph, its metadata and what is told."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from ..artifact import Preprocess
from ..errors import BadInput
from .graph.photo_input import NCHW, Beginning, beginning, layout_of
from .loaders.told import FIELDS, Told

_FED = {TensorProto.FLOAT: np.float32, TensorProto.UINT8: np.uint8}


@dataclass(frozen=True)
class Feed:
    """How photos become what the foreign graph itself takes."""

    layout: str
    dtype: type
    mean: np.ndarray
    std: np.ndarray
    bgr: bool

    def images(self, photos: np.ndarray) -> np.ndarray:
        """uint8 RGB `(N, H, W, 3)` → its input."""
        seen = photos[..., ::-1] if self.bgr else photos
        if self.dtype is np.float32:
            seen = ((seen.astype(np.float32) - self.mean) / self.std).astype(np.float32)
        return np.ascontiguousarray(seen.transpose(0, 3, 1, 2) if self.layout == NCHW else seen)


@dataclass(frozen=True)
class Ahead:
    """What photos go through before the first layer.

    Args:
        host: the host part; its mean and std are those outside of the graph.
        start: what the graph itself does to its input.
    """

    host: Preprocess
    start: Beginning
    feed: Feed
    notes: tuple[str, ...]

    def whole(self) -> Preprocess:
        """Mean and std of what is outside and inside the graph together, of RGB: `scale * (p - mean) / std + shift`."""
        turn = -1 if self.feed.bgr else 1
        mean, std = np.asarray(self.host.mean), np.asarray(self.host.std)
        mean, std = mean - self.start.shift * std / self.start.scale, std / self.start.scale
        return dataclasses.replace(self.host, mean=tuple(mean[::turn].tolist()), std=tuple(std[::turn].tolist()))


def read_ahead(model: onnx.ModelProto, told: Told, metadata: Mapping[str, str], text: str) -> Ahead:
    """Read what comes before the first layer; a free size becomes the one that is told, in place.

    Raises:
        BadInput: inputs that are no photos, or what is told goes against what the graph does.
        NotTold: what neither says.
    """
    kind, shape = _input(model, text)
    layout = layout_of(model.graph, shape, text)
    start = beginning(model.graph, layout)
    host, notes = _host(told, metadata, (kind, layout, shape), start, text)
    _fix_size(model, layout, host)
    mean, std = np.array(host.mean, np.float32), np.array(host.std, np.float32)
    return Ahead(host, start, Feed(layout, _FED[kind], mean, std, told.channels == "BGR"), notes)


def _input(model: onnx.ModelProto, text: str) -> tuple[int, tuple[int | None, ...]]:
    """Element type and shape of its only input."""
    if len(model.graph.input) != 1:
        raise BadInput(f"{text}: inputs {', '.join(each.name for each in model.graph.input) or 'none'}",
                       "one input: a photo")  # fmt: skip
    tensor = model.graph.input[0].type.tensor_type
    if tensor.elem_type not in _FED:
        raise BadInput(f"{text}: input of {TensorProto.DataType.Name(tensor.elem_type).lower()}", "float32 or uint8",
                       "export the float32 model")  # fmt: skip
    return tensor.elem_type, tuple(axis.dim_value or None for axis in tensor.shape.dim)


def _host(
    told: Told, metadata: Mapping[str, str], given: tuple[int, str, tuple[int | None, ...]], start: Beginning, text: str
) -> tuple[Preprocess, tuple[str, ...]]:
    """What photos go through before the graph: the host part, and the mean and std outside of it."""
    kind, layout, shape = given
    own: dict[str, Any] = _described(metadata, text)
    notes = []
    sides = shape[2:] if layout == NCHW else shape[1:3]
    if None not in sides:
        own |= {"height": sides[0], "width": sides[1]}
    if kind == TensorProto.UINT8:
        own |= {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    elif start.normalizes:
        unit = float(max(np.abs(start.shift / start.scale).max(), np.abs(1 / start.scale).max())) <= 2
        own |= {"mean": (0.0,) * 3, "std": (255.0 if unit else 1.0,) * 3}
        notes.append(f"the graph normalizes: images are taken as {'0 to 1' if unit else '0 to 255'} before that")
    host = told.host(own, text)
    if kind == TensorProto.UINT8 and (host.mean, host.std) != ((0.0,) * 3, (1.0,) * 3):
        raise BadInput(f"{text}: takes uint8, and --mean or --std are told", "its own normalization, which is inside")
    if start.normalizes and (host.mean, host.std) not in (((0.0,) * 3, (std,) * 3) for std in (1.0, 255.0)):
        raise BadInput(f"{text}: normalizes by itself, and mean or std are told", "its own, which is inside",
                       "leave --mean and --std out; where it takes images from 0 to 1: --mean 0 --std 1")  # fmt: skip
    if None not in sides and (host.height, host.width) != sides:
        raise BadInput(f"{text}: --size {host.height}x{host.width}", f"the graph's own {sides[0]}x{sides[1]}")
    notes.append(f"input {layout}, {'uint8' if kind == TensorProto.UINT8 else 'float32'}")
    return host, tuple(notes)


def _described(metadata: Mapping[str, str], text: str) -> dict[str, Any]:
    """The host part that an export of tiffin's tells; its mean and std are in the graph."""
    raw = noted(metadata, "tiffin.preprocess", text) or {}
    return {key: raw[key] for key in FIELDS if key in raw and key not in ("mean", "std")}


def _fix_size(model: onnx.ModelProto, layout: str, host: Preprocess) -> None:
    """Height and width are those that are told, where the graph leaves them free."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    high, wide = (2, 3) if layout == NCHW else (1, 2)
    dims[high].dim_value, dims[wide].dim_value = host.height, host.width
    dims[1 if layout == NCHW else 3].dim_value = 3


def noted(metadata: Mapping[str, str], key: str, text: str) -> Any:
    """What an export of tiffin's wrote under a key of a graph's metadata; None where it is not there.

    Raises:
        BadInput: it is no JSON.
    """
    try:
        return json.loads(metadata[key]) if key in metadata else None
    except ValueError as error:
        raise BadInput(f"{text}: its metadata {key} is no JSON ({error})", "what tiffin wrote",
                       "export it again, or take that entry out") from error  # fmt: skip
