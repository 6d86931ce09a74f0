"""The statistics of one feature without each document: what jackknife intervals are made of.

Tokens of a document resemble each other, so a document is left out whole, and one that stands in the corpus several
times is one document. The firings are first counted by distinct score and document; every statistic is then computed
again, exactly, from these counts less those of the document. Documents in which the feature is silent and which have
equally many examples leave the same statistics behind, and are computed once.

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), ch. 11; for groups of documents, Kott, The
delete-a-group jackknife, Journal of Official Statistics 17 (2001).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from .sparse_statistics import Floats, Ints

Mask = npt.NDArray[np.bool_]

BLOCK_CELLS = 4_000_000
"""Numbers in the largest array of a block of documents."""
MAX_UNITS = 2_000
"""Documents with the concept, and without it, that are left out one by one; more are left out in `N_GROUPS` groups."""
N_GROUPS = 1_000


@dataclass(frozen=True, kw_only=True)
class ScoredFirings:
    """The firings of one feature and the examples they are scored among. Documents are numbered from 0."""

    value: npt.NDArray[np.float32]
    match: Mask
    document: Ints
    bin: Ints
    """The part of the activation range that each firing lies in."""
    positives: Ints
    """Positive examples of each document [n_documents], silent ones included."""
    negatives: Ints


@dataclass(frozen=True, kw_only=True)
class LeaveOneOut:
    """Statistics without each unit [n_units], a document or a group of them; nan where one is undefined."""

    holds: Mask
    """Whether each unit has the concept [n_units]; what intervals are stratified by."""
    opposes: Mask
    """Whether it has an example that is not of the concept [n_units]."""
    fires: Mask
    """Whether the feature fires in it [n_units]."""
    n_holding: int
    """Documents with the concept."""
    n_opposing: int
    n_firing: int
    """Documents where the feature fires."""
    auroc: Floats
    average_precision: Floats
    f1: Floats
    """At and above a threshold that stays as it is."""
    base_rate: Floats
    precision: Floats
    recall: Floats
    curve_fires: Mask
    """[n_thresholds, n_units], whether an example scores at least each threshold."""
    curve_documents: Ints
    """The same as a number of documents [n_thresholds]."""
    curve_precision: Floats
    """[n_thresholds, n_units], among examples that score at least each threshold."""
    curve_recall: Floats
    bin_fires: Mask
    """[n_bins, n_units]."""
    bin_documents: Ints
    bin_precision: Floats
    """[n_bins, n_units], fraction of positive examples among the firings of each bin."""
    bin_recall: Floats
    """[n_bins, n_units], fraction of the positive examples that fire in each bin."""


def leave_one_out(firings: ScoredFirings, thresholds: Floats, n_bins: int, f1_threshold: float) -> LeaveOneOut:
    """Statistics without each document; `thresholds` descend, and firings.bin counts from 0 to n_bins - 1."""
    f = firings
    unit, holds = _units(f)
    n_units = len(holds)
    positives = np.bincount(unit, f.positives, minlength=n_units)
    negatives = np.bincount(unit, f.negatives, minlength=n_units)
    order = np.argsort(-f.value, kind="stable")
    value, match, of = f.value[order], f.match[order], unit[f.document[order]]
    fires = np.bincount(of, minlength=n_units) > 0
    # Units that leave the same statistics behind share a column: `column` is the column of each unit.
    alike = np.where(fires, np.arange(n_units), -1)
    _, first, column = np.unique(
        np.stack([alike, positives, negatives]), axis=1, return_index=True, return_inverse=True
    )
    column = column.reshape(-1)
    # A slot is a distinct score that holds a positive item; a score that holds none joins the next slot below it.
    group = np.cumsum(np.concatenate([[False], value[1:] != value[:-1]])) if len(value) else np.zeros(0, dtype=np.int64)
    n_groups = int(group[-1]) + 1 if len(group) else 0
    has_hit = np.bincount(group[match], minlength=n_groups) > 0
    slot = (np.cumsum(has_hit) - has_hit)[group] if n_groups else group
    n_slots = int(has_hit.sum())
    tied = ~match & has_hit[group] if n_groups else match
    inside = slot < n_slots
    step = np.searchsorted(-thresholds, -value, side="left")  # the first threshold that a value reaches
    reached = step < len(thresholds)
    above = np.zeros(len(value), dtype=np.int64)
    best = value >= f1_threshold
    bins = f.bin[order]

    def counts(row: Ints, keep: Mask, n_rows: int) -> _Without:
        ones = np.ones(int(keep.sum()))
        table = sparse.coo_array((ones, (row[keep], of[keep])), shape=(n_rows, n_units)).tocsc()
        return _Without(table[:, first], np.asarray(table.sum(axis=1)).reshape(-1))

    slots_hit, slots_miss, slots_tied = (
        counts(slot, keep, n_slots) for keep in (match & inside, ~match & inside, tied & inside)
    )
    steps_hit, steps_miss = (counts(step, keep & reached, len(thresholds)) for keep in (match, ~match))
    bins_hit, bins_miss = (counts(bins, keep, n_bins) for keep in (match, ~match))
    best_hit, best_miss = (counts(above, keep & best, 1) for keep in (match, ~match))
    all_hit, all_miss = (counts(above, keep, 1) for keep in (match, ~match))

    parts: list[tuple[Floats, ...]] = []
    block = max(1, BLOCK_CELLS // max(n_slots, len(thresholds), n_bins, 1))
    for begin in range(0, len(first), block):
        at = slice(begin, begin + block)
        P, N = positives.sum() - positives[first[at]], negatives.sum() - negatives[first[at]]
        gained = slots_hit[at]
        tp, fp = np.cumsum(gained, axis=0), np.cumsum(slots_miss[at], axis=0)
        hits, misses = all_hit[at][0], all_miss[at][0]
        silent = P - hits, N - misses
        pairs = np.einsum("ij,ij->j", gained, N - fp + 0.5 * slots_tied[at]) + 0.5 * silent[0] * silent[1]
        area = np.einsum("ij,ij->j", gained, tp / np.maximum(tp + fp, 1)) + silent[0] * _ratio(P, P + N)
        hit, miss = np.cumsum(steps_hit[at], axis=0), np.cumsum(steps_miss[at], axis=0)
        bin_hit = bins_hit[at]
        best_tp = best_hit[at][0]
        parts.append(
            (
                _ratio(pairs, P * N),
                _ratio(area, P),
                np.where(P > 0, _ratio(2 * best_tp, best_tp + best_miss[at][0] + P), np.nan),
                _ratio(P, P + N),
                _ratio(hits, hits + misses),
                _ratio(hits, P),
                _ratio(hit, hit + miss),
                _ratio(hit, P),
                _ratio(bin_hit, bin_hit + bins_miss[at]),
                _ratio(bin_hit, P),
            )
        )
    names = ["auroc", "average_precision", "f1", "base_rate", "precision", "recall"]
    names += ["curve_precision", "curve_recall", "bin_precision", "bin_recall"]
    columns = {
        name: np.concatenate(c, axis=-1)[..., column] for name, c in zip(names, zip(*parts, strict=True), strict=True)
    }
    document = f.document[order]
    in_bin = np.unique(bins * len(f.positives) + document) // max(len(f.positives), 1)
    first_step = np.full(len(f.positives), len(thresholds))
    np.minimum.at(first_step, document, step)
    of_step = np.sort(first_step)
    unit_step = np.full(n_units, len(thresholds))
    np.minimum.at(unit_step, of, step)
    bin_fires = np.zeros((n_bins, n_units), dtype=bool)
    bin_fires[bins, of] = True
    return LeaveOneOut(
        holds=holds,
        opposes=negatives > 0,
        fires=fires,
        n_holding=int((f.positives > 0).sum()),
        n_opposing=int((f.negatives > 0).sum()),
        n_firing=len(np.unique(document)),
        curve_fires=unit_step[None] <= np.arange(len(thresholds))[:, None],
        curve_documents=np.searchsorted(of_step, np.arange(len(thresholds)), side="right"),
        bin_fires=bin_fires,
        bin_documents=np.bincount(in_bin, minlength=n_bins),
        **columns,
    )


def _units(f: ScoredFirings) -> tuple[Ints, Mask]:
    """The unit that each document is left out in, and whether each unit has the concept."""
    holds = f.positives > 0
    unit, last, of_units = np.zeros(len(holds), dtype=np.int64), 0, []
    for with_concept in (False, True):
        here = np.flatnonzero(holds == with_concept)
        n = len(here) if len(here) <= MAX_UNITS else N_GROUPS
        if n:
            unit[here] = last + np.arange(len(here)) % n
        of_units.append(np.full(n, with_concept))
        last += n
    return unit, np.concatenate(of_units)


@dataclass(frozen=True)
class _Without:
    """Counts [n_rows] without each of some columns: the totals less the column's own."""

    table: sparse.csc_array
    total: Floats

    def __getitem__(self, columns: slice) -> Floats:
        without: Floats = self.total[:, None] - self.table[:, columns].toarray()
        return without


def _ratio(a: Floats, b: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(b > 0, a / b, np.nan)
