"""All that an index stores of every feature: statistics, histogram and contexts, some features at a time.

Works on blocks of features, so that what it holds at once is bounded whatever the size of the corpus, several blocks at
a time on as many threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pandas as pd

from .contexts import sampled_contexts, top_contexts
from .feature_block import FeatureBlock, Tokens
from .records import N_ACTIVATION_BINS
from .sparse import Sparse
from .statistics import statistics_of


class Summary(NamedTuple):
    """What is stored for every feature."""

    stats: pd.DataFrame  # one column for each of `statistics.STATISTICS`
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
        block = FeatureBlock(columns, tokens, *span)
        contexts = pd.concat([top_contexts(block, n_top), sampled_contexts(block, n_per_bin, seed)], ignore_index=True)
        order = contexts["feature"].to_numpy(np.int64) * (N_ACTIVATION_BINS + 1) + contexts["bin"]
        return statistics_of(block), block.histogram, contexts.iloc[np.argsort(order, kind="stable")]

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


def _blocks(start: np.ndarray, block_firings: int) -> Iterator[tuple[int, int]]:
    first, n = 0, len(start) - 1
    while first < n:
        last = max(first + 1, int(np.searchsorted(start, start[first] + block_firings, side="right")) - 1)
        yield first, last
        first = last
