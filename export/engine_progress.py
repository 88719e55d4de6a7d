"""How far a build is: the builder's nested phases as one part of the whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

Tell = Callable[[dict[str, Any]], None]
_STEP = 0.005  # smaller changes are not told


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


def progress_monitor(trt: ModuleType, tell: Tell, go_on: Callable[[], bool]) -> Any:
    """An IProgressMonitor.

    Args:
        tell: called with `{"phase", "done"}`, where `done` is the part of the build that is finished and never shrinks.
        go_on: asked after each step; the builder cancels where it is False.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._open: dict[str, _Phase] = {}
            self._told = -1.0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._open[phase_name] = _Phase(parent_phase, max(1, num_steps))

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self._open:
                self._open[phase_name].done = step + 1
            done = min(1.0, self._part(phase_name))
            if done >= self._told + _STEP:
                self._told = done
                tell({"phase": phase_name, "done": done})
            return go_on()

        def phase_finish(self, phase_name: str) -> None:
            self._open.pop(phase_name, None)

        def _part(self, phase: str) -> float:
            """A phase's own part lies within the next step of the phase around it."""
            part, name = 0.0, phase
            while name in self._open:
                held = self._open[name]
                part, name = (held.done + part) / held.steps, held.parent or ""
            return part

    return Monitor()
