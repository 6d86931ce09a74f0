"""Bootstrap resamples of units: which are picked, or how often each counts.

What resembles its neighbours is drawn together, so the unit of a resample is a document, a window, a prompt or a
feature, never a token. A resample is a row: `resample_picks` names the units that were picked with replacement, and
`resample_counts` says how often each was. Generators are the caller's.

Sources: Efron and Tibshirani, An Introduction to the Bootstrap (1993), 13.3; Field and Welsh, Bootstrapping clustered
data, JRSS B 69 (2007).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Int

from ..errors import ConfigError
from .intervals import LEVEL, Interval, percentile_interval

BLOCK = 100
"""Resamples that are held at once."""


def resample_picks(n_units: int, n_resamples: int, rng: np.random.Generator) -> Int[np.ndarray, "n_resamples n_units"]:
    """The units of each resample; the same whether they are drawn at once or in several calls.

    >>> import numpy as np
    >>> from saekit.statistics import resample_picks
    >>> resample_picks(3, 2, np.random.default_rng(0)).shape
    (2, 3)
    """
    return rng.integers(0, n_units, size=(n_resamples, n_units))


def resample_counts(
    n_units: int, n_resamples: int, rng: np.random.Generator
) -> Float[np.ndarray, "n_resamples n_units"]:
    """How often each unit counts in each resample; rows sum to n_units.

    >>> import numpy as np
    >>> from saekit.statistics import resample_counts
    >>> resample_counts(4, 2, np.random.default_rng(0)).sum(axis=1).tolist()
    [4.0, 4.0]
    """
    if n_resamples < 0:
        raise ConfigError("n_bootstrap is negative", got=n_resamples, accepted="an integer of at least 0")
    return rng.multinomial(n_units, np.full(n_units, 1 / n_units), size=n_resamples).astype(np.float64)


def resample_within(
    strata: Int[np.ndarray, " n"], n_resamples: int, rng: np.random.Generator
) -> Float[np.ndarray, "rows n"]:
    """How often each unit counts: first once each, then in `n_resamples` resamples drawn within each stratum.

    >>> import numpy as np
    >>> from saekit.statistics import resample_within
    >>> resample_within(np.array([0, 1, 1]), 2, np.random.default_rng(0))[:, 0].tolist()
    [1.0, 1.0, 1.0]
    """
    weights = np.ones((1 + max(n_resamples, 0), len(strata)))
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        weights[1:, rows] = resample_counts(len(rows), n_resamples, rng)
    return weights


def count_blocks(
    n_units: int, n_resamples: int, rng: np.random.Generator, block: int
) -> Iterator[Float[np.ndarray, "n_units block"]]:
    """The counts of `resample_picks` in blocks of resamples, one a column; the same draws whatever the block."""
    for first in range(0, n_resamples, block):
        n = min(block, n_resamples - first)
        drawn = resample_picks(n_units, n, rng) * n + np.arange(n)[:, None]
        yield np.bincount(drawn.reshape(-1), minlength=n_units * n).reshape(n_units, n).astype(np.float64)


def mean_interval(
    groups: Iterable[npt.ArrayLike], n_resamples: int, rng: np.random.Generator, level: float = LEVEL
) -> Interval:
    """The percentile interval of the mean over all values when whole groups are resampled; nan is left out.

    >>> import numpy as np
    >>> from saekit.statistics import mean_interval
    >>> mean_interval([[1.0, 1.0], [1.0]], 100, np.random.default_rng(0))
    Interval(low=1.0, high=1.0)
    """
    values = [np.asarray(group, dtype=np.float64) for group in groups]
    known = [v[~np.isnan(v)] for v in values if not np.isnan(v).all()]
    if not known or not n_resamples:
        return Interval(float("nan"), float("nan"))
    sums, n = np.array([v.sum() for v in known]), np.array([len(v) for v in known])
    means = []
    for first in range(0, n_resamples, BLOCK):
        picks = resample_picks(len(known), min(BLOCK, n_resamples - first), rng)
        means.append(sums[picks].sum(1) / n[picks].sum(1))
    return percentile_interval(np.concatenate(means), level)
