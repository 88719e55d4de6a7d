"""A checkpoint: safetensors weights with a JSON file beside them that names architecture, labels and preprocessing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import nn

from ..artifact import Preprocess
from ..artifact.files import replace_files, sha256_file
from ..errors import BadInput
from ..runtime.preprocess import with_golden
from .network import build_network

DEFAULT_CHECKPOINT = Path(__file__).parent / "weights" / "efficientnet-lite0-grocery.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A trained classifier, ready to export.

    Args:
        module: float32, in eval mode; normalized float `(N, 3, H, W)` → logits `(N, len(labels))`.
        sha256: of the weights' file.
        held_out: digest of the photos held out of its training and of what that began with, where its record tells.
    """

    module: nn.Module
    architecture: str
    labels: tuple[str, ...]
    preprocess: Preprocess
    sha256: str
    held_out: str = ""


def load_checkpoint(path: Path = DEFAULT_CHECKPOINT) -> Checkpoint:
    """Read weights and the JSON beside them.

    Raises:
        BadInput: a file is missing or corrupt, or the weights do not fit the architecture and labels.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such checkpoint", "a .safetensors file that tiffin train wrote", "correct the path")
    meta = _read_meta(path.with_suffix(".json"))
    found = sha256_file(path)
    if meta.get("sha256", found) != found:
        raise BadInput(
            f"{path}: sha256 {found[:12]}…, its bytes changed",
            f"{meta['sha256'][:12]}… as in {path.with_suffix('.json').name}",
            "copy it again",
        )
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path}: cannot be read ({error})", "a whole .safetensors file", "copy it again") from error
    labels = tuple(meta["labels"])
    module = build_network(meta["architecture"], len(labels))
    load_state(module, state, path)
    host = with_golden(_preprocess(meta, path))
    return Checkpoint(module.float().eval(), meta["architecture"], labels, host, found, _held_out(meta))


def save_checkpoint(path: Path, checkpoint: Checkpoint, training: Mapping[str, Any] | None = None) -> Path:
    """Write weights (as they are) and the JSON beside them, with how they were trained where that is told.

    Raises:
        BadInput: they cannot be written (a full disk); what was there before is left as it was.
    """
    host = checkpoint.preprocess
    meta: dict[str, Any] = {
        "architecture": checkpoint.architecture,
        "labels": list(checkpoint.labels),
        "preprocess": {
            "height": host.height,
            "width": host.width,
            "crop_fraction": host.crop_fraction,
            "interpolation": host.interpolation,
            "mean": list(host.mean),
            "std": list(host.std),
            **{name: value for name, value in host.plain().items() if name in ("fit", "rounding")},
        },
    }
    if training is not None:
        meta["training"] = dict(training)
    weights = serialize({name: value.contiguous() for name, value in checkpoint.module.state_dict().items()})
    meta["sha256"] = hashlib.sha256(weights).hexdigest()
    told = json.dumps(meta, indent=1, ensure_ascii=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_files({path: weights, path.with_suffix(".json"): told.encode()})
    except OSError as error:
        raise BadInput(f"cannot write {path} ({error.strerror})", "room and permission to write",
                       "make room, or choose another --out") from error  # fmt: skip
    return path


def require_name(out: Path) -> None:
    """The JSON, the state and the pictures lie beside the weights, under the same name with other endings.

    Raises:
        BadInput: the weights' own name ends otherwise.
    """
    if out.suffix != ".safetensors":
        raise BadInput(f"cannot write {out}", "a file that ends in .safetensors", "choose another --out")


def rounded(module: nn.Module, half: bool) -> nn.Module:
    """The module as it will be loaded: float32, its weights rounded to float16 where these are kept.

    Raises:
        BadInput: a weight is no finite number, or too large for float16.
    """
    module = module.float()
    if lost := not_finite(module.state_dict()):
        raise BadInput(f"weights became NaN or infinite: {', '.join(lost[:5])}", "finite weights",
                       "take a lower learning rate")  # fmt: skip
    if not half:
        return module
    module = module.half().float()
    if large := not_finite(module.state_dict()):
        raise BadInput(f"weights too large for float16: {', '.join(large[:5])}", "at most 65504",
                       "run it again with --no-half: it goes on from the last epoch")  # fmt: skip
    return module


def _read_meta(path: Path) -> dict[str, Any]:
    try:
        meta = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise BadInput(
            f"{path}: missing", "a JSON file beside the weights with architecture, labels, preprocess"
        ) from error
    except ValueError as error:
        raise BadInput(f"{path}: not JSON ({error})", "architecture, labels, preprocess") from error
    if not isinstance(meta, dict):
        raise BadInput(f"{path}: no JSON object", "architecture, labels, preprocess")
    missing = [key for key in ("architecture", "labels", "preprocess") if key not in meta]
    if missing:
        raise BadInput(f"{path}: lacks {', '.join(missing)}", "architecture, labels, preprocess")
    odd = [key for key in ("architecture", "sha256") if not isinstance(meta.get(key, ""), str)]
    if odd:
        raise BadInput(f"{path}: {odd[0]} {meta[odd[0]]!r}", "a string")
    labels = meta["labels"]
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise BadInput(f"{path}: labels is no list of names", "one name a class, in the order of the logits")
    return meta


def _held_out(meta: dict[str, Any]) -> str:
    """Nothing where no record tells it, or where another checkpoint may have brought knowledge of these photos."""
    training = meta.get("training")
    told = training.get("held_out") if isinstance(training, dict) else None
    return str(told.get("photos_sha256", "")) if isinstance(told, dict) and told.get("may_know") == [] else ""


def _preprocess(meta: dict[str, Any], path: Path) -> Preprocess:
    raw = meta["preprocess"]
    try:
        return Preprocess(**{**raw, "mean": tuple(raw["mean"]), "std": tuple(raw["std"])})
    except (TypeError, KeyError) as error:
        raise BadInput(f"{path.with_suffix('.json')}: preprocess is wrong ({error})", "Preprocess's fields") from error
    except BadInput as error:
        raise BadInput(f"{path.with_suffix('.json')}: {error.what}", error.expected) from error


def load_state(module: nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Copy weights in, upcast to float32.

    Raises:
        BadInput: some are missing, too many, of another kind or shape (names up to ten of each), or no finite numbers.
    """
    own = module.state_dict()
    wanted = tensors_of(own)
    strange = [f"{key} {kind}" for key in wanted if key in state and (kind := _kind(state[key], wanted[key]))]
    if strange:
        raise BadInput(f"{path}: {len(strange)} weights of another kind: {', '.join(strange[:10])}",
                       "dense floats of 16, 32 or 64 bits", "save the network's float weights")  # fmt: skip
    wrong = [key for key in wanted if key in state and wanted[key].shape != state[key].shape]
    if wrong:
        shapes = ", ".join(f"{k} {tuple(state[k].shape)} for {tuple(wanted[k].shape)}" for k in wrong[:10])
        raise BadInput(
            f"{path}: {len(wrong)} weights of another shape: {shapes}",
            "this architecture's, for its labels",
            "give as many labels as the checkpoint has classes",
        )
    odd = {"missing": sorted(set(wanted) - set(state)), "extra": sorted(set(state) - set(wanted))}
    if any(odd.values()):
        told = "; ".join(f"{len(keys)} {word}: {', '.join(keys[:10])}" for word, keys in odd.items() if keys)
        raise BadInput(f"{path}: missing or extra weights: {told}", "the architecture's own state_dict")
    if wrong := not_finite(state):
        raise BadInput(f"{path}: weights hold NaN or infinity: {', '.join(wrong[:10])}", "finite weights")
    # Into the module's own state_dict, which says in which version each layer keeps its weights; a file may not.
    own.update({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    module.load_state_dict(own, strict=False)  # all weights are there; what a layer adds to them, it may not take


def tensors_of(state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Weights and buffers, without what layers keep beside them (`get_extra_state`)."""
    return {name: value for name, value in state.items() if torch.is_tensor(value)}


def _kind(value: torch.Tensor, wanted: torch.Tensor) -> str:
    """What it is, where its values are not those of the weight: quantized, packed, or not there."""
    if value.is_meta or value.is_quantized or value.layout is not torch.strided:
        return "meta" if value.is_meta else "quantized" if value.is_quantized else "sparse"
    plain = value.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    return "" if plain or not wanted.is_floating_point() else str(value.dtype).removeprefix("torch.")


def not_finite(state: Mapping[str, Any]) -> list[str]:
    """Names of weights and buffers that hold NaN or infinity."""
    return [name for name, value in tensors_of(state).items()
            if value.is_floating_point() and not bool(torch.isfinite(value).all())]  # fmt: skip


def state_digest(state: Mapping[str, Any], without: Iterable[str] = ()) -> str:
    """sha256 of weights and buffers by name, those left out whose name begins with one of `without`."""
    digest, left_out, state = hashlib.sha256(), tuple(without), tensors_of(state)
    for name in sorted(state):
        if not name.startswith(left_out):
            digest.update(name.encode())
            digest.update(state[name].detach().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
