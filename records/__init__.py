"""What was measured, and the statistics over it. Pure: numpy, and scipy where a function needs it."""

from .estimate import Estimate, Verdict
from .predictions import Predictions
from .record import Record, Subject, load_record, schema_path
from .rounds import Rounds, Stages

__all__ = [
    "Estimate",
    "Predictions",
    "Record",
    "Rounds",
    "Stages",
    "Subject",
    "Verdict",
    "load_record",
    "schema_path",
]
