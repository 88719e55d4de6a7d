"""Signing by minisign (https://jedisct1.github.io/minisign/) as it is installed; keys and passwords stay with it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from ...errors import BadInput


def signature_path(bundle: Path) -> Path:
    """Where the signature lies: beside the bundle."""
    return bundle.with_name(bundle.name + ".minisig")


def require_minisign() -> str:
    """Path of the program.

    Raises:
        BadInput: it is not installed.
    """
    found = shutil.which("minisign")
    if found is None:
        raise BadInput("minisign is not installed", "the program `minisign` on the path",
                       "install it (Debian: apt-get install minisign; macOS: brew install minisign)")  # fmt: skip
    return found


def sign(bundle: Path, key: Path) -> Path:
    """Sign a bundle; minisign asks for the key's password itself, on the terminal, where it has one.

    Raises:
        BadInput: no minisign, or it refuses.
    """
    target = signature_path(bundle)
    words = [require_minisign(), "-S", "-s", str(key), "-m", str(bundle), "-x", str(target)]
    ended = subprocess.run(words, stdout=subprocess.DEVNULL)  # it asks on stderr
    if ended.returncode:
        raise BadInput(f"minisign did not sign {bundle} with {key} (exit {ended.returncode})",
                       "a secret key of minisign and its password", "make one: minisign -G")  # fmt: skip
    return target


def is_signed_by(bundle: Path, public_key: str) -> tuple[bool, str]:
    """Does the signature beside a bundle hold?

    Args:
        public_key: its text in base64, or the path of a file that holds it.

    Returns:
        The answer, and minisign's words: the trusted comment where it holds, the reason where not.

    Raises:
        BadInput: no minisign.
    """
    which = ["-p", public_key] if Path(public_key).is_file() else ["-P", public_key]
    words = [require_minisign(), "-V", "-Q", "-m", str(bundle), "-x", str(signature_path(bundle)), *which]
    ended = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    return ended.returncode == 0, " ".join((ended.stdout + ended.stderr).split())
