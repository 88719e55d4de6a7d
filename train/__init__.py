"""Networks and trained checkpoints."""

from .checkpoint import DEFAULT_CHECKPOINT, Checkpoint, load_checkpoint

__all__ = ["DEFAULT_CHECKPOINT", "Checkpoint", "load_checkpoint"]
