"""Tensors of the Open Inference Protocol v2 (KServe, Triton): JSON, and the binary tensor data extension.

Source: the protocol's specification `inference_rest.md`, and Triton's extensions `extension_binary_data.md` and
`extension_classification.md`.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from ...artifact import TensorSpec
from ...errors import BadInput
from ..datatypes import datatype

LENGTH_HEADER = "Inference-Header-Content-Length"
_MOST_SIZE = 2**63 - 1  # of an axis: the protocol's are int64
_SURROGATES = re.compile("[\ud800-\udfff]")  # what JSON may hold and UTF-8 may not


@dataclass(frozen=True)
class Wanted:
    """One output that a request asked for.

    Args:
        binary: as raw little-endian bytes after the JSON.
        classes: as the best so many classes, "score:index:label"; 0 gives the tensor.
    """

    name: str
    binary: bool = False
    classes: int = 0


@dataclass(frozen=True)
class InferRequest:
    """A request's tensors, checked against the manifest but for their batch."""

    id: str | None
    feeds: dict[str, np.ndarray]
    wanted: tuple[Wanted, ...]


def tensor_json(spec: TensorSpec) -> dict[str, Any]:
    """A tensor in a model's metadata.

    Raises:
        BadInput: the protocol has no word for its dtype.
    """
    shape = [-1 if size is None else size for size in spec.shape]
    return {"name": spec.name, "datatype": datatype(spec.name, spec.dtype), "shape": shape}


def parse_request(
    body: bytes, json_size: int | None, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], most_rows: int
) -> InferRequest:
    """Bytes → feeds.

    Args:
        json_size: bytes of JSON at the body's start, where raw tensors follow; None where all is JSON.
        most_rows: of the batch.

    Raises:
        BadInput: not JSON, a tensor is missing, unknown, of another dtype or shape, or its data do not fit.
    """
    if json_size is not None and not 0 <= json_size <= len(body):
        raise BadInput(f"{LENGTH_HEADER} {json_size} of a body of {len(body)} bytes", "the size of the JSON part")
    raw = _json(body if json_size is None else body[:json_size])
    rest = memoryview(b"" if json_size is None else body[json_size:])
    specs = {spec.name: spec for spec in inputs}
    feeds: dict[str, np.ndarray] = {}
    for entry in _entries(raw, "inputs"):
        spec = specs.get(str(entry.get("name")))
        if spec is None or spec.name in feeds:
            raise BadInput(f"input {entry.get('name')!r}", f"each of {', '.join(specs)} once")
        feeds[spec.name], rest = _tensor(entry, spec, rest, most_rows)
    if missing := [name for name in specs if name not in feeds]:
        raise BadInput(f"no input {', '.join(missing)}", f"each of {', '.join(specs)} once")
    if len(rest):
        raise BadInput(f"{len(rest)} bytes after the last tensor", "a body that ends with it")
    return InferRequest(_id(raw), feeds, _wanted(raw, [spec.name for spec in outputs]))


def _json(text: bytes) -> dict[str, Any]:
    try:
        raw = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"the request is not JSON ({error})", "JSON of the Open Inference Protocol") from error
    if not isinstance(raw, dict):
        raise BadInput("the request is no JSON object", '{"inputs": […]}')
    return raw


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _id(raw: Mapping[str, Any]) -> str | None:
    found = raw.get("id")
    if found is not None and (not isinstance(found, str) or _SURROGATES.search(found)):
        raise BadInput(f"id {found!r}", "a string of Unicode")
    return found


def _entries(raw: Mapping[str, Any], what: str) -> list[dict[str, Any]]:
    found = raw.get(what)
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise BadInput(f"{what} are missing or no list of objects", f'"{what}": [{{"name": …}}]')
    return found


