"""Are probabilities true? Calibration error, log-likelihood and one temperature, from the logits of photos.

"Calibration" here is that of confidence: of the answers given with 0.9, nine in ten are right. The calibration set of
int8 is another thing (`quantize.calibration`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import BadInput
from .classification import Z95, proportion, require_truth
from .estimate import Estimate
from .predictions import Predictions

BINS = 15
# The least and the greatest temperature that a fit may give: beyond them every answer is sure, or none is.
BOUNDS = (0.05, 20.0)
# A fit on fewer photos follows them, not the network.
FEWEST = 50
# A temperature is kept to so many digits after the point, so that the last bit of a logit does not change a manifest.
DIGITS = 3
_RESAMPLES, _SEED, _CONFIDENCE = 1000, 0, 0.95


@dataclass(frozen=True)
class Fit:
    """One temperature, and what it does to the photos that it was fitted on.

    Args:
        temperature: 1.0 where the fit was not kept.
        photos: that it was fitted on.
        nll, ece: mean negative log-likelihood in nats and `calibration_error` on those photos, at temperature 1 and at
            the fitted one: in-sample.
        reason: why 1.0 was kept; empty where it was not.
    """

    temperature: float
    photos: int
    nll: tuple[float, float]
    ece: tuple[float, float]
    reason: str = ""


@dataclass(frozen=True)
class Coverage:
    """Photos answered with at least a confidence, and how many of these are right; None where none is answered."""

    threshold: float
    answered: Estimate
    right: Estimate | None


def confidences(found: Predictions, temperature: float = 1.0) -> np.ndarray:
    """Softmax probability of the top-1 answer, float64 `(N,)`.

    Raises:
        BadInput: predictions without their logits, whose normaliser is not known.
    """
    return np.exp(_log_probabilities(found, temperature, found.top[:, 0]))


def _log_probabilities(found: Predictions, temperature: float, labels: np.ndarray) -> np.ndarray:
    """Log of the softmax at one label a photo, float64 `(N,)`."""
    if found.logits is None:
        raise BadInput("probabilities without logits", "predictions that hold every logit", "score the artifact again")
    if not 0 < temperature < math.inf:
        raise BadInput(f"temperature {temperature}", "a finite number above 0")
    scaled = found.logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    return np.take_along_axis(scaled, labels[:, None], 1)[:, 0] - np.log(np.exp(scaled).sum(axis=1))


def _require_photos(found: Predictions, what: str) -> None:
    require_truth(found, what)
    if not len(found):
        raise BadInput(f"{what} of 0 photos", "at least one photo")


def negative_log_likelihood(found: Predictions, temperature: float = 1.0) -> float:
    """Mean of -log p(truth), nats: 0 where every photo's truth is sure.

    Raises:
        BadInput: no photos, synthesized images, or predictions without their logits.
    """
    _require_photos(found, "log-likelihood")
    return float(-_log_probabilities(found, temperature, found.truth).mean())


def calibration_error(found: Predictions, bins: int = BINS, temperature: float = 1.0) -> float:
    """Expected calibration error: mean distance of confidence and top-1 over bins of confidence, weighted by photos.

    Equal-width bins, each open below and closed above, as published figures have it (Guo et al. 2017,
    arXiv:1706.04599, equation 3). It is biased upwards where bins hold few photos: see `error_estimate`.

    Args:
        temperature: the logits are divided by it before the softmax.

    Returns:
        0 to 1.

    Raises:
        BadInput: no photos, synthesized images, or predictions without their logits.
    """
    return _error(*_answers(found, bins, temperature), bins)


def _answers(found: Predictions, bins: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Confidence of each answer, and whether it is right."""
    _require_photos(found, "calibration error")
    if bins < 1:
        raise BadInput(f"{bins} bins", "at least 1")
    return confidences(found, temperature), found.top[:, 0] == found.truth


