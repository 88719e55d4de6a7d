"""How far a subject's answers are from a reference's, in more than the first label."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from ..errors import BadInput
from .estimate import Estimate
from .predictions import Predictions


def divergence(subject: Predictions, reference: Predictions, confidence: float = 0.95) -> Estimate:
    """Mean Kullback-Leibler divergence of the subject's softmax from the reference's, nats a photo.

    It tells apart artifacts that flip equally few photos: each photo counts, not those near a boundary alone.

    Raises:
        BadInput: other photos, none, or no logits (records of schema 1).
    """
    if subject.photos != reference.photos or len(subject) == 0:
        raise BadInput("two subjects that answered different photos, or none", "the same photos in the same order")
    if subject.logits is None or reference.logits is None:
        raise BadInput("a divergence without logits", "a record with all logits", "score again")
    found = by_photo(subject.logits, reference.logits)
    mean, n = float(found.mean()), len(found)
    half = NormalDist().inv_cdf((1 + confidence) / 2) * float(found.std(ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    return Estimate(mean, max(0.0, mean - half), mean + half, confidence, n, "mean, normal")


def by_photo(logits: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """KL(softmax wanted ‖ softmax logits) of each row, nats, float64 `(N,)`; both `(N, classes)`."""
    ours, theirs = log_softmax(logits), log_softmax(wanted)
    return np.maximum((np.exp(theirs) * (theirs - ours)).sum(1), 0.0)  # below 0 by rounding alone


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Of each row, float64 `(N, classes)`."""
    shifted = np.asarray(logits, np.float64) - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def same_photos(reference: Predictions, subject: Predictions) -> Predictions:
    """The reference's answers to the photos that the subject has answered, in their order.

    Raises:
        BadInput: the reference lacks one of them, or kept no logits.
    """
    if reference.photos == subject.photos:
        return reference
    place = {photo: row for row, photo in enumerate(reference.photos)}
    if reference.logits is None or not set(subject.photos) <= set(place):
        raise BadInput("a reference that has not answered all of a subject's photos", "one that has, with logits")
    return reference.rows([place[photo] for photo in subject.photos])
