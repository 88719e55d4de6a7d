"""A foreign ONNX file as it is, on ONNX Runtime with nothing optimized: what every export of it is held against."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort

from ..errors import BadInput, first_line


def unoptimized(model: onnx.ModelProto) -> ort.InferenceSession:
    """A session in which each node is computed as ONNX defines it; raises what ONNX Runtime raises."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


class Original:
    """Answers images batch by batch.

    Args:
        batch: the only number of rows that it takes; None for any.

    Raises:
        BadInput: ONNX Runtime does not open it: says why.
    """

    def __init__(self, model: onnx.ModelProto, name: str, batch: int | None = None) -> None:
        self._name, self.batch = name, batch
        try:
            self._session = unoptimized(model)
        except Exception as error:  # of C++
            raise BadInput(f"{name}: ONNX Runtime cannot open it ({first_line(error)})",
                           "a valid ONNX model of an opset that it knows", "export it again") from error  # fmt: skip

    def outputs(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """All outputs for one run.

        Raises:
            BadInput: it fails on them.
        """
        names = [each.name for each in self._session.get_outputs()]
        try:
            found = self._session.run(names, {self._session.get_inputs()[0].name: images})
        except Exception as error:
            what = f"{self._name}: fails on images {images.dtype}{images.shape} ({first_line(error)})"
            raise BadInput(what, "a network that runs", "give the --size that it was made for") from error
        return dict(zip(names, found, strict=True))

    def answers(self, images: np.ndarray, output: str) -> np.ndarray:
        """One output, flattened to `(N, …)`; images are fed as many at a time as it takes, the last padded."""
        size = self.batch or 16
        rows = []
        for start in range(0, len(images), size):
            part = images[start : start + size]
            short = size - len(part) if self.batch else 0
            fed = np.concatenate([part, part[-1:].repeat(short, axis=0)]) if short else part
            rows.append(self.outputs(fed)[output].reshape(len(fed), -1)[: len(part)])
        return np.concatenate(rows)
