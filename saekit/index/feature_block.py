"""The firings of some successive features: what statistics and contexts are computed from.

A firing is one (feature, token) pair with a non-zero activation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np

from .sparse import Sparse

N_HISTOGRAM_BINS = 50  # a multiple of N_ACTIVATION_BINS, so that an activation bin is a whole number of them


class Tokens(NamedTuple):
    """Where the evaluated tokens lie, and what is needed to distinguish their contexts."""

    position: np.ndarray  # Int64 [n_tokens]; flat: window * length + pos; ascending
    document: np.ndarray  # Int32 [n_tokens]; -1 for none
    ending: np.ndarray  # UInt64 [n_tokens]; equal for tokens that end the same text: `contexts.endings`
    length: int


class FeatureBlock:
    """The firings of features first..last, ordered by feature and then by token. Features are numbered from 0 here."""

    n_features: int
    tokens: Tokens
    value: np.ndarray
    """The activation of each firing, Float32 [n_firings]."""
    token: np.ndarray
    """The token of each firing: a row of `tokens` [n_firings]."""
    feature: np.ndarray
    """The feature of each firing [n_firings]."""
    count: np.ndarray
    """The firings of each feature [n_features]."""
    live: np.ndarray
    """Whether each feature fires [n_features]."""
    max: np.ndarray
    """The largest activation of each feature [n_features]."""
    histogram: np.ndarray
    """The firings of each feature in equal parts of (0, max], [n_features, N_HISTOGRAM_BINS]."""

    def __init__(self, columns: Sparse, tokens: Tokens, first: int, last: int) -> None:
        begin, end = int(columns.start[first]), int(columns.start[last])
        self.tokens, self.first, self.n_features = tokens, first, last - first
        self.token = columns.column[begin:end].astype(np.intp)
        self.value = columns.value[begin:end]
        self.count = np.diff(columns.start[first : last + 1])
        self.live = self.count > 0
        self._begin = (columns.start[first:last] - begin)[self.live]
        self.feature = np.repeat(np.arange(self.n_features, dtype=np.int32), self.count)
        self.max = self.reduce(np.maximum, self.value)
        self.histogram_bin = histogram_bin_of(self.value, np.repeat(self.max, self.count))
        counts = np.bincount(
            self.feature * N_HISTOGRAM_BINS + self.histogram_bin, minlength=self.n_features * N_HISTOGRAM_BINS
        )
        self.histogram = counts.reshape(self.n_features, N_HISTOGRAM_BINS)

    def reduce(self, how: np.ufunc, values: np.ndarray) -> np.ndarray:
        """Numbers of the firings put together to one a feature by a ufunc such as np.add; 0 for silent features."""
        out = np.zeros(self.n_features, values.dtype)
        if len(self._begin):
            out[self.live] = how.reduceat(values, self._begin)
        return out

    def each(self, how: Callable[[np.ndarray], float]) -> np.ndarray:
        """`how` of each live feature's activations, one feature after the other; 0 for silent features."""
        out = np.zeros(self.n_features)
        out[self.live] = [how(values) for values in np.split(self.value, self._begin[1:])] if len(self._begin) else []
        return out

    @cached_property
    def mean(self) -> np.ndarray:
        """The mean activation of each feature where it fires, Float64 [n_features]; 0 for silent features."""
        mean: np.ndarray = self.reduce(np.add, self.value.astype(np.float64)) / np.maximum(self.count, 1)
        return mean


def histogram_bin_of(value: np.ndarray, maximum: np.ndarray) -> np.ndarray:
    """The histogram bin of each activation: bin b of n holds b / n < value / max <= (b + 1) / n."""
    ratio = np.divide(value, maximum, dtype=np.float64)
    ratio *= N_HISTOGRAM_BINS
    bins: np.ndarray = np.ceil(ratio, out=ratio).astype(np.int32)
    bins -= 1
    return bins.clip(0, N_HISTOGRAM_BINS - 1, out=bins)


def changes(*keys: np.ndarray) -> np.ndarray:
    """Where runs of equal keys begin."""
    if not len(keys[0]):
        return np.zeros(0, np.int64)
    new = np.ones(len(keys[0]), bool)
    new[1:] = keys[0][1:] != keys[0][:-1]
    for key in keys[1:]:
        new[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(new)
