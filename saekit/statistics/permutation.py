"""Permutation tests that count a whole search: the largest statistic of all features, under permuted labels.

The best of many features looks good for any label. The single-step max statistic compares each feature with the best
of all of them under labels that were permuted by unit, so that a p value below 0.05 is a feature that a random label
would have found in less than one search of twenty.

Source: Westfall and Young, Resampling-Based Multiple Testing (1993), 2.3 to 2.5.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from ..errors import ConfigError
from .intervals import Doubles


def max_statistic_p(observed: npt.ArrayLike, null_maxima: Float[np.ndarray, " n_permutations"]) -> Doubles:
    """The p value of each observed statistic, corrected for the search; never below 1 / (n_permutations + 1).

    nan where the statistic is undefined.

    >>> import numpy as np
    >>> from saekit.statistics import max_statistic_p
    >>> max_statistic_p([9.0, 2.0], np.array([1.0, 2.0, 3.0])).tolist()
    [0.25, 0.75]
    """
    maxima = np.sort(np.asarray(null_maxima, dtype=np.float64))
    if not len(maxima) or np.isnan(maxima).any():
        raise ConfigError("no permutation to compare with", got=len(maxima), accepted="numbers, at least one")
    values = np.asarray(observed, dtype=np.float64)
    at_least = len(maxima) - np.searchsorted(maxima, values, side="left")
    return np.where(np.isnan(values), np.nan, (1.0 + at_least) / (1.0 + len(maxima)))


def permuted_labels(
    labels: npt.ArrayLike, n_permutations: int, rng: np.random.Generator, block: int = 64
) -> Iterator[npt.NDArray[np.float32]]:
    """The labels of units [n_units] in random orders, some at a time [block, n_units]; the same draws for any block.

    >>> import numpy as np
    >>> from saekit.statistics import permuted_labels
    >>> [drawn.sum(axis=1).tolist() for drawn in permuted_labels([1, 0, 0, 1], 3, np.random.default_rng(0), block=2)]
    [[2.0, 2.0], [2.0]]
    """
    values = np.asarray(labels, dtype=np.float32)
    for first in range(0, n_permutations, block):
        n = min(block, n_permutations - first)
        yield rng.permuted(np.tile(values, (n, 1)), axis=1)
