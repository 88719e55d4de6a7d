"""A model for OpenVINO Model Server: NAME/1/model files, and config.json of the whole repository.

Sources: its documentation, «Preparing a Model Repository», «Starting the Server», «Parameters».
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from ..artifact import Artifact
from ..artifact.files import replace_files
from ..errors import BadInput
from .beside import require_classifier
from .engines import obstacle
from .folder import described_folder
from .repository import VERSION, Written, model_name, put_beside, put_model

_CONFIG = "config.json"
_PRECISION_HINT = "f32"  # without it float32 models are computed in bfloat16 where the CPU has it


def write_ovms(artifact: Artifact, out: Path, name: str | None = None) -> Written:
    """Write OUT/NAME, then OUT/config.json with this model's entry in it, each whole or not at all.

    Args:
        out: the repository, mounted as /models.

    Raises:
        BadInput: OpenVINO does not read it, or OUT/NAME or OUT/config.json holds something else.
    """
    require_classifier(artifact)
    files = ovms_files(artifact)
    called = model_name(artifact, name)
    entries = _entries(out / _CONFIG)
    with described_folder(out / called) as draft:
        put_model(artifact, draft / VERSION, files)
        put_beside(artifact, draft)
    config = {"name": called, "base_path": f"/models/{called}", "plugin_config": plugin_config()}
    kept = [entry for entry in entries if entry["config"].get("name") != called]
    text = json.dumps({"model_config_list": [*kept, {"config": config}]}, indent=1) + "\n"
    _replace(out / _CONFIG, text)
    mount = shlex.quote(f"{out.resolve()}:/models:ro")
    start = (f"docker run --rm -u $(id -u) -p 9000:9000 -p 8000:8000 -v {mount} "
             f"openvino/model_server:latest --config_path /models/{_CONFIG} --port 9000 --rest_port 8000")  # fmt: skip
    return Written(out / called, start)


def plugin_config() -> dict[str, str]:
    """Properties of OpenVINO's CPU plugin."""
    return {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _PRECISION_HINT}


def ovms_files(artifact: Artifact) -> dict[str, str]:
    """Files of the artifact, under their own names.

    Raises:
        BadInput: OpenVINO does not read it rightly.
    """
    if why := obstacle(artifact.manifest, "openvino"):
        raise BadInput(f"{artifact.folder} for OpenVINO Model Server: {why}", "an IR or an ONNX model for CPUs",
                       "start from what `tiffin export` or `tiffin quantize` wrote")  # fmt: skip
    return {file.name: file.name for file in artifact.manifest.files}


def _entries(path: Path) -> list[dict[str, Any]]:
    """The models that a repository's config.json lists; none where there is no such file.

    Raises:
        BadInput: it is another config.json.
    """
    if not path.exists():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["model_config_list"]
        if not all(isinstance(entry["config"], dict) for entry in entries):
            raise TypeError("config")
        return list(entries)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is no configuration of OpenVINO Model Server", "model_config_list in it, or no file",
                       "choose another --out") from error  # fmt: skip


def _replace(path: Path, text: str) -> None:
    try:
        replace_files({path: text.encode()})
    except OSError as error:
        raise BadInput(f"cannot write {path} ({error.strerror})", "room and permission to write",
                       "choose another --out") from error  # fmt: skip
