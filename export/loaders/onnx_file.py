"""`FILE.onnx` from elsewhere: weights beside it are read in, its ends are exchanged for ours (`export.adopt`)."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx.external_data_helper import uses_external_data

from ...artifact.files import sha256_file
from ...errors import BadInput
from ..onnx_source import read_onnx, require_below_limit
from .source import Source
from .told import Told

KIND = "ONNX"


def claims(text: str) -> bool:
    """By its ending."""
    return text.endswith(".onnx")


def load(text: str, told: Told) -> Source:
    """Raises BadInput for no ONNX model, 2 GB or more with what lies beside it, or what `adopt` refuses."""
    from ..adopt import Foreign, adopt

    path = Path(text)
    if not path.is_file():
        raise BadInput(f"{text}: no such file", "an .onnx file")
    notes = _beside(path)
    return adopt(Foreign(read_onnx(path), text, KIND, path.stem, sha256_file(path), notes=notes), told)


def _beside(path: Path) -> tuple[str, ...]:
    """Raises BadInput where model and weights beside it are too large for one file, or the weights are missing."""
    require_below_limit(path.stat().st_size, path)
    try:
        skeleton = onnx.load(path, load_external_data=False)
    except Exception:  # said by who reads it whole
        return ()
    names = {entry.value for tensor in skeleton.graph.initializer if uses_external_data(tensor)
             for entry in tensor.external_data if entry.key == "location"}  # fmt: skip
    files = [path.parent / name for name in sorted(names)]
    lost = [each for each in files if not each.is_file()]
    if lost:
        raise BadInput(f"{path}: its weights are in {lost[0].name}, which is not beside it", "both files together",
                       "copy it there too")  # fmt: skip
    require_below_limit(path.stat().st_size + sum(each.stat().st_size for each in files), path)
    return (f"weights beside it ({', '.join(sorted(names))}) are kept inside",) if names else ()