def _places(confidence: np.ndarray, bins: int) -> np.ndarray:
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def _error(confidence: np.ndarray, right: np.ndarray, bins: int) -> float:
    gaps = np.bincount(_places(confidence, bins), right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


def error_estimate(found: Predictions, bins: int = BINS, temperature: float = 1.0) -> Estimate:
    """`calibration_error` with an interval of at least 95 % for what it would be on ever so many photos.

    The noise of thin bins adds to the error that is seen, and resampling the photos adds it once more. So the least is
    the basic bootstrap's, which takes it off (Efron and Tibshirani 1993, 13.3), and 0 where labels drawn from the
    probabilities themselves show as large an error in one draw of twenty (consistency resampling, Bröcker and Smith
    2007, doi:10.1175/WAF993.1); the greatest is the percentile bootstrap's, which errs to the safe side.

    Raises:
        BadInput: as `calibration_error`.
    """
    confidence, right = _answers(found, bins, temperature)
    rng, again, perfect = np.random.default_rng(_SEED), np.empty(_RESAMPLES), np.empty(_RESAMPLES)
    for turn in range(_RESAMPLES):
        rows = rng.integers(0, len(found), len(found))
        again[turn] = _error(confidence[rows], right[rows], bins)
        perfect[turn] = _error(confidence, rng.random(len(found)) < confidence, bins)
    seen, greatest = _error(confidence, right, bins), float(np.quantile(again, (1 + _CONFIDENCE) / 2))
    least = 0.0 if seen <= np.quantile(perfect, _CONFIDENCE) else max(0.0, 2 * seen - greatest)
    return Estimate(seen, least, max(seen, greatest), _CONFIDENCE, len(found), "bootstrap over photos")


def likelihood_gain(found: Predictions, temperature: float) -> Estimate:
    """How much lower the negative log-likelihood is at `temperature` than at 1: mean of the photos' differences, nats.

    Above 0, the temperature makes the probabilities truer: the log score is proper (Gneiting and Raftery 2007), it has
    no bins and no bias. 95 % by the normal distribution of a mean of pairs.

    Raises:
        BadInput: fewer than 2 photos, synthesized images, or predictions without their logits.
    """
    _require_photos(found, "log-likelihood")
    if len(found) < 2:
        raise BadInput("the gain of one photo", "at least 2")
    gains = _log_probabilities(found, temperature, found.truth) - _log_probabilities(found, 1.0, found.truth)
    half = Z95 * float(gains.std(ddof=1)) / math.sqrt(len(found))
    mean = float(gains.mean())
    return Estimate(mean, mean - half, mean + half, _CONFIDENCE, len(found), "normal, paired")


def coverage(found: Predictions, thresholds: Sequence[float], temperature: float = 1.0) -> tuple[Coverage, ...]:
    """What `--unknown` costs and gives at each threshold: photos that are answered, and how many of these are right.

    Raises:
        BadInput: a threshold outside 0 to 1; and as `calibration_error`.
    """
    wrong = [each for each in thresholds if not 0 <= each <= 1]
    if wrong:
        raise BadInput(f"confidence {wrong[0]}", "0 to 1")
    confidence, right = _answers(found, 1, temperature)
    kept = [confidence >= each for each in thresholds]
    return tuple(
        Coverage(each, proportion(int(rows.sum()), len(found)),
                 proportion(int(right[rows].sum()), int(rows.sum())) if rows.any() else None)
        for each, rows in zip(thresholds, kept, strict=True)
    )  # fmt: skip


def require_enough(photos: int) -> None:
    """Raises BadInput for fewer than `FEWEST` photos."""
    if photos < FEWEST:
        raise BadInput(f"{photos} photos to fit a temperature on", f"at least {FEWEST}")


def fit_temperature(found: Predictions) -> Fit:
    """The temperature of least negative log-likelihood (Guo et al. 2017, section 4.2), or 1.0 with the reason.

    Answers, flips and agreement stay: a softmax's order does not depend on it. The likelihood is convex in 1/T, so
    that a search over log T within `BOUNDS` finds the one minimum.

    Raises:
        BadInput: fewer than `FEWEST` photos, synthesized images, or predictions without their logits.
    """
    _require_photos(found, "a temperature")
    require_enough(len(found))
    if found.logits is not None and not np.isfinite(found.logits).all():
        raise BadInput("logits that are no numbers", "finite logits")
    from scipy.optimize import minimize_scalar

    low, high = np.log(BOUNDS)
    best = minimize_scalar(lambda log: negative_log_likelihood(found, math.exp(log)),
                           bounds=(low, high), method="bounded", options={"xatol": 1e-6})  # fmt: skip
    fitted = round(math.exp(best.x), DIGITS)
    reason = _why_not(fitted, found)
    return Fit(1.0 if reason else fitted, len(found), _both(negative_log_likelihood, found, fitted),
               _both(calibration_error, found, fitted), reason)  # fmt: skip


def _why_not(fitted: float, found: Predictions) -> str:
    least, most = BOUNDS
    if not least * 1.01 < fitted < most / 1.01:
        return f"the best temperature lies at the bound {least if fitted < 1 else most:g}"
    if negative_log_likelihood(found, temperature=fitted) >= negative_log_likelihood(found):
        return "no temperature makes the photos' labels likelier than 1 does"
    return ""


def _both(measure: Callable[..., float], found: Predictions, temperature: float) -> tuple[float, float]:
    return round(measure(found), 4), round(measure(found, temperature=temperature), 4)
