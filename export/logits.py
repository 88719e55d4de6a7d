"""What an artifact answers to prepared photos, in this process."""

from __future__ import annotations

import numpy as np

from ..artifact import Artifact, RunConfig
from ..runtime.session import Session

_BATCH = 16


def engine_logits(artifact: Artifact, run: RunConfig, photos: np.ndarray) -> np.ndarray:
    """Answers on an engine: uint8 `(N, H, W, 3)` → float32 `(N, classes)`.

    Raises:
        EngineMissing, EngineFailed: as the backend says.
    """
    name, output = artifact.manifest.inputs[0].name, artifact.manifest.outputs[0].name
    batches = (np.ascontiguousarray(photos[start : start + _BATCH]) for start in range(0, len(photos), _BATCH))
    with Session(artifact, run) as session:
        return np.concatenate([session.run({name: batch})[output] for batch in batches])
