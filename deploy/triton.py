"""A model for NVIDIA Triton: NAME/config.pbtxt, NAME/1/model file, labels.

Sources: Triton's user guide, «Model Repository» and «Model Configuration», and the sources of its backends. OpenVINO's
(`src/openvino.cc`) fixes a model's batch to `max_batch_size` and has no parameter for float32 execution. TensorRT's
(`src/loader.cc`, `src/instance_state.cc`) does not refit, and uses of the optimization profiles that are named the best
for a batch, else the first; its README has `version-compatible`.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..artifact import Artifact, TensorSpec
from ..artifact.engine_stamp import EngineStamp, read_stamp
from ..errors import BadInput
from .beside import LABELS, require_classifier
from .datatypes import datatype
from .engines import obstacle
from .folder import described_folder
from .repository import VERSION, Written, model_name, put_beside, put_model

_MAX_BATCH = 16
# Waiting so long for company costs less than one photo's run on any CPU measured here.
_QUEUE_DELAY_US = 500


@dataclass(frozen=True)
class _Backend:
    """How Triton runs one format: its word for the backend, where, and the names of the files."""

    word: str
    engine: str
    kind: str
    files: dict[str, str]


_BACKENDS = {
    "onnx": _Backend("onnxruntime", "onnxruntime", "KIND_CPU", {"model.onnx": "model.onnx"}),
    "openvino": _Backend("openvino", "openvino", "KIND_CPU", {"model.xml": "model.xml", "model.bin": "model.bin"}),
    "tensorrt": _Backend("tensorrt", "tensorrt", "KIND_GPU", {"model.engine": "model.plan"}),
}


def write_triton(artifact: Artifact, out: Path, name: str | None = None, max_batch: int | None = None) -> Written:
    """Write OUT/NAME, whole or not at all; other models of the repository stay as they are.

    Args:
        out: the repository, what `--model-repository` names.
        max_batch: photos that Triton joins at most; None: 16, an engine's own largest, or for OpenVINO no joining.

    Raises:
        BadInput: a format that Triton does not serve, another engine's int8, a dtype or batch that cannot be, or
            OUT/NAME holds something else.
    """
    require_classifier(artifact)
    backend = triton_backend(artifact)
    batch = _batch(artifact, max_batch)
    called = model_name(artifact, name)
    with described_folder(out / called) as draft:
        put_model(artifact, draft / VERSION, backend.files)
        (draft / "config.pbtxt").write_text(_config(artifact, called, backend, batch), encoding="utf-8")
        put_beside(artifact, draft)
    mount = shlex.quote(f"{out.resolve()}:/models")
    image = "nvcr.io/nvidia/tritonserver:YY.MM-py3"
    gpu = "--gpus=all " if backend.kind == "KIND_GPU" else ""
    start = (f"docker run --rm {gpu}-p 8000:8000 -p 8001:8001 -p 8002:8002 -v {mount} {image} "
             f"{shlex.join(['tritonserver', '--model-repository=/models', *server_arguments(artifact)])}")  # fmt: skip
    return Written(out / called, start, _notes(artifact, backend, batch))


def triton_backend(artifact: Artifact) -> _Backend:
    """How Triton runs an artifact.

    Raises:
        BadInput: it does not, or would answer wrongly.
    """
    manifest = artifact.manifest
    backend = _BACKENDS.get(manifest.format)
    why = obstacle(manifest, backend.engine) if backend else "Triton has no backend for it"
    if backend is None or why:
        raise BadInput(
            f"{artifact.folder}: {manifest.format}, {manifest.precision} for Triton: {why}",
            f"an artifact of format {', '.join(_BACKENDS)} in its engine's own dialect",
            "compile it: `tiffin compile ARTIFACT --backend tensorrt`" if manifest.scheme == "tensorrt"
            else "start from what `tiffin export` or `tiffin quantize` wrote",
        )  # fmt: skip
    stamp = _stamp(artifact)
    if stamp and stamp.stripped:
        raise BadInput(f"{artifact.folder}: an engine without weights, which Triton does not put back",
                       "an engine with its weights", "compile it again without --strip-weights")  # fmt: skip
    return backend


def server_arguments(artifact: Artifact) -> tuple[str, ...]:
    """What tritonserver must be told beside the repository."""
    stamp = _stamp(artifact)
    return ("--backend-config=tensorrt,version-compatible=true",) if stamp and stamp.version_compatible else ()


def _stamp(artifact: Artifact) -> EngineStamp | None:
    manifest = artifact.manifest
    return read_stamp(manifest.built_for, str(artifact.folder)) if manifest.format == "tensorrt" else None


def _batch(artifact: Artifact, asked: int | None) -> int:
    """`max_batch_size`; 0 where Triton shall not join requests."""
    manifest = artifact.manifest
    largest, stamp = _MAX_BATCH, _stamp(artifact)
    if manifest.inputs[0].shape[0] is not None:
        largest = 0
    elif stamp:
        largest = _largest_batch(artifact, stamp)
    elif manifest.format == "openvino":
        return asked or 0  # the backend would run every request, of one photo too, at the largest batch
    if asked and largest == 0 or asked and stamp and asked > largest:
        fixed = f"no --max-batch: the model's batch is fixed at {manifest.inputs[0].shape[0]}"
        expected = f"at most {largest}, as the engine was built" if largest else fixed
        raise BadInput(f"{artifact.folder}: max batch {asked}", expected, "leave --max-batch out")
    return asked or largest


def _largest_batch(artifact: Artifact, stamp: EngineStamp) -> int:
    """The batch up to which there is a profile for every one: Triton neither splits nor pads."""
    size = 0 if stamp.profiles else 1
    while any(least <= size + 1 <= most for least, _, most in stamp.profiles):
        size += 1
    if not size:
        raise BadInput(f"{artifact.folder}: no optimization profile for one photo, which Triton does not pad",
                       "an engine that takes a batch of 1", "compile it again with a profile from 1")  # fmt: skip
    return size


def _config(artifact: Artifact, name: str, backend: _Backend, batch: int) -> str:
    """config.pbtxt in protobuf's text format."""
    manifest = artifact.manifest
    tensor, answer = manifest.inputs[0], manifest.outputs[0]
    lines = [f"name: {json.dumps(name)}", f"backend: {json.dumps(backend.word)}", f"max_batch_size: {batch}"]
    lines += _block("input", _tensor(tensor, batch))
    lines += _block("output", [*_tensor(answer, batch), f"label_filename: {json.dumps(LABELS)}"])
    lines += _block("instance_group", ["count: 1", f"kind: {backend.kind}", *_profiles(artifact, batch)])
    if batch > 1:
        lines += ["dynamic_batching {", f"  max_queue_delay_microseconds: {_QUEUE_DELAY_US}", "}"]
    for key, value in _parameters(backend, batch).items():
        lines += [f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}']
    return "\n".join(lines) + "\n"


