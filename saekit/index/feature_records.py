"""FeatureRecords and Contexts, put together from the tables and activations of an index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .records import N_ACTIVATION_BINS, ActivationBin, Context, FeatureRecord, Firings, Histogram

if TYPE_CHECKING:
    from .query import FeatureIndex


def make_record(
    index: FeatureIndex, feature: int, row: Mapping[str, Any], contexts: pd.DataFrame, before: int, after: int
) -> FeatureRecord:
    """The record of a feature from its row of features.parquet and its rows of contexts.parquet."""
    firings = index.firings(feature)
    places = contexts["window"].to_numpy(np.int64) * index.length + contexts["pos"].to_numpy(np.int64)
    shown = [make_context(index, place, firings, before, after) for place in places.tolist()]
    groups: dict[int, list[Context]] = {n: [] for n in range(-1, N_ACTIVATION_BINS)}
    for n, context in zip(contexts["bin"], shown, strict=True):
        groups[int(n)].append(context)
    counts = np.asarray(row["histogram"])
    edges = float(row["max"]) * np.arange(len(counts) + 1) / len(counts)
    return FeatureRecord(
        feature=feature,
        stats={name: row[name].item() if hasattr(row[name], "item") else row[name] for name in index.statistics},
        histogram=Histogram(edges=edges, counts=counts),
        top=groups[-1],
        bins=_activation_bins(edges, counts, groups),
        promoted=_effects(index, row, "promoted"),
        suppressed=_effects(index, row, "suppressed"),
        neighbours=[(int(n), float(c)) for n, c in zip(row["neighbours"], row["cosines"], strict=True)],
        name=index.name(feature),
        fraction=index.name_fraction(feature),
        names={int(n): index.name(int(n)) for n in row["neighbours"]},
    )


def make_context(index: FeatureIndex, position: int, firings: Firings, before: int, after: int) -> Context:
    """The token at a flat position with those around it, and a feature's activation on each from its firings."""
    window, pos = divmod(position, index.length)
    first = window * index.length
    start = max(0, pos - before)
    stop = min(int(index.windows.lengths[window]), pos + after + 1)
    acts = np.zeros(stop - start, np.float32)
    low, high = np.searchsorted(firings.position, [first + start, first + stop])
    acts[firings.position[low:high] - first - start] = firings.value[low:high]
    document = int(index.windows.documents[window, pos])
    return Context(
        window=window,
        pos=pos,
        document=document,
        activation=float(acts[pos - start]),
        start=start,
        tokens=index.token_strings(np.arange(first + start, first + stop)),
        bytes=index.token_bytes(np.arange(first + start, first + stop)),
        acts=acts.tolist(),
        labels={str(k): v for k, v in index.documents.loc[document].items()} if document >= 0 else {},
    )


def _effects(index: FeatureIndex, row: Mapping[str, Any], name: str) -> list[tuple[str, float]]:
    return [(index.vocabulary[i], float(e)) for i, e in zip(row[name], row[f"{name}_effect"], strict=True)]


def _activation_bins(edges: np.ndarray, counts: np.ndarray, groups: dict[int, list[Context]]) -> list[ActivationBin]:
    step = len(counts) // N_ACTIVATION_BINS
    total = max(int(counts.sum()), 1)
    return [
        ActivationBin(
            low=float(edges[n * step]),
            high=float(edges[(n + 1) * step]),
            count=int(c),
            fraction=int(c) / total,
            contexts=groups[n],
        )
        for n, c in enumerate(counts.reshape(N_ACTIVATION_BINS, step).sum(1))
    ]
