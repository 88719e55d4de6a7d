"""What a pre-flight looks for and says: the target of a build, one finding, one fix that was applied."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from ...artifact.engine_stamp import LIBRARIES
from ...errors import BadInput

SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True)
class Target:
    """What an engine will be built for.

    Args:
        backend: "tensorrt" or "tensorrt_rtx".
        capabilities: compute capabilities such as "7.5"; empty where unknown: then no GPU's limits are checked.
    """

    backend: str = "tensorrt_rtx"
    capabilities: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.backend not in LIBRARIES:
            raise BadInput(f"no pre-flight for backend {self.backend!r}", f"one of {', '.join(LIBRARIES)}")
        for word in self.capabilities:
            major, _, minor = word.partition(".")
            if not (major.isdecimal() and minor.isdecimal()):
                raise BadInput(f"compute capability {word!r}", "a capability such as 8.9")

    def below(self, least: tuple[int, int]) -> tuple[str, ...]:
        """Those of its capabilities that are older than `least`, (major, minor)."""
        numbers = {word: tuple(map(int, word.split("."))) for word in self.capabilities}
        return tuple(word for word, number in numbers.items() if number < least)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or could be better, at one node.

    Args:
        check: the check's word, a key of `preflight.HEADINGS`.
        severity: "error" (refused, or built and silently wrong), "warning" (right, but slower or larger than it could
            be) or "info".
        node: the ONNX node's name and operator.
        what: one line.
        fix: one line: what to do.
        fixed_by: word of the graph pass that does it for this node (`preflight.FIXES`); empty without one.
    """

    check: str
    severity: str
    node: str
    what: str
    fix: str
    fixed_by: str = ""


@dataclass(frozen=True)
class Applied:
    """What one graph pass changed.

    Args:
        fix: the pass's word.
        nodes: names of the nodes that it changed or removed.
        answers: "same" (bit for bit where it is computed in the same order), "float rounding" or "changed".
    """

    fix: str
    nodes: tuple[str, ...]
    answers: str


def named(node: onnx.NodeProto) -> str:
    """Such as `Conv_4 (Conv)`; a node without a name by its first output."""
    return f"{node.name or 'unnamed, gives ' + ', '.join(node.output)} ({node.op_type})"
