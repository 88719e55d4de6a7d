"""Hypotheses about labels, had from the answers alone: shifted by one, named in another order, or mixed up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ...records import Predictions
from .hypothesis import Hypothesis, Suspect

KIND = "labels"
_FOLDS = 2


def hypotheses(suspect: Suspect) -> Iterator[Hypothesis]:
    """Answers read as other labels."""
    assert suspect.own.artifact is not None
    names, answers = suspect.own.artifact.manifest.labels, suspect.answers
    classes = len(names)
    ways = {f"labels shifted by {step:+d}": read_as(answers, (np.arange(classes) + step) % classes) for step in (1, -1)}
    if names != suspect.labels and sorted(names) == sorted(suspect.labels):
        places = {name: place for place, name in enumerate(suspect.labels)}
        order = np.array([places[name] for name in names])
        ways["labels in the order of the artifact's names"] = read_as(answers, order)
    ways["labels in the order that fits best"] = cross_matched(answers, classes)
    for words, found in ways.items():
        yield Hypothesis(KIND, words, suspect.name, suspect.own, answers=found)


def read_as(answers: Predictions, meaning: np.ndarray) -> Predictions:
    """Answers of which label k means `meaning[k]`."""
    return replace(answers, top=meaning[answers.top].astype(np.int32), logits=None)


def cross_matched(answers: Predictions, classes: int, seed: int = 0) -> Predictions:
    """Each half of the photos read by the order that fits the other half best, so that no photo chooses its label."""
    fold = np.random.default_rng(seed).permutation(len(answers)) % _FOLDS
    top = answers.top.copy()
    for part in range(_FOLDS):
        seen, read = fold != part, fold == part
        meaning = best_matching(answers.top[seen, 0], answers.truth[seen], classes)
        top[read] = meaning[answers.top[read]]
    return replace(answers, top=top.astype(np.int32), logits=None)


def best_matching(answered: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """For each label, the one that it likeliest means: the assignment with most photos right, int64 `(classes,)`.

    Where photos do not tell, a label keeps its meaning.
    """
    from scipy.optimize import linear_sum_assignment

    cells = np.zeros((classes, classes))
    np.add.at(cells, (answered, truth), 1.0)
    cells += np.eye(classes) * 0.5 / classes  # less than one photo in all: decides ties alone
    return np.asarray(linear_sum_assignment(cells, maximize=True)[1])
