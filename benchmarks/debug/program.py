"""A torch program's points, and its run by an interpreter that keeps what is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .point import Arrays, Point, plain_name

if TYPE_CHECKING:
    import torch

    from ...artifact import Artifact

_FOLDED = "batch_norm"  # into the convolution before it, by every exporter


class Program:
    """A `.pt2` file, opened to be looked into."""

    def __init__(self, artifact: Artifact) -> None:
        import torch

        from ...machine import usable_cores

        torch.set_num_threads(usable_cores())
        self._module = torch.export.load(artifact.model_path).module()
        self._inputs = [spec.name for spec in artifact.manifest.inputs]
        self._outputs = [spec.name for spec in artifact.manifest.outputs]
        last = next(node for node in self._module.graph.nodes if node.op == "output")
        answers = last.args[0] if isinstance(last.args[0], (tuple, list)) else (last.args[0],)
        self._public = {node.name: name for node, name in zip(answers, self._outputs, strict=True)}

    def points(self) -> tuple[Point, ...]:
        """Computed float tensors in the program's order; a convolution and the batch norm behind it are one."""
        return tuple(self._point(node) for node in self._module.graph.nodes if _is_point(node))

    def _point(self, node: Any) -> Point:
        layer = node.args[0] if _word(node) == _FOLDED else node
        word = _word(layer) if layer is node or _word(layer).startswith("conv") else _word(node)
        shape = tuple(size if isinstance(size, int) else None for size in node.meta["val"].shape[1:])
        name = self._public.get(node.name, node.name)
        return Point(name, layer.name, word, node.name, shape, _weight(layer),
                     node.name in self._public)  # fmt: skip

    def run(self, points: Sequence[Point], feeds: Mapping[str, np.ndarray]) -> Arrays:
        """These tensors by tap, and the outputs by name, all as numpy arrays."""
        import torch

        kept: dict[str, Any] = {point.tap: None for point in points} | dict.fromkeys(self._public)

        class Kept(torch.fx.Interpreter):
            def run_node(self, n: torch.fx.Node) -> Any:
                found = super().run_node(n)
                if n.name in kept:
                    kept[n.name] = found
                return found

        arrays = [np.require(feeds[name], requirements=["C", "W"]) for name in self._inputs]
        with torch.inference_mode():
            Kept(self._module).run(*(torch.from_numpy(array) for array in arrays))
        found = {name: value.float().numpy() for name, value in kept.items()}
        return found | {public: found[name] for name, public in self._public.items()}


def _word(node: Any) -> str:
    """`conv2d` of `aten.conv2d.default`."""
    return str(node.target).split(".")[1] if str(node.target).startswith("aten.") else str(node.target)


def _is_point(node: Any) -> bool:
    value = node.meta.get("val")
    if node.op != "call_function" or not hasattr(value, "is_floating_point") or not value.is_floating_point():
        return False
    return not (len(node.users) == 1 and _word(next(iter(node.users))) == _FOLDED)


def _weight(node: Any) -> str:
    held: Any = node.args[1] if len(node.args) > 1 else None
    return plain_name(str(held.target)) if getattr(held, "op", "") == "get_attr" else ""
