"""Per-feature statistics, histograms and contexts from sparse activations by feature.

Works on blocks of features, so that what it holds at once is bounded whatever the size of the corpus, several blocks at
a time on as many threads. Of a feature that fires often, only the firings that can be among its contexts are sorted:
the strongest, and those with the lowest draws. Pure numpy: knows nothing of models, files or text. A firing is one
(feature, token) pair with a non-zero activation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from .records import N_ACTIVATION_BINS

N_SAME = 8  # tokens: of contexts that end in the same ones, only the strongest is among the top
N_HISTOGRAM_BINS = 50  # a multiple of N_ACTIVATION_BINS, so that an activation bin is a whole number of them
_SPARE = 8  # times as many firings are looked at as contexts are wanted, before all are


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
        return Sparse(m.indptr.astype(np.int64), m.indices.astype(np.int32, copy=False), m.data)


class Tokens(NamedTuple):
    """Where the evaluated tokens lie, and what is needed to tell their contexts apart."""

    position: np.ndarray  # Int64 [n_tokens]; flat: window * length + pos; ascending
    document: np.ndarray  # Int32 [n_tokens]; -1 for none
    ending: np.ndarray  # UInt64 [n_tokens]; equal for tokens that end the same text: `endings`
    length: int


class Summary(NamedTuple):
    """What is stored for every feature. Dead features have max, mean and std 0."""

    stats: pd.DataFrame  # density, n_firings, n_documents, max, mean, std, dead
    histogram: np.ndarray  # Int64 [d_sae, N_HISTOGRAM_BINS]
    contexts: pd.DataFrame  # feature, bin (-1: top), rank, position, activation; ordered by the first three


def summarise(
    columns: Sparse,
    tokens: Tokens,
    *,
    n_top: int,
    n_per_bin: int,
    seed: int = 0,
    block_firings: int = 200_000,
    n_threads: int = 1,
    report: Callable[[int], object] = lambda n_features: None,
) -> Summary:
    """The Summary of every feature of `columns` (sparse activations by feature, their column the token's number).

    The result depends neither on `block_firings`, the number of firings worked on at once by each of `n_threads`, nor
    on these. `report` is called with the number of features that are done.
    """

    def work(span: tuple[int, int]) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
        block = _Block(columns, tokens, *span)
        contexts = pd.concat([block.top(n_top), block.sampled(n_per_bin, seed)], ignore_index=True)
        order = contexts["feature"].to_numpy(np.int64) * (N_ACTIVATION_BINS + 1) + contexts["bin"]
        return block.stats(), block.histogram, contexts.iloc[np.argsort(order, kind="stable")]

    done = []
    with ThreadPoolExecutor(n_threads) as pool:
        spans = list(_blocks(columns.start, block_firings))
        for (_, last), summary in zip(spans, pool.map(work, spans), strict=True):
            done.append(summary)
            report(last)
    stats, histogram, contexts = zip(*done, strict=True)
    return Summary(
        pd.concat(stats, ignore_index=True), np.concatenate(histogram), pd.concat(contexts, ignore_index=True)
    )


def histogram_bin_of(value: np.ndarray, maximum: np.ndarray) -> np.ndarray:
    """The histogram bin of each activation: bin b of n holds b / n < value / max <= (b + 1) / n."""
    ratio = np.divide(value, maximum, dtype=np.float64)
    ratio *= N_HISTOGRAM_BINS
    bins: np.ndarray = np.ceil(ratio, out=ratio).astype(np.int32)
    bins -= 1
    return bins.clip(0, N_HISTOGRAM_BINS - 1, out=bins)


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
        self.tokens, self.first, self.n = tokens, first, last - first
        self.row = columns.column[begin:end].astype(np.intp)
        self.value = columns.value[begin:end]
        self.count = np.diff(columns.start[first : last + 1])
        self.live = self.count > 0
        self.begin = (columns.start[first:last] - begin)[self.live]
        self.local = np.repeat(np.arange(self.n, dtype=np.int32), self.count)
        self.max = self._per_feature(np.maximum, self.value)
        self.histogram_bin = histogram_bin_of(self.value, np.repeat(self.max, self.count))
        counts = np.bincount(self.local * N_HISTOGRAM_BINS + self.histogram_bin, minlength=self.n * N_HISTOGRAM_BINS)
        self.histogram = counts.reshape(self.n, N_HISTOGRAM_BINS)

    def _per_feature(self, how: np.ufunc, values: np.ndarray) -> np.ndarray:
        out = np.zeros(self.n, values.dtype)
        if len(self.begin):
            out[self.live] = how.reduceat(values, self.begin)
        return out

    def stats(self) -> pd.DataFrame:
        value = self.value.astype(np.float64)
        n = np.maximum(self.count, 1)
        mean = self._per_feature(np.add, value) / n
        value -= np.repeat(mean, self.count)
        value *= value
        return pd.DataFrame(
            {
                "density": self.count / max(len(self.tokens.position), 1),
                "n_firings": self.count,
                "n_documents": self._n_documents(),
                "max": self.max.astype(np.float32),
                "mean": mean.astype(np.float32),
                "std": np.sqrt(self._per_feature(np.add, value) / n).astype(np.float32),
                "dead": ~self.live,
            }
        )

    def _n_documents(self) -> np.ndarray:
        document = self.tokens.document[self.row]
        width = int(document.max(initial=0)) + 1
        pairs = self.local * np.int64(width) + document
        if document.min(initial=0) < 0:
            pairs = pairs[document >= 0]
        if np.any(pairs[1:] < pairs[:-1]):  # documents not in the corpus' order
            pairs = np.sort(pairs)
        return np.bincount(pairs[_changes(pairs)] // width, minlength=self.n)

    def top(self, n: int) -> pd.DataFrame:
        """The strongest firing of each window, the n strongest of those, first come first where they are equal.

        Of those that end the same text only the first counts: a sentence that stands in many documents is shown once.
        """
        at_or_above = self.histogram[:, ::-1].cumsum(1)[:, ::-1]
        lowest = np.sum(at_or_above >= _SPARE * n, axis=1, dtype=np.int32) - 1
        likely = self.histogram_bin >= np.repeat(lowest, self.count)
        order = self._chosen(n, likely, self.local, self.n, self._strongest)
        return self._frame(order, self.local, np.full(self.n, -1), n)

    def _strongest(self, firings: np.ndarray) -> np.ndarray:
        """Of these, the strongest of each window, without those that end the text of a stronger; best first."""
        local, value, row = self.local[firings], self.value[firings], self.row[firings]
        starts = _changes(local, self.tokens.position[row] // self.tokens.length)
        peak = np.maximum.reduceat(value, starts) if len(starts) else value
        segment = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(value)))
        at_peak = np.flatnonzero(value == peak[segment])
        at_peak = at_peak[_changes(segment[at_peak])]
        falling = ~value[at_peak].view(np.uint32)  # positive floats order as their bits do
        order = at_peak[_order(local[at_peak], falling.astype(np.uint64) << np.uint64(32))]
        ending = self.tokens.ending[row[order]]
        same = _order(local[order], ending)
        first: np.ndarray = firings[order[np.sort(same[_changes(local[order][same], ending[same])])]]
        return first

    def sampled(self, n: int, seed: int) -> pd.DataFrame:
        """Up to n firings from each activation bin, whatever their strength within it; at most one a window."""
        per_bin = N_HISTOGRAM_BINS // N_ACTIVATION_BINS
        cell = self.local * N_ACTIVATION_BINS + self.histogram_bin // per_bin
        count = self.histogram.reshape(-1, per_bin).sum(1)
        key = (self.local.astype(np.uint64) + np.uint64(self.first)) << np.uint64(32)
        draw = _scramble(key | self.row.astype(np.uint64), seed)
        below = np.minimum(_SPARE * n / np.maximum(count, 1), 1.0) * (2.0**64 - 2**12)
        limit = np.where(count > _SPARE * n, below.astype(np.uint64), np.uint64(2**64 - 1))

        def lowest_draws(firings: np.ndarray) -> np.ndarray:
            mine, drawn = cell[firings], draw[firings]
            window = self.tokens.position[self.row[firings]] // self.tokens.length
            group = mine * (int(window.max(initial=0)) + 1) + window
            order = _order(group, drawn)
            order = order[_changes(group[order])]
            drawn_first: np.ndarray = firings[order[_order(mine[order], drawn[order])]]
            return drawn_first

        order = self._chosen(n, draw <= limit[cell], cell, self.n * N_ACTIVATION_BINS, lowest_draws)
        return self._frame(order, cell, np.tile(np.arange(N_ACTIVATION_BINS), self.n), n)

    def _chosen(
        self, n: int, likely: np.ndarray, cell: np.ndarray, n_cells: int, choose: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """What `choose` makes of all firings, by cell and best first, as far as the first n of each cell.

        `likely` marks firings no worse than any other of their cell. Where n come out of these, the others do not
        matter; all firings of the other cells are looked at.
        """
        firings = np.flatnonzero(likely)
        order = choose(firings)
        enough = np.bincount(cell[order], minlength=n_cells) >= n
        enough |= np.bincount(cell[firings], minlength=n_cells) == np.bincount(cell, minlength=n_cells)
        if enough.all():
            return order
        both = np.concatenate([order[enough[cell[order]]], choose(np.flatnonzero(~enough[cell]))])
        return both[np.argsort(cell[both], kind="stable")]

    def _frame(self, order: np.ndarray, cell: np.ndarray, bin_of_cell: np.ndarray, n: int) -> pd.DataFrame:
        """The first n of each cell of firings already ordered by cell; `bin_of_cell` is -1 for the top ones."""
        starts = _changes(cell[order])
        rank = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
        order, rank = order[rank < n], rank[rank < n]
        return pd.DataFrame(
            {
                "feature": (self.local[order] + self.first).astype(np.int32),
                "bin": bin_of_cell[cell[order]].astype(np.int8),
                "rank": rank.astype(np.int16),
                "position": self.tokens.position[self.row[order]],
                "activation": self.value[order],
            }
        )


def _changes(*keys: np.ndarray) -> np.ndarray:
    """Where runs of equal keys begin."""
    if not len(keys[0]):
        return np.zeros(0, np.int64)
    new = np.ones(len(keys[0]), bool)
    new[1:] = keys[0][1:] != keys[0][:-1]
    for key in keys[1:]:
        new[1:] |= key[1:] != key[:-1]
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
