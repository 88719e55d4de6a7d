"""Any torch module with tensors in and out → ONNX artifact: segmentation, autoencoders, generators.

A classifier comes by `tiffin export`, which knows its labels and its photos. What is here is answered by
`tiffin.load(folder).run(feeds)`, and quantized, compiled and timed like every other artifact (docs/graphs.md).
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from ..artifact import Artifact, Preprocess, Producer, RunConfig, TensorSpec
from ..artifact.claims import write_claim
from ..artifact.manifest import Manifest
from ..artifact.store import save
from ..errors import BadInput, ParityFailed
from ..machine import versions
from ..runtime.session import Session
from ..train.checkpoint import state_digest
from .graph.canonical import canonical
from .parity import TOLERANCE
from .quiet import quiet_tracing
from .to_onnx import OPSET, onnx_of
from .trace import PhotoInput, cannot_be_traced

TASKS = ("segmentation", "autoencoder", "generator", "other")

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class ModuleParity:
    """`max_relative`: by output, the largest absolute difference over the largest absolute value that torch gives."""

    rows: int
    max_relative: Mapping[str, float]
    tolerance: float
    backend: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def export_module(
    module: nn.Module,
    inputs: Arrays,
    out: Path,
    task: str = "other",
    outputs: Sequence[str] | None = None,
    preprocess: Preprocess | None = None,
) -> tuple[Artifact, ModuleParity]:
    """Export, prove on `inputs` that ONNX Runtime gives torch's numbers, and only then save.

    Args:
        module: float32; put into eval mode, in which it must answer the same twice (a VAE: by its mean).
        inputs: name → array, in the order of `forward`'s parameters. The first axis of each is the batch, which stays
            free; the others are fixed. It is traced with these and parity is measured on them: some typical rows.
        task: "segmentation", "autoencoder", "generator" or "other".
        outputs: their names, in `forward`'s order. Default: the keys of a dict, else "output" or "output_0", ….
        preprocess: of a module that takes photos, as `(N, 3, H, W)` normalized by it: the artifact then takes one
            input of uint8 `(N, H, W, 3)`, and the normalization is inside.

    Raises:
        BadInput: inputs that do not fit, a module that is no module, is random, or cannot be traced.
        ParityFailed: an output differs by more than the tolerance; nothing is saved.
    """
    _check(module, inputs, task, preprocess)
    traced = (PhotoInput(module, preprocess) if preprocess else module).eval()
    wanted = _answers(traced, inputs, outputs)
    _require_repeatable(wanted, _answers(traced, inputs, outputs))
    model = _export(traced, inputs, list(wanted), preprocess)
    manifest = _manifest(model, module, task, preprocess)
    files: dict[str, bytes | Path] = {"model.onnx": model.SerializeToString(deterministic=True)}
    with tempfile.TemporaryDirectory() as scratch:
        parity = _parity(save(Path(scratch) / "draft", manifest, files), inputs, wanted)
    artifact = save(out, manifest, files)
    write_claim(artifact, "parity", parity.to_json())
    return artifact, parity


def _check(module: nn.Module, inputs: Arrays, task: str, preprocess: Preprocess | None) -> None:
    if not isinstance(module, nn.Module):
        raise BadInput(f"{type(module).__name__}: no network", "a torch.nn.Module")
    if task not in TASKS:
        raise BadInput(f"task {task!r}", f"one of {', '.join(TASKS)}", "export a classifier by `tiffin export`")
    wide = sorted({str(each.dtype).removeprefix("torch.") for each in module.parameters()
                   if each.is_floating_point() and each.dtype != torch.float32})  # fmt: skip
    if wide:
        raise BadInput(f"{type(module).__name__}: weights of {', '.join(wide)}", "float32", "export module.float()")
    rows = {array.shape[0] if array.ndim else 0 for array in inputs.values()}
    if len(rows) != 1 or min(rows) < 2:
        raise BadInput(f"inputs {_shapes(inputs)}", "arrays with one number of rows, at least 2, in their first axis")
    if preprocess is not None:
        wanted = (preprocess.height, preprocess.width, 3)
        if len(inputs) != 1 or any(each.dtype != np.uint8 or each.shape[1:] != wanted for each in inputs.values()):
            raise BadInput(f"inputs {_shapes(inputs)} with preprocessing", f"one input of uint8 {('N', *wanted)}")


def _shapes(arrays: Arrays) -> str:
    return ", ".join(f"{name} {array.dtype}{array.shape}" for name, array in arrays.items()) or "none"


def _answers(module: nn.Module, inputs: Arrays, names: Sequence[str] | None) -> dict[str, np.ndarray]:
    """What torch gives, by output name.

    Raises:
        BadInput: it fails, gives something else than tensors, or another number of them than names.
    """
    with torch.inference_mode():
        try:
            given = module(*(torch.from_numpy(np.ascontiguousarray(array)) for array in inputs.values()))
        except Exception as error:  # the user's own code
            raise BadInput(f"the network fails on {_shapes(inputs)}: {error}", "inputs that it takes") from error
    own = list(given) if isinstance(given, Mapping) else None
    tensors = list(given.values()) if isinstance(given, Mapping) else [given] if torch.is_tensor(given) else given
    if not isinstance(tensors, (list, tuple)) or not tensors or not all(map(torch.is_tensor, tensors)):
        raise BadInput(f"the network gives {type(given).__name__}", "a tensor, or a tuple, list or dict of tensors")
    default = own or (["output"] if len(tensors) == 1 else [f"output_{place}" for place in range(len(tensors))])
    chosen = list(names or default)
    if len(set(chosen)) != len(tensors) or set(chosen) & set(inputs):
        raise BadInput(f"outputs {', '.join(chosen)} of {len(tensors)} tensors", "a name for each, no input's")
    return {name: tensor.numpy() for name, tensor in zip(chosen, tensors, strict=True)}


def _require_repeatable(first: Arrays, second: Arrays) -> None:
    random = [name for name in first if not np.array_equal(first[name], second[name], equal_nan=True)]
    if random:
        raise BadInput(
            f"{', '.join(random)}: other values when run again on the same inputs",
            "a network that draws nothing in eval mode",
            "answer by the mean where it samples: a VAE decodes its mean unless self.training",
        )
    broken = [name for name in first if not np.isfinite(first[name]).all()]
    if broken:
        raise BadInput(f"{', '.join(broken)}: NaN or infinite", "finite outputs", "look at the weights")


def _export(module: nn.Module, inputs: Arrays, outputs: list[str], preprocess: Preprocess | None) -> onnx.ModelProto:
    batch = torch.export.Dim("batch", min=1, max=4096)
    examples = tuple(torch.from_numpy(np.ascontiguousarray(array[:2])) for array in inputs.values())
    with quiet_tracing(), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            traced = torch.export.export(module, examples, dynamic_shapes=tuple({0: batch} for _ in examples))
            found = onnx_of(traced, list(inputs), outputs)
        except Exception as error:  # torch.export has no error of its own for what it cannot trace
            raise cannot_be_traced(type(getattr(module, "network", module)).__name__, error) from error
    metadata = {"tiffin.preprocess": json.dumps(preprocess.plain(), sort_keys=True)} if preprocess else {}
    model = canonical(found, metadata, prologue=preprocess is not None)
    onnx.checker.check_model(model, full_check=True)
    return model


def _manifest(model: onnx.ModelProto, module: nn.Module, task: str, preprocess: Preprocess | None) -> Manifest:
    weights = state_digest(module.state_dict())
    about = {"opset": OPSET, "module": type(module).__name__}
    return Manifest(
        task=task,
        format="onnx",
        precision="fp32",
        inputs=tuple(map(_spec, model.graph.input)),
        outputs=tuple(map(_spec, model.graph.output)),
        files=(),
        producer=Producer("export", versions(("torch", "onnx", "onnxscript")), about),
        preprocess=preprocess,
        parent=weights,
        checkpoint=weights,
    )


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    sizes = tuple(axis.dim_value if axis.HasField("dim_value") else None for axis in tensor.shape.dim)
    return TensorSpec(value.name, str(dtype), sizes)


def _parity(draft: Artifact, inputs: Arrays, wanted: Arrays) -> ModuleParity:
    """Measured with the rows given, not with the two of the trace: a batch that was baked in shows.

    Raises:
        ParityFailed: beyond the tolerance.
    """
    backend = "onnxruntime"
    with Session(draft, RunConfig(backend)) as session:
        found = session.run({name: np.ascontiguousarray(array) for name, array in inputs.items()})
    gaps = {name: _relative(found[name], wanted[name]) for name in wanted}
    wrong = {name: gap for name, gap in gaps.items() if not gap <= TOLERANCE}
    if wrong:
        raise ParityFailed(
            "exported outputs differ from torch: " + ", ".join(f"{name} by {gap:.1e}" for name, gap in wrong.items()),
            f"at most {TOLERANCE:.0e} of the largest value",
            "nothing was written; report the network and the versions of torch, onnx and onnxruntime",
        )
    return ModuleParity(len(next(iter(inputs.values()))), gaps, TOLERANCE, backend)


def _relative(found: np.ndarray, wanted: np.ndarray) -> float:
    if found.shape != wanted.shape:
        return float("inf")
    largest = float(np.abs(wanted).max())
    gap = float(np.abs(found.astype(np.float64) - wanted).max())
    return gap / largest if largest > 0 else float(gap > 0)
