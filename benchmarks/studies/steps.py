"""One step of a long study in a process of its own, with a time limit; why it did not end well, if it did not."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys

SECONDS_TO_STOP = 30.0


def run_step(script: str, words: list[str], limit_s: float) -> str:
    """Why the step failed, or an empty string.

    It is interrupted before it is killed: so it stops the workers that it started.

    Args:
        script: the study's file.
        words: what it is called with.
    """
    with subprocess.Popen([sys.executable, script, *words], stderr=subprocess.PIPE, text=True) as started:
        try:
            _, said = started.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            started.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.communicate(timeout=SECONDS_TO_STOP)
            started.kill()
            return f"not done in {limit_s:.0f} s"
    return _why(said) or f"exit {started.returncode}" if started.returncode else ""


def _why(said: str) -> str:
    """The first line of the error that a traceback ends with."""
    lines = [line for line in said.splitlines() if line.strip() and not line[0].isspace()]
    return lines[-1].removeprefix("tiffin.errors.") if lines else ""
