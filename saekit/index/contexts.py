"""Which firings of a feature are kept as its contexts: the strongest, and a random sample of each activation bin.

Of a feature that fires often, only the firings that can be among its contexts are sorted: the strongest, and those with
the lowest draws.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from .feature_block import N_HISTOGRAM_BINS, FeatureBlock, changes
from .records import N_ACTIVATION_BINS

N_SAME = 8  # tokens: of contexts that end in the same ones, only the strongest is among the top
_SPARE = 8  # times as many firings are looked at as contexts are wanted, before all are


def endings(tokens: np.ndarray, n: int = N_SAME) -> np.ndarray:
    """For each token of windows [windows, length] a number that it shares with those that end the same n tokens.

    >>> import numpy as np
    >>> from saekit.index.contexts import endings
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


def top_contexts(block: FeatureBlock, n: int) -> pd.DataFrame:
    """The strongest firing of each window, the n strongest of those, first come first where they are equal.

    Of those that end the same text only the first counts: a sentence that stands in many documents is shown once.
    """
    at_or_above = block.histogram[:, ::-1].cumsum(1)[:, ::-1]
    lowest = np.sum(at_or_above >= _SPARE * n, axis=1, dtype=np.int32) - 1
    likely = block.histogram_bin >= np.repeat(lowest, block.count)
    order = _chosen(n, likely, block.feature, block.n_features, lambda firings: _strongest(block, firings))
    return _frame(block, order, block.feature, np.full(block.n_features, -1), n)


def _strongest(block: FeatureBlock, firings: np.ndarray) -> np.ndarray:
    """Of these, the strongest of each window, without those that end the text of a stronger; best first."""
    feature, value, token = block.feature[firings], block.value[firings], block.token[firings]
    starts = changes(feature, block.tokens.position[token] // block.tokens.length)
    peak = np.maximum.reduceat(value, starts) if len(starts) else value
    segment = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(value)))
    at_peak = np.flatnonzero(value == peak[segment])
    at_peak = at_peak[changes(segment[at_peak])]
    falling = ~value[at_peak].view(np.uint32)  # positive floats order as their bits do
    order = at_peak[_order(feature[at_peak], falling.astype(np.uint64) << np.uint64(32))]
    ending = block.tokens.ending[token[order]]
    same = _order(feature[order], ending)
    first: np.ndarray = firings[order[np.sort(same[changes(feature[order][same], ending[same])])]]
    return first


def sampled_contexts(block: FeatureBlock, n: int, seed: int) -> pd.DataFrame:
    """Up to n firings from each activation bin, whatever their strength within it; at most one a window."""
    per_bin = N_HISTOGRAM_BINS // N_ACTIVATION_BINS
    cell = block.feature * N_ACTIVATION_BINS + block.histogram_bin // per_bin
    count = block.histogram.reshape(-1, per_bin).sum(1)
    key = (block.feature.astype(np.uint64) + np.uint64(block.first)) << np.uint64(32)
    draw = _scramble(key | block.token.astype(np.uint64), seed)
    below = np.minimum(_SPARE * n / np.maximum(count, 1), 1.0) * (2.0**64 - 2**12)
    limit = np.where(count > _SPARE * n, below.astype(np.uint64), np.uint64(2**64 - 1))

    def lowest_draws(firings: np.ndarray) -> np.ndarray:
        mine, drawn = cell[firings], draw[firings]
        window = block.tokens.position[block.token[firings]] // block.tokens.length
        group = mine * (int(window.max(initial=0)) + 1) + window
        order = _order(group, drawn)
        order = order[changes(group[order])]
        drawn_first: np.ndarray = firings[order[_order(mine[order], drawn[order])]]
        return drawn_first

    order = _chosen(n, draw <= limit[cell], cell, block.n_features * N_ACTIVATION_BINS, lowest_draws)
    return _frame(block, order, cell, np.tile(np.arange(N_ACTIVATION_BINS), block.n_features), n)


def _chosen(
    n: int, likely: np.ndarray, cell: np.ndarray, n_cells: int, choose: Callable[[np.ndarray], np.ndarray]
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


def _frame(block: FeatureBlock, order: np.ndarray, cell: np.ndarray, bin_of_cell: np.ndarray, n: int) -> pd.DataFrame:
    """The first n of each cell of firings already ordered by cell; `bin_of_cell` is -1 for the top ones."""
    starts = changes(cell[order])
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    order, rank = order[rank < n], rank[rank < n]
    return pd.DataFrame(
        {
            "feature": (block.feature[order] + block.first).astype(np.int32),
            "bin": bin_of_cell[cell[order]].astype(np.int8),
            "rank": rank.astype(np.int16),
            "position": block.tokens.position[block.token[order]],
            "activation": block.value[order],
        }
    )


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
