"""Per-feature statistics, histograms and contexts from sparse activations by feature.

Works on blocks of features, so that what it holds at once is bounded whatever the size of the corpus. Pure numpy:
knows nothing of models, files or text. A firing is one (feature, token) pair with a non-zero activation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from .records import N_INTERVALS

N_SAME = 8  # tokens: of contexts that end in the same ones, only the strongest is among the top
N_BINS = 50  # a multiple of N_INTERVALS, so that an interval is a whole number of bins


class Sparse(NamedTuple):
    """A sparse matrix by rows: row r holds column[start[r]:start[r + 1]], ascending, with their values."""

    start: np.ndarray  # Int64 [n_rows + 1]
    column: np.ndarray  # Int32 [nnz]
    value: np.ndarray  # Float32 [nnz]

    @property
    def n_rows(self) -> int:
        return len(self.start) - 1

    def transpose(self, n_columns: int) -> Sparse:
        """The same matrix by columns, in time linear in its entries.

        >>> import numpy as np
        >>> from saekit.index.statistics import Sparse
        >>> Sparse(np.array([0, 2, 3]), np.array([0, 2, 2]), np.array([1.0, 2.0, 3.0])).transpose(3).column.tolist()
        [0, 0, 1]
        """
        rows = sparse.csr_matrix((self.value, self.column, self.start), shape=(self.n_rows, n_columns))
        m = rows.tocsc()
        return Sparse(m.indptr.astype(np.int64), m.indices.astype(np.int32), m.data)


class Tokens(NamedTuple):
    """Where the evaluated tokens lie, and what is needed to tell their contexts apart."""

    position: np.ndarray  # Int64 [n_tokens]; flat: window * length + pos; ascending
    document: np.ndarray  # Int32 [n_tokens]; -1 for none
    ending: np.ndarray  # UInt64 [n_tokens]; equal for tokens that end the same text: `endings`
    length: int


class Summary(NamedTuple):
    """What is stored for every feature. Dead features have max, mean and std 0."""

    stats: pd.DataFrame  # density, n_firings, n_documents, max, mean, std, dead
    histogram: np.ndarray  # Int64 [d_sae, N_BINS]
    contexts: pd.DataFrame  # feature, interval (-1: top), rank, position, activation; ordered by the first three


def summarise(
    columns: Sparse, tokens: Tokens, *, n_top: int, n_per_interval: int, seed: int = 0, block_firings: int = 2_000_000
) -> Summary:
    """The Summary of every feature of `columns` (sparse activations by feature, their column the token's number).

    The result does not depend on `block_firings`, the number of firings worked on at once.
    """
    n_features = columns.n_rows
    histogram = np.zeros((n_features, N_BINS), np.int64)
    stats, contexts = [], []
    for first, last in _blocks(columns.start, block_firings):
        block = _Block(columns, tokens, first, last)
        histogram[first:last] = np.bincount(
            block.local * N_BINS + block.bin, minlength=(last - first) * N_BINS
        ).reshape(-1, N_BINS)
        stats.append(block.stats())
        contexts += [block.top(n_top), block.sampled(n_per_interval, seed)]
    table = pd.concat(contexts, ignore_index=True)
    table = table.sort_values(["feature", "interval", "rank"], kind="stable", ignore_index=True)
    return Summary(pd.concat(stats, ignore_index=True), histogram, table)


def bin_of(value: np.ndarray, maximum: np.ndarray) -> np.ndarray:
    """The histogram bin of each activation: bin b of n holds b / n < value / max <= (b + 1) / n."""
    ratio = value.astype(np.float64) / maximum.astype(np.float64)
    return np.clip(np.ceil(ratio * N_BINS).astype(np.int64) - 1, 0, N_BINS - 1)


def endings(tokens: np.ndarray, n: int = N_SAME) -> np.ndarray:
    """For each token of windows [windows, length] a number that it shares with those that end the same n tokens.

    >>> import numpy as np
    >>> from saekit.index.statistics import endings
    >>> one, other = endings(np.array([[1, 2, 3, 4], [9, 2, 3, 4]]), n=3)
    >>> (one == other).tolist()
    [False, False, False, True]
    """
    out = np.zeros(tokens.shape, np.uint64)
    for back in reversed(range(min(n, tokens.shape[1]))):
        shifted = np.zeros(tokens.shape, np.uint64)
        shifted[:, back:] = tokens[:, : tokens.shape[1] - back] + 1
        out = _scramble(out ^ shifted, 0)
    return out


def _blocks(start: np.ndarray, block_firings: int) -> Iterator[tuple[int, int]]:
    first, n = 0, len(start) - 1
    while first < n:
        last = max(first + 1, int(np.searchsorted(start, start[first] + block_firings, side="right")) - 1)
        yield first, last
        first = last


class _Block:
    """The firings of features first..last, with what every statistic of them needs."""

    def __init__(self, columns: Sparse, tokens: Tokens, first: int, last: int) -> None:
        begin, end = int(columns.start[first]), int(columns.start[last])
        self.first, self.n, self.n_tokens = first, last - first, len(tokens.position)
        self.row = columns.column[begin:end].astype(np.int64)
        self.value = columns.value[begin:end]
        self.count = np.diff(columns.start[first : last + 1])
        self.live = self.count > 0
        self.begin = (columns.start[first:last] - begin)[self.live]
        self.local = np.repeat(np.arange(self.n), self.count)
        self.position = tokens.position[self.row]
        self.document = tokens.document[self.row].astype(np.int64)
        self.ending = tokens.ending[self.row]
        self.window = self.position // tokens.length
        self.max = self._per_feature(np.maximum, self.value)
        self.bin = bin_of(self.value, self.max[self.local])

    def _per_feature(self, how: np.ufunc, values: np.ndarray) -> np.ndarray:
        out = np.zeros(self.n, values.dtype)
        if len(self.begin):
            out[self.live] = how.reduceat(values, self.begin)
        return out

    def stats(self) -> pd.DataFrame:
        value = self.value.astype(np.float64)
        n = np.maximum(self.count, 1)
        mean = self._per_feature(np.add, value) / n
        variance = self._per_feature(np.add, (value - mean[self.local]) ** 2) / n
        return pd.DataFrame(
            {
                "density": self.count / max(self.n_tokens, 1),
                "n_firings": self.count,
                "n_documents": self._n_documents(),
                "max": self.max.astype(np.float32),
                "mean": mean.astype(np.float32),
                "std": np.sqrt(variance).astype(np.float32),
                "dead": ~self.live,
            }
        )

    def _n_documents(self) -> np.ndarray:
        inside = self.document >= 0
        width = int(self.document.max(initial=0)) + 1
        pairs = self.local[inside] * width + self.document[inside]
        if np.any(pairs[1:] < pairs[:-1]):  # documents not in the corpus' order
            pairs = np.sort(pairs)
        new = np.concatenate([np.ones(min(1, len(pairs)), bool), pairs[1:] != pairs[:-1]])
        return np.bincount(pairs[new] // width, minlength=self.n)

    def top(self, n: int) -> pd.DataFrame:
        """The strongest firing of each window, the n strongest of those, first come first where they are equal.

        Of those that end the same text only the first counts: a sentence that stands in many documents is shown once.
        """
        starts = _changes(self.local, self.window)
        peak = np.maximum.reduceat(self.value, starts) if len(starts) else self.value
        segment = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(self.value)))
        at_peak = np.flatnonzero(self.value == peak[segment])
        at_peak = at_peak[_changes(segment[at_peak])]
        falling = ~self.value[at_peak].view(np.uint32)  # positive floats order as their bits do
        order = at_peak[_order(self.local[at_peak], falling.astype(np.uint64) << np.uint64(32))]
        ending = self.ending[order]
        same = _order(self.local[order], ending)
        order = order[np.sort(same[_changes(self.local[order][same], ending[same])])]
        return self._frame(order, self.local, np.full(self.n, -1), n)

    def sampled(self, n: int, seed: int) -> pd.DataFrame:
        """Up to n firings from each interval, drawn without regard to strength within it, at most one per window."""
        interval = self.bin // (N_BINS // N_INTERVALS)
        cell = self.local * N_INTERVALS + interval
        draw = _scramble(
            (self.local + self.first).astype(np.uint64) << np.uint64(32) | self.row.astype(np.uint64), seed
        )
        group = cell * (int(self.window.max(initial=0)) + 1) + self.window
        order = _order(group, draw)
        order = order[_changes(group[order])]
        order = order[_order(cell[order], draw[order])]
        return self._frame(order, cell, np.tile(np.arange(N_INTERVALS), self.n), n)

    def _frame(self, order: np.ndarray, cell: np.ndarray, interval: np.ndarray, n: int) -> pd.DataFrame:
        """The first n of each cell of firings already ordered by cell; `interval` names each cell."""
        starts = _changes(cell[order])
        rank = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
        order, rank = order[rank < n], rank[rank < n]
        return pd.DataFrame(
            {
                "feature": (self.local[order] + self.first).astype(np.int32),
                "interval": interval[cell[order]].astype(np.int8),
                "rank": rank.astype(np.int16),
                "position": self.position[order],
                "activation": self.value[order],
            }
        )


def _changes(*keys: np.ndarray) -> np.ndarray:
    """Where runs of equal keys begin."""
    if not len(keys[0]):
        return np.zeros(0, np.int64)
    new = np.ones(len(keys[0]), bool)
    new[1:] = np.any([k[1:] != k[:-1] for k in keys], axis=0)
    return np.flatnonzero(new)


def _order(group: np.ndarray, draw: np.ndarray) -> np.ndarray:
    """The order by group and within it by draw, first come first where both are equal.

    One sort of 64-bit keys, of which `draw` gets the bits that `group` leaves: several times as fast as a lexsort.
    """
    bits = np.uint64(64 - int(group.max(initial=0)).bit_length())
    key = group.astype(np.uint64) << bits | draw >> (np.uint64(64) - bits)
    return np.argsort(key, kind="stable")


def _scramble(key: np.ndarray, seed: int) -> np.ndarray:
    """A random-looking UInt64 for each key: splitmix64 (Steele, Lea and Flood, 2014), the same on every machine."""
    with np.errstate(over="ignore"):
        z = key + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
