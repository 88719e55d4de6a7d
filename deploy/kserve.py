"""A model for KServe: what is uploaded to storage, in the layout of the runtime that serves it, and the resource.

Sources: KServe's documentation («ONNX», «Triton») and its ClusterServingRuntimes: kserve-tritonserver serves a Triton
repository from /mnt/models, kserve-openvino one model's version folders.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from ..artifact import Artifact
from ..errors import BadInput
from .beside import require_classifier
from .folder import described_folder
from .ovms import ovms_files, plugin_config
from .repository import VERSION, Written, model_name, put_beside, put_model
from .triton import server_arguments, triton_backend, write_triton

_DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_RESOURCE = "inferenceservice.yaml"
STORAGE = "storage"


@dataclass(frozen=True)
class _Runtime:
    """One of KServe's: its name, and the model format that it serves."""

    name: str
    format: str
    version: str


_RUNTIMES = {
    "onnx": _Runtime("kserve-tritonserver", "onnx", "1"),
    "tensorrt": _Runtime("kserve-tritonserver", "triton", "2"),  # of "tensorrt" it names version 8 alone
    "openvino": _Runtime("kserve-openvino", "openvino", "10"),
}


def write_kserve(
    artifact: Artifact, out: Path, name: str | None = None, storage_uri: str | None = None, max_batch: int | None = None
) -> Written:
    """Write OUT, whole or not at all: inferenceservice.yaml, storage/ to upload, labels and preprocessing.

    Args:
        storage_uri: where storage/ will be uploaded to; None writes a claim's path to be replaced.
        max_batch: as `write_triton` has it, where Triton serves.

    Raises:
        BadInput: no runtime of KServe's serves it, the name is no DNS label, or `out` holds something else.
    """
    require_classifier(artifact)
    runtime = _runtime(artifact)
    called = _dns_label(model_name(artifact, name))
    notes: tuple[str, ...] = ()
    with described_folder(out) as draft:
        if artifact.manifest.format == "openvino":
            put_model(artifact, draft / STORAGE / VERSION, ovms_files(artifact))
            arguments: tuple[str, ...] = (f"--plugin_config={json.dumps(plugin_config())}",)
        else:
            arguments = server_arguments(artifact)
            notes = write_triton(artifact, draft / STORAGE, called, max_batch).notes
        uri = storage_uri or f"pvc://models/{called}"
        (draft / _RESOURCE).write_text(resource(called, runtime, uri, arguments))
        put_beside(artifact, draft)
    place = shlex.quote(str(out / _RESOURCE))
    return Written(out, f"kubectl apply -f {place}", (*notes, *_notes(runtime, storage_uri)))


def _runtime(artifact: Artifact) -> _Runtime:
    if artifact.manifest.format == "openvino":
        ovms_files(artifact)
    else:
        triton_backend(artifact)
    return _RUNTIMES[artifact.manifest.format]


def _dns_label(name: str) -> str:
    if not _DNS_LABEL.fullmatch(name):
        raise BadInput(f"name {name!r} of an InferenceService", "at most 63 of a–z, 0–9 and '-', a letter first",
                       "choose one with --name")  # fmt: skip
    return name


def resource(name: str, runtime: _Runtime, storage_uri: str, arguments: tuple[str, ...]) -> str:
    """The InferenceService as YAML; the arguments are its server's."""
    gpu = '          nvidia.com/gpu: "1"\n' if runtime.format == "triton" else ""
    return (
        "apiVersion: serving.kserve.io/v1beta1\n"
        "kind: InferenceService\n"
        "metadata:\n"
        f"  name: {json.dumps(name)}\n"
        "spec:\n"
        "  predictor:\n"
        "    model:\n"
        "      modelFormat:\n"
        f"        name: {runtime.format}\n"
        f"        version: {json.dumps(runtime.version)}\n"
        f"      runtime: {runtime.name}\n"
        "      protocolVersion: v2\n"
        f"      storageUri: {json.dumps(storage_uri)}\n"
        f"      args: {json.dumps(arguments)}\n"
        "      resources:\n"
        "        requests:\n"
        '          cpu: "1"\n'
        "          memory: 1Gi\n"
        "        limits:\n"
        '          cpu: "2"\n'
        "          memory: 2Gi\n"
        f"{gpu}"
    )


def _notes(runtime: _Runtime, storage_uri: str | None) -> tuple[str, ...]:
    said = [f"KServe serves it with its runtime {runtime.name}; see that yours has it: "
            "kubectl get clusterservingruntimes"]  # fmt: skip
    if storage_uri is None:
        said.append(f"upload {STORAGE}/ and write its place into {_RESOURCE} (storageUri), or pass --storage-uri")
    return tuple(said)
