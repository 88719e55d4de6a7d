"""`package.module:name`: something in the user's own code."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from ...errors import BadInput


def named(text: str, expected: str) -> Any:
    """What the words name; the current directory is looked in first, as `python -m` does.

    Args:
        text: `package.module:name`, or `…:name.attribute`.
        expected: what it should be, for the error.

    Raises:
        BadInput: it is not written so, the module cannot be imported, or has no such name.
    """
    module, _, words = text.partition(":")
    if not (module and words):
        raise BadInput(f"{text!r}", f"package.module:name, {expected}")
    found = _imported(module)
    for word in words.split("."):
        if not hasattr(found, word):
            raise BadInput(f"{text}: {module} has no {words}", expected)
        found = getattr(found, word)
    return found


def _imported(module: str) -> Any:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        importlib.invalidate_caches()
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:  # the user's own code
        raise BadInput(f"{module} cannot be imported: {type(error).__name__}: {error}",
                       "a module on the Python path or in the current directory") from error  # fmt: skip
    finally:
        sys.path.remove(here)