def _profiles(artifact: Artifact, batch: int) -> list[str]:
    """Those of several that a request can come to; one that begins above the batch would not load."""
    stamp = _stamp(artifact)
    if not stamp or len(stamp.profiles) < 2:
        return []
    numbers = [json.dumps(str(index)) for index, (least, _, _) in enumerate(stamp.profiles) if least <= batch]
    return [f"profile: [ {', '.join(numbers)} ]"]


def _block(field: str, inside: Sequence[str]) -> list[str]:
    return [f"{field} [", "  {", *(f"    {line}" for line in inside), "  }", "]"]


def _tensor(spec: TensorSpec, batch: int) -> list[str]:
    """With `max_batch_size` above 0 the first dimension is Triton's, and not listed."""
    shape = spec.shape[1:] if batch else spec.shape
    dims = ", ".join("-1" if size is None else str(size) for size in shape)
    word = datatype(spec.name, spec.dtype)
    return [f"name: {json.dumps(spec.name)}", f"data_type: TYPE_{word}", f"dims: [ {dims} ]"]


def _parameters(backend: _Backend, batch: int) -> dict[str, str]:
    if backend.word != "openvino":
        return {}
    return {"PERFORMANCE_HINT": "LATENCY"} | ({"ENABLE_BATCH_PADDING": "YES"} if batch else {})


def _notes(artifact: Artifact, backend: _Backend, batch: int) -> tuple[str, ...]:
    said = []
    if backend.word == "openvino":
        said.append("Triton's OpenVINO backend sets no float32 execution: where the CPU has AVX512-BF16 or AMX, float "
                    "layers are computed in bfloat16; `--for ovms` sets it")  # fmt: skip
        if batch:
            said.append(f"that backend runs every request padded to {batch} photos")
    if stamp := _stamp(artifact):
        newer = " or newer" if stamp.version_compatible else ""
        said.append(f"the engine loads only in a Triton with {stamp.library} {stamp.engine_version}{newer}, on compute "
                    f"capability {', '.join(stamp.compute_capabilities)}")  # fmt: skip
    if stamp and stamp.version_compatible:
        said.append("a version-compatible engine holds code that Triton runs: serve none that you do not trust")
    return tuple(said)
