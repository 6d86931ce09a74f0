"""Percentile bootstrap over documents of the statistics of one feature.

Tokens of a document resemble each other, so documents are drawn, not tokens: a resample gives each document a whole
weight and every statistic is computed again, exactly, with those weights. The firings are first counted by distinct
score and document; a block of resamples is then one product of a sparse matrix with the weights.

Sources: Efron and Tibshirani, An Introduction to the Bootstrap (1993), 13.3; Field and Welsh, Bootstrapping clustered
data, JRSS B 69 (2007).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ..statistics import count_blocks
from .sparse_statistics import Floats, Ints

BLOCK_CELLS = 4_000_000
"""Numbers in the largest array of a block of resamples."""


@dataclass(frozen=True, kw_only=True)
class ScoredFirings:
    """The firings of one feature and the examples they are scored among. Documents are numbered from 0."""

    value: npt.NDArray[np.float32]
    match: npt.NDArray[np.bool_]
    document: Ints
    bin: Ints
    """The part of the activation range that each firing lies in."""
    positives: Ints
    """Positive examples of each document [n_documents], silent ones included."""
    negatives: Ints


@dataclass(frozen=True, kw_only=True)
class Resamples:
    """Statistics of each resample [n_bootstrap]; nan where one is undefined."""

    auroc: Floats
    average_precision: Floats
    f1: Floats
    base_rate: Floats
    curve_precision: Floats
    """[n_thresholds, n_bootstrap], among examples that score at least each threshold."""
    curve_recall: Floats
    bin_precision: Floats
    """[n_bins, n_bootstrap], fraction of positive examples among the firings of each bin."""
    bin_recall: Floats
    """[n_bins, n_bootstrap], fraction of the positive examples that fire in each bin."""


def resample(firings: ScoredFirings, thresholds: Floats, n_bins: int, *, n_bootstrap: int, seed: int) -> Resamples:
    """Resampled statistics; `thresholds` descend, and firings.bin counts from 0 to n_bins - 1."""
    f = firings
    n_documents = len(f.positives)
    order = np.argsort(-f.value, kind="stable")
    value, match, document = f.value[order], f.match[order], f.document[order]
    # A slot is a distinct score that holds a positive item; a score that holds none joins the next slot below it.
    group = np.cumsum(np.concatenate([[False], value[1:] != value[:-1]])) if len(value) else np.zeros(0, dtype=np.int64)
    n_groups = int(group[-1]) + 1 if len(group) else 0
    holds = np.bincount(group[match], minlength=n_groups) > 0
    slot = (np.cumsum(holds) - holds)[group] if n_groups else group
    n_slots = int(holds.sum())
    tied = ~match & holds[group] if n_groups else match
    inside = slot < n_slots
    step = np.searchsorted(-thresholds, -value, side="left")  # the first threshold that a value reaches
    reached = step < len(thresholds)
    by_slot, by_step, by_bin = (n_slots, n_documents), (len(thresholds), n_documents), (n_bins, n_documents)
    slots_hit, slots_miss = (_counts(slot, document, m & inside, by_slot) for m in (match, ~match))
    slots_tied = _counts(slot, document, tied, by_slot)
    steps_hit, steps_miss = (_counts(step, document, m & reached, by_step) for m in (match, ~match))
    bins_hit, bins_miss = (_counts(f.bin[order], document, m, by_bin) for m in (match, ~match))
    misses = np.bincount(document[~match], minlength=n_documents)

    parts: list[tuple[Floats, ...]] = []
    block = max(1, min(n_bootstrap, BLOCK_CELLS // max(n_documents, n_slots, len(thresholds), 1)))
    for weights in count_blocks(n_documents, n_bootstrap, np.random.default_rng(seed), block):
        P, N = f.positives @ weights, f.negatives @ weights
        gained = slots_hit @ weights
        tp, fp = np.cumsum(gained, axis=0), np.cumsum(slots_miss @ weights, axis=0)
        silent = P - gained.sum(axis=0), N - misses @ weights
        lower = N - fp
        if slots_tied.nnz:
            lower += 0.5 * (slots_tied @ weights)
        pairs = np.einsum("ij,ij->j", gained, lower) + 0.5 * silent[0] * silent[1]
        area = np.einsum("ij,ij->j", gained, tp / np.maximum(tp + fp, 1)) + silent[0] * _ratio(P, P + N)
        f1 = (2 * tp / np.maximum(tp + fp + P, 1)).max(axis=0, initial=0.0)
        hit, miss = np.cumsum(steps_hit @ weights, axis=0), np.cumsum(steps_miss @ weights, axis=0)
        bin_hit = bins_hit @ weights
        parts.append(
            (
                _ratio(pairs, P * N),
                _ratio(area, P),
                np.where(P > 0, f1, np.nan),
                _ratio(P, P + N),
                _ratio(hit, hit + miss),
                _ratio(hit, P),
                _ratio(bin_hit, bin_hit + bins_miss @ weights),
                _ratio(bin_hit, P),
            )
        )
    columns = zip(*parts, strict=True)  # in the order of the fields of Resamples
    return Resamples(**{f.name: np.concatenate(c, axis=-1) for f, c in zip(fields(Resamples), columns, strict=True)})


def _counts(row: Ints, document: Ints, keep: npt.NDArray[np.bool_], shape: tuple[int, int]) -> sparse.csr_array:
    """How many of the kept examples lie in each row and document [n_rows, n_documents]."""
    ones = np.ones(int(keep.sum()))
    return sparse.coo_array((ones, (row[keep], document[keep])), shape=shape).tocsr()


def _ratio(a: Floats, b: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(b > 0, a / b, np.nan)
