"""The rate of something among texts that come in groups, such as several texts to one prompt.

Texts to one prompt are alike, so that n of them say less than n. The Wilson interval is taken with the effective number
of texts: n divided by the design effect 1 + (m - 1) icc, where m is the mean group size (weighted by size) and icc the
intra-class correlation, with a t quantile for the groups' degrees of freedom, fewer where few groups decide.

Sources: Wilson 1927; Kish, Survey Sampling (1965), design effect; Donner and Klar, Design and Analysis of Cluster
Randomization Trials (2000), the analysis-of-variance estimator of icc; Korn and Graubard 1998 for 0 and n.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from .intervals import LEVEL, MIN_UNITS, Estimate, Interval
from .jackknife import MIN_DF, exact_interval, no_interval


def clustered_proportion(
    hits: npt.ArrayLike, n: npt.ArrayLike, *, unit: str = "prompts", level: float = LEVEL
) -> Estimate:
    """The rate of hits [groups] among n [groups], with its interval; no interval below `MIN_UNITS` groups.

    >>> from saekit.statistics import clustered_proportion
    >>> clustered_proportion([4, 0, 4, 0, 4, 0], [4] * 6)  # each prompt always or never: six prompts' worth
    0.50 [0.14, 0.86], 6 prompts
    >>> clustered_proportion([2] * 6, [4] * 6)  # prompts do not matter: worth 24 texts, less for having to find out
    0.50 [0.27, 0.73], 6 prompts
    >>> clustered_proportion([0] * 6, [4] * 6)
    0.00 [0.00, 0.46], 6 prompts
    """
    k, size = np.asarray(hits, dtype=np.float64), np.asarray(n, dtype=np.float64)
    k, size = k[size > 0], size[size > 0]
    m, total = len(size), float(size.sum())
    if not m:
        return Estimate(math.nan, level=level, reason="no text", n_units=0, unit=unit)
    rate = float(k.sum() / total)
    if m < MIN_UNITS:
        return Estimate(rate, level=level, reason=no_interval(m, unit), n_units=m, unit=unit)
    if rate in (0.0, 1.0):
        low, high = exact_interval(int(rate * m), m, level)
    else:
        effect = design_effect(k, size)
        low, high = _wilson(rate, total / effect, _degrees_of_freedom(k - rate * size, effect), level)
    return Estimate(rate, low, high, level, "", m, unit)


def design_effect(hits: npt.ArrayLike, n: npt.ArrayLike) -> float:
    """By how much the variance of a rate is larger than if all texts were independent, at least 1.

    >>> from saekit.statistics import design_effect
    >>> design_effect([4, 0, 4, 0], [4] * 4), design_effect([2] * 4, [4] * 4)
    (4.0, 1.0)
    """
    k, size = np.asarray(hits, dtype=np.float64), np.asarray(n, dtype=np.float64)
    m, total = len(size), float(size.sum())
    if total <= m or m < 2:
        return 1.0
    rate, each = k.sum() / total, k / size
    between = float((size * (each - rate) ** 2).sum() / (m - 1))
    within = float((size * each * (1 - each)).sum() / (total - m))
    typical = (total - float((size**2).sum()) / total) / (m - 1)
    below = between + (typical - 1) * within
    icc = min(max((between - within) / below, 0.0), 1.0) if below > 0 else 1.0
    return 1.0 + (float((size**2).sum()) / total - 1.0) * icc


def _degrees_of_freedom(deviations: npt.NDArray[np.float64], effect: float) -> float:
    """Of a variance over groups: fewer where few groups make most of it; all of them where texts are independent."""
    m = len(deviations)
    square = deviations**2
    if effect == 1 or not square.any():
        return m - 1.0
    tails = max(m * float((square**2).sum()) / float(square.sum()) ** 2 - 3, 0.0)
    return max(1 / (1 / (m - 1) + tails / (2 * m)), min(m - 1.0, MIN_DF))


def _wilson(rate: float, n: float, df: float, level: float) -> Interval:
    """The Wilson score interval of a rate among n texts, with a t quantile."""
    from scipy.stats import t

    square = float(t.ppf((1 + level) / 2, df)) ** 2
    centre = (rate + square / (2 * n)) / (1 + square / n)
    half = math.sqrt(square * (rate * (1 - rate) / n + square / (4 * n * n))) / (1 + square / n)
    return Interval(max(centre - half, 0.0), min(centre + half, 1.0))
