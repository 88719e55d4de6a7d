"""Floor 2: what was measured, and the statistics over it. Pure: numpy, and scipy where a function needs it."""

from .estimate import Estimate, Verdict
from .predictions import Predictions
from .record import Record, Subject
from .rounds import Rounds

__all__ = ["Estimate", "Predictions", "Record", "Rounds", "Subject", "Verdict"]
