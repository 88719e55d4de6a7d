"""What is run. An artifact is a model's file set with an immutable manifest."""

from .manifest import ModelFile, Preprocess, Producer, RunConfig, TensorSpec
from .store import Artifact

__all__ = ["Artifact", "ModelFile", "Preprocess", "Producer", "RunConfig", "TensorSpec"]
