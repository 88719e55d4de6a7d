"""Tiffin: trained classifier in, the fastest artifact that is provably as accurate out.

    import tiffin
    session = tiffin.load("out/model")            # an artifact's folder
    logits = session.run({"photos": photos})["logits"]

Importing this package loads nothing heavy; `load` and `Artifact` are handed on when first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .artifact.store import Artifact
    from .runtime import load

__version__ = "0.1.0"
__all__ = ["Artifact", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name == "load":
        from .runtime import load

        return load
    if name == "Artifact":
        from .artifact.store import Artifact

        return Artifact
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
