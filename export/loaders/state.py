"""Weights from a file, never by running what is in it: `torch.load(weights_only=True)` or safetensors."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ...errors import BadInput, command, first_line
from ...train.checkpoint import load_state, tensors_of

# Under which the usual trainers keep a state_dict: Lightning; plain torch's tutorial; timm, torchvision and others.
_KEYS = ("state_dict", "model_state_dict", "model", "module", "net", "ema")
_GLOBAL = re.compile(r"(?:GLOBAL|Unsupported class|Unsupported operand) ([\w.]+)")
_EXPECTED = "a state_dict: .pt, .pth, .ckpt, .bin or .safetensors"


def load_weights(module: nn.Module, path: Path) -> tuple[str, ...]:
    """Copy a file's weights into a module; returns what there is to say of it.

    Raises:
        BadInput: it cannot be read safely, or its weights do not fit: names up to ten.
    """
    state, said = read_state(path)
    state, notes = without_prefix(state, module, path)
    load_state(module, state, path)
    return (*said, *notes)


def read_state(path: Path) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """Names → tensors, and which set of weights they are where the file holds several.

    Raises:
        BadInput: no such file, cut off, TorchScript, a pickle that needs more than tensors, or no state_dict in it.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such file", _EXPECTED)
    if path.suffix == ".safetensors":
        try:
            return dict(load_file(path)), ()
        except (SafetensorError, OSError) as error:
            raise BadInput(f"{path}: cannot be read ({error})", "a whole .safetensors file", "copy it again") from error
    if is_torchscript(path):
        raise BadInput(f"{path}: a TorchScript program, no state_dict", _EXPECTED, f"`{command('export', path)}`")
    return _state_in(_unpickled(path), path)


def is_torchscript(path: Path) -> bool:
    """True for an archive with a program's code in it."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") or "/code/" in name for name in archive.namelist())


def _unpickled(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = _GLOBAL.search(str(error))
        needs = f"it needs {found[1]}" if found else first_line(error)
        raise BadInput(
            f"{path}: refused, because unpickling it could run code: {needs}",
            "tensors alone",
            "where you trust it, save its weights alone: torch.save(network.state_dict(), FILE), or safetensors",
        ) from error
    except Exception as error:  # torch has no error of its own for a damaged file
        reason = f"{type(error).__name__}: {first_line(error)}" if path.stat().st_size else "it is empty"
        raise BadInput(f"{path}: cannot be read ({reason})", f"{_EXPECTED}, whole", "copy it again") from error


def _state_in(loaded: Any, path: Path) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """The state_dict itself, or the one that a trainer keeps beside its own state."""
    parts = loaded if isinstance(loaded, Mapping) else {}
    sets = {key: tensors for key, value in parts.items() if (tensors := _tensors(value))}
    taken = next((key for key in _KEYS if key in sets), None)
    if taken:
        left = ", ".join(repr(key) for key in sets if key != taken)
        return sets[taken], (f"weights are those under {taken!r} of the file; left: {left}",) if left else ()
    if tensors := _tensors(loaded):
        return tensors, ()
    held = ", ".join(map(str, list(parts)[:10])) or type(loaded).__name__
    raise BadInput(f"{path}: no weights in it ({held})", "a state_dict, or a checkpoint with one under state_dict")


def _tensors(value: Any) -> dict[str, torch.Tensor]:
    """The tensors of a mapping by name; none of anything else."""
    return tensors_of(value) if isinstance(value, Mapping) else {}


def without_prefix(
    state: dict[str, torch.Tensor], module: nn.Module, path: Path
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Without the prefix under which a trainer held the network, and what else it held.

    A batch norm's count of batches, which old files lack and evaluation does not read, is the module's own; a weight
    that the module has under two names may be there under one.

    Raises:
        BadInput: it holds several such networks of other weights.
    """
    wanted, notes = tensors_of(module.state_dict()), list[str]()
    counts = {name: value for name, value in wanted.items() if name.endswith("num_batches_tracked")}
    prefix = _prefix(state, [name for name in wanted if name not in counts], path)
    if prefix:
        other = sorted(name for name in state if not name.startswith(prefix))
        state = {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}
        notes.append(f"weights are those under {prefix!r}" + (f"; left: {', '.join(other[:5])}" if other else ""))
    there = {(wanted[name].data_ptr(), wanted[name].shape): state[name] for name in wanted if name in state}
    tied = {name: there[place] for name, value in wanted.items() if (place := (value.data_ptr(), value.shape)) in there}
    return {**counts, **tied, **state}, notes


def _prefix(state: Mapping[str, torch.Tensor], wanted: list[str], path: Path) -> str:
    """The one under which most of the wanted weights are, of several the shortest, then the first by its letters.

    Raises:
        BadInput: all are under several, with other values.
    """
    ends = {name[: -len(key)] for key in wanted[:3] for name in state if name.endswith(key)}
    ways = sorted((end for end in ends if end == "" or end.endswith(".")),
                  key=lambda end: (len(end), end))  # fmt: skip
    whole = [way for way in ways if all(way + key in state for key in wanted)]
    others = [way for way in whole[1:]
              if any(not torch.equal(state[way + key], state[whole[0] + key]) for key in wanted)]  # fmt: skip
    if others:
        raise BadInput(f"{path}: holds this network several times: under {', '.join(map(repr, [whole[0], *others]))}",
                       "the weights of one",
                       f"save the one that you mean: torch.save({{name.removeprefix({others[0]!r}): weight for name, "
                       f"weight in state.items() if name.startswith({others[0]!r})}}, FILE)")  # fmt: skip
    return max(ways, key=lambda way: sum(way + key in state for key in wanted), default="")
