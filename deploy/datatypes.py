"""Words for dtypes: the Open Inference Protocol's, which are Triton's too after its "TYPE_"."""

from __future__ import annotations

from ..errors import BadInput

_WORDS = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "float16": "FP16", "float32": "FP32", "float64": "FP64",
}  # fmt: skip


def datatype(tensor: str, dtype: str) -> str:
    """A tensor's.

    Raises:
        BadInput: there is none that numpy has too, as of bfloat16.
    """
    if dtype not in _WORDS:
        raise BadInput(f"tensor {tensor!r} of {dtype}, which the Open Inference Protocol has no word for",
                       f"one of {', '.join(_WORDS)}", "export the model with inputs and outputs of these")  # fmt: skip
    return _WORDS[dtype]
