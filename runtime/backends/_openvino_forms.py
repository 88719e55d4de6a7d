"""OpenVINO's compiled forms of one model: for one photo with every shape fixed, and for any batch.

A model of fixed shapes is made by the front end, before the graph is built: read first and reshaped then, each of
OpenVINO's nodes is inferred twice, 80 ms of a small network's start (2026.4.1, measured).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from io import BytesIO
from typing import Any

from ...artifact import Artifact, TensorSpec
from ...errors import EngineFailed
from ._kept import KeptModel


class Forms:
    """One model, compiled once for each kind of batch that comes; the lanes of a session share it.

    `fixed` names the input whose first axis tells one photo from more; None where there is one form for all.

    Args:
        kept: where the form for one photo lies between processes; None where the engine's own cache does that, or
            nothing is kept.
    """

    def __init__(
        self, core: Any, device: str, artifact: Artifact, config: Mapping[str, object], kept: KeptModel | None
    ) -> None:
        self._core, self._device, self._artifact, self._config = core, device, artifact, config
        self._kept = kept
        self._compiling = threading.Lock()
        self._any_batch: Any = None
        self.fixed: str | None = None
        self.why = "none: the model's shapes are its own"
        self.cache = ""  # what became of `kept`
        self.first = self._one_photo() or self.any_batch()

    def any_batch(self) -> Any:
        """The form for all batches, compiled when it is first asked for.

        Raises:
            EngineFailed: it cannot be compiled.
        """
        with self._compiling:
            if self._any_batch is None:
                self._any_batch = self._compile(str(self._artifact.model_path), self._config)
            return self._any_batch

    def _one_photo(self) -> Any:
        """The form for one photo; None where its shapes cannot be fixed."""
        free = [spec for spec in self._artifact.manifest.inputs if spec.shape[:1] == (None,)]
        if not free or any(None in spec.shape[1:] for spec in free):
            return None
        compiled = self._read_kept() or self._compile_one_photo(free)
        if compiled is not None:
            self.fixed, self.why = free[0].name, "one photo"
        return compiled

    def _read_kept(self) -> Any:
        content = self._kept.read() if self._kept else None
        if content is None:
            return None
        try:
            compiled = self._core.import_model(BytesIO(content), self._device, self._own_config())
        except Exception:  # a file of ours that this build does not take: it is made again
            return None
        self.cache = "read"
        return compiled

    def _compile_one_photo(self, free: list[TensorSpec]) -> Any:
        try:
            model = self._fixed_model(free)
        except Exception as error:  # openvino raises RuntimeError for everything
            self.why = f"none: {last_line(error)}"
            return None
        compiled = self._compile(model, self._own_config())
        if self._kept:
            self._keep(compiled, self._kept)
        return compiled

    def _fixed_model(self, free: list[TensorSpec]) -> Any:
        shapes = {spec.name: [1, *spec.shape[1:]] for spec in free}
        if self._artifact.manifest.format == "onnx":
            return _from_onnx(str(self._artifact.model_path), shapes)
        model = self._core.read_model(str(self._artifact.model_path))  # IR's front end takes no shapes
        model.reshape(shapes)
        return model

    def _keep(self, compiled: Any, kept: KeptModel) -> None:
        try:
            kept.write(compiled.export_model().getvalue())
            self.cache = "written"
        except OSError as error:  # a full disk or a read-only folder stops no answer
            self.cache = f"off: cannot be written ({error})"
            self._config = self._own_config()

    def _own_config(self) -> dict[str, object]:
        """Without the engine's cache where ours has the form."""
        return {name: value for name, value in self._config.items() if name != "CACHE_DIR" or self._kept is None}

    def _compile(self, model: Any, config: Mapping[str, object]) -> Any:
        try:
            return self._core.compile_model(model, self._device, config)
        except Exception as error:
            raise EngineFailed(
                f"openvino cannot load {self._artifact.model_path}: {last_line(error)}", "a model that it supports"
            ) from error


def _from_onnx(path: str, shapes: Mapping[str, list[int | None]]) -> Any:
    """A model whose inputs have these shapes from the start; KeyError where it has no such input."""
    from openvino import PartialShape
    from openvino.frontend import FrontEndManager

    frontend = FrontEndManager().load_by_framework("onnx")
    loaded = frontend.load(path)
    places = {name: place for place in loaded.get_inputs() for name in place.get_names()}
    for name, shape in shapes.items():
        loaded.set_partial_shape(places[name], PartialShape(shape))
    return frontend.convert(loaded)


def last_line(error: Exception) -> str:
    """Of the engine's words, which begin with its own source files."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1][:300]