def _parameters(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    found = entry.get("parameters") or {}
    if not isinstance(found, dict):
        raise BadInput(f"parameters {found!r}", "an object")
    return found


def _tensor(
    entry: Mapping[str, Any], spec: TensorSpec, rest: memoryview, most_rows: int
) -> tuple[np.ndarray, memoryview]:
    """One input, and the bytes after it."""
    word, shape = datatype(spec.name, spec.dtype), entry.get("shape") or []
    if entry.get("datatype") != word:
        raise BadInput(f"{spec.name}: datatype {entry.get('datatype')!r}", word)
    whole = isinstance(shape, list) and all(type(size) is int and 0 < size <= _MOST_SIZE for size in shape)
    if not whole or len(shape) != len(spec.shape) or shape[0] > most_rows or any(
        wanted not in (None, size) for size, wanted in zip(shape[1:], spec.shape[1:], strict=True)
    ):  # fmt: skip
        raise BadInput(f"{spec.name}: shape {shape!r}", str(tensor_json(spec)["shape"]), f"a batch of 1 to {most_rows}")
    dtype, count = np.dtype(spec.dtype).newbyteorder("<"), math.prod(shape)
    size = _parameters(entry).get("binary_data_size")
    if size is None:
        return _from_list(entry.get("data"), spec, count).reshape(shape), rest
    if type(size) is not int or size != count * dtype.itemsize or size > len(rest):
        raise BadInput(f"{spec.name}: binary_data_size {size!r}, {len(rest)} bytes at hand",
                       f"{count * dtype.itemsize} bytes for shape {shape}")  # fmt: skip
    return _numbers(np.frombuffer(rest[:size], dtype).reshape(shape), spec), rest[size:]


def _from_list(data: Any, spec: TensorSpec, count: int) -> np.ndarray:
    """Nested or flat, row after row."""
    dtype = np.dtype(spec.dtype)
    try:
        found = np.asarray(data)
    except (ValueError, OverflowError) as error:  # ragged
        raise BadInput(f"{spec.name}: data {error}", f"{count} numbers") from error
    if found.size != count or found.dtype.kind not in ("biu" if dtype.kind in "iub" else "biuf"):
        raise BadInput(f"{spec.name}: data of {found.size} values of type {found.dtype}",
                       f"{count} numbers of {datatype(spec.name, spec.dtype)}")  # fmt: skip
    if dtype.kind in "iu":
        about = np.iinfo(dtype)
        if int(found.min()) < about.min or int(found.max()) > about.max:
            raise BadInput(f"{spec.name}: values from {found.min()} to {found.max()}", f"{about.min} to {about.max}")
    with np.errstate(over="ignore"):
        return _numbers(found.astype(dtype), spec)


def _numbers(found: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """In a joined run one request's NaN must not become another's refusal."""
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        raise BadInput(f"{spec.name} holds NaN or infinity", "numbers")
    return found


def _wanted(raw: Mapping[str, Any], names: Sequence[str]) -> tuple[Wanted, ...]:
    binary = bool(_parameters(raw).get("binary_data_output"))
    if raw.get("outputs") is None:
        return tuple(Wanted(name, binary) for name in names)
    found: dict[str, Wanted] = {}
    for entry in _entries(raw, "outputs"):
        asked, name = _parameters(entry), entry.get("name")
        classes = asked.get("classification", 0)
        if not isinstance(name, str) or name not in names or type(classes) is not int or classes < 0:
            raise BadInput(f"output {name!r}, classification {classes!r}", f"one of {', '.join(names)}")
        if name in found:
            raise BadInput(f"output {name!r} twice", f"each of {', '.join(names)} once")
        found[name] = Wanted(name, bool(asked.get("binary_data", binary)), classes)
    return tuple(found.values())


def format_response(
    head: Mapping[str, Any], wanted: Sequence[Wanted], outputs: Mapping[str, np.ndarray], labels: Sequence[str]
) -> tuple[bytes, int | None]:
    """Outputs → bytes.

    Args:
        head: the response's other fields.
        outputs: finite: JSON has no words for what is not.
        labels: names of the classes, for the classification extension.

    Returns:
        The body, and the size of its JSON part; None where all is JSON.
    """
    described, raw = [], []
    for each in wanted:
        array = _classified(outputs[each.name], each.classes, labels) if each.classes else outputs[each.name]
        about: dict[str, Any] = {"name": each.name, "datatype": _word(each.name, array), "shape": list(array.shape)}
        if each.binary:
            data = _bytes(array)
            raw.append(data)
            about["parameters"] = {"binary_data_size": len(data)}
        else:
            about["data"] = array.ravel().tolist()
        described.append(about)
    text = json.dumps({**head, "outputs": described}, ensure_ascii=False, allow_nan=False).encode()
    return b"".join([text, *raw]), len(text) if raw else None


def _word(name: str, array: np.ndarray) -> str:
    return "BYTES" if array.dtype == object else datatype(name, array.dtype.name)


def _bytes(array: np.ndarray) -> bytes:
    """Raw little-endian; strings each after its length in four bytes."""
    if array.dtype != object:
        return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    words = [word.encode() for word in array.ravel()]
    return b"".join(struct.pack("<I", len(word)) + word for word in words)


def _classified(scores: np.ndarray, count: int, labels: Sequence[str]) -> np.ndarray:
    """The best classes of each row as "score:index:label"."""
    best = np.argsort(-scores, axis=-1, kind="stable")[:, :count]
    rows = [[f"{row[i]:f}:{i}" + (f":{labels[i]}" if labels else "") for i in order]
            for row, order in zip(scores, best, strict=True)]  # fmt: skip
    return np.array(rows, object)
