"""What anyone may have written in JSON, as the types that it has to be of."""

from __future__ import annotations

import dataclasses
import functools
import json
import reprlib
from collections.abc import Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints


def parse_json(text: str | bytes) -> Any:
    """JSON in which no name stands twice: Python takes the last value of two, and who reads the file sees the first.

    Raises:
        ValueError, RecursionError: it is no such JSON.
    """
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{reprlib.repr(next(name for name in names if names.count(name) > 1))} stands twice")
    return found


def read_as_type(raw: Any, kind: Any, where: str) -> Any:
    """JSON as the type that an annotation names, strictly: a list is a tuple, an object a mapping or a dataclass.

    Raises:
        TypeError, ValueError, BadInput: it is not of that type, or its value is refused.
    """
    origin, inside = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):  # here, of something and None
        return None if raw is None else read_as_type(raw, inside[0], where)
    if origin is tuple and isinstance(raw, list):
        kinds = inside[:1] * len(raw) if inside[-1] is ... else inside
        if len(raw) == len(kinds):
            return tuple(read_as_type(each, own, where) for each, own in zip(raw, kinds, strict=True))
    if origin is Mapping and isinstance(raw, dict):
        return {name: read_as_type(each, inside[1], where) for name, each in raw.items()}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(raw, dict):
        hints = _hints(kind)
        return kind(**{name: read_as_type(each, hints.get(name, Any), name) for name, each in raw.items()})
    if kind is Any or type(raw) is kind or (kind is float and type(raw) is int):
        return raw
    raise TypeError(f"{where} {reprlib.repr(raw)}")


_hints = functools.cache(get_type_hints)
