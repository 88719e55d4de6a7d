"""What an engine has optimized or compiled of a model, kept between processes: the next start takes none of it.

One file: a line that says what it is and the content's CRC-32, then the content. A file that says anything else, was
cut or has another sum is made again. What is kept belongs to one CPU: the key holds all that it depends on.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Sequence
from pathlib import Path

from ... import machine
from ...artifact.files import replace_files


class KeptModel:
    """Where what an engine made of an artifact lies.

    Args:
        folder: of the cache; made where there is none.
        engine: its name, the file's first word.
        about: all that decides the content besides the CPU: the artifact's digest, the engine's version, its options.
    """

    def __init__(self, folder: str, engine: str, about: Sequence[object]) -> None:
        key = json.dumps([engine, *about, machine.cpu_model(), sorted(machine.cpu_flags())])
        self._key = hashlib.sha256(key.encode()).hexdigest()
        self.path = Path(folder) / f"{engine}-{self._key[:32]}.kept"

    def read(self) -> bytes | None:
        """The content, or None where there is none, or not the one that was written."""
        try:
            head, _, content = self.path.read_bytes().partition(b"\n")
        except OSError:
            return None
        return content if head == self._head(content) else None

    def folder(self) -> Path:
        """Where it lies, made if it is not there.

        Raises:
            OSError: it cannot be made.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self.path.parent

    def write(self, content: bytes) -> None:
        """Keep it.

        Raises:
            OSError: the folder cannot be written.
        """
        self.folder()
        replace_files({self.path: self._head(content) + b"\n" + content})

    def _head(self, content: bytes) -> bytes:
        return f"tiffin {self._key} {zlib.crc32(content):08x}".encode()
