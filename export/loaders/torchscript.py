"""`FILE.pt`, TorchScript: traced again into ONNX, and from then on like an .onnx file."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import torch

from ...artifact.files import sha256_file
from ...errors import BadInput, first_line
from ..quiet import quiet
from .classifier import example
from .source import Source
from .state import is_torchscript
from .told import Told

KIND = "TorchScript"
_ENDINGS = (".pt", ".pth", ".ckpt", ".bin", ".torchscript")
_LOST = "TorchScript becomes ONNX: no .pt2, no torch backend and no training with it"


def claims(text: str) -> bool:
    """By its ending; what is no TorchScript is refused with the way there."""
    return text.endswith(_ENDINGS)


def load(text: str, told: Told) -> Source:
    """Raises BadInput for weights alone, what cannot be converted, or what `adopt` refuses."""
    from ..adopt import Foreign, adopt

    path = Path(text)
    if not path.is_file():
        raise BadInput(f"{text}: no such file", "a TorchScript file")
    if not is_torchscript(path):
        raise BadInput(f"{text}: weights without a network", "a TorchScript program, or weights and the code for them",
                       f"name the code too: package.module:factory --weights {text}")  # fmt: skip
    host = told.host({}, text)
    network = _network(path)
    model = _converted(network, text, example(host))

    def answers(images: np.ndarray, place: int) -> np.ndarray:
        with torch.inference_mode():
            found = [network(torch.from_numpy(image[None])) for image in images]
            return torch.cat([each if torch.is_tensor(each) else each[place] for each in found]).numpy()

    foreign = Foreign(model, text, KIND, path.stem, sha256_file(path), answers, (_LOST,))
    return adopt(foreign, told)


def _network(path: Path) -> torch.jit.ScriptModule:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.jit.load(path, map_location="cpu").float().eval()
    except Exception as error:  # of C++
        what = f"{path}: no TorchScript that this torch reads ({first_line(error)})"
        raise BadInput(what, "a whole file of torch.jit.save", "save it again, or as .onnx") from error


def _converted(network: torch.jit.ScriptModule, text: str, images: torch.Tensor) -> onnx.ModelProto:
    """For one image, by torch's older exporter: the newer one traces no TorchScript. `adopt` frees the batch."""
    from ..to_onnx import OPSET

    file = io.BytesIO()
    try:
        # Of a graph that it cannot convert it prints all on stdout, asked to be verbose or not (torch 2.13).
        silent = mock.patch.object(torch._C, "_jit_onnx_log")
        with quiet("torch.onnx"), silent, warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network, (images,), file, dynamo=False, opset_version=OPSET, input_names=["images"],
                output_names=["output"],
            )  # fmt: skip
    except Exception as error:  # torch.onnx has many
        named = "DictConstruct" in str(error)
        said = "it answers a dict, which ONNX has not" if named else first_line(error)
        raise BadInput(f"{text}: cannot be converted to ONNX: {said}", "a network of plain layers",
                       "save a module that answers that dict's logits alone" if named
                       else "export it to .onnx or .pt2 where its code is") from error  # fmt: skip
    made = onnx.load_model_from_string(file.getvalue())
    branches = sorted({node.op_type for node in made.graph.node} & {"If", "Loop"})
    if branches:
        raise BadInput(f"{text}: the script branches on values ({', '.join(branches)} in ONNX)",
                       "the same layers for every image: a batch would take one branch",
                       "trace it where its code is: torch.jit.trace(network, images) keeps one branch")  # fmt: skip
    return made
