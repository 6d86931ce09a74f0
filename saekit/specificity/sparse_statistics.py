"""Exact ranking statistics of sparse scores, for one feature or for thousands at once.

A feature's score is its activation, zero on most examples (tokens or documents), so all silent examples are one tie
group at the bottom of the ranking: the sorted firings and the number of positive and negative examples are enough.

Definitions are scikit-learn's: AUROC counts a tie between a positive and a negative as one half; average precision is
sum over distinct scores of (recall gained) x precision, with no interpolation. F1 is the best over thresholds above 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

KEY_LIMIT = 1 << 31
"""Features of one call: a sort key holds the feature, the 31 bits of a positive float32 and one bit of label."""


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """One value a feature. nan where a statistic is undefined: no firing, no positive or no negative example."""

    n_firings: Ints
    n_matches: Ints
    """Firings on positive examples."""
    auroc: Floats
    average_precision: Floats
    f1: Floats
    """The best F1 of any threshold above zero."""
    f1_threshold: Floats
    """The activation at and above which that F1 is reached."""
    gap: Floats
    """From there down to the next lower activation, or to 0 where there is none."""
    precision: Floats
    """Fraction of firings that are on positive examples."""
    recall: Floats
    """Fraction of positive examples with a firing."""


def statistics(
    start: Ints, value: npt.NDArray[np.float32], match: npt.NDArray[np.bool_], n_positive: int, n_negative: int
) -> Statistics:
    """Statistics of the features whose firings lie at start[f] : start[f + 1] of `value` (> 0) and `match`.

    n_positive and n_negative count all examples, silent ones included. One sort, no loop over features, nothing dense.
    """
    n_features = len(start) - 1
    counts = np.diff(start)
    alive = counts > 0
    firsts = start[:-1][alive]
    n_matches = np.zeros(n_features, dtype=np.int64)
    auroc, ap, f1, f1_threshold, gap, precision, recall = (np.full(n_features, np.nan) for _ in range(7))
    if len(firsts):
        bits, hit = _sorted(counts, value, match)
        end = np.ones(len(bits), dtype=bool)
        end[:-1] = bits[1:] != bits[:-1]
        end[start[1:][alive] - 1] = True
        hits = np.cumsum(hit)
        n_matches[alive] = hits[start[1:][alive] - 1] - (hits[firsts] - hit[firsts])
        # Only distinct scores that hold a positive example matter: the others change no statistic.
        ends = np.flatnonzero(end)
        before = np.concatenate([[0], hits[ends[:-1]]])
        useful = hits[ends] > before
        begin = np.concatenate([[0], ends[:-1] + 1])[useful]
        ends, before = ends[useful], before[useful]
        feature = np.searchsorted(start, ends, side="right") - 1
        base = hits[start[feature]] - hit[start[feature]]
        gained, tp = hits[ends] - before, hits[ends] - base
        n_above, n_tied = ends + 1 - start[feature], ends + 1 - begin
        fp = n_above - tp

        twice = _sums(feature, gained * (2 * (n_negative - fp) + (n_tied - gained)), n_features)
        silent = n_positive - n_matches, n_negative - (counts - n_matches)
        n_pairs = n_positive * n_negative
        if n_pairs:
            auroc[alive] = ((twice + silent[0] * silent[1]) / (2 * n_pairs))[alive]
        if n_positive:
            area = _sums(feature, gained * (tp / n_above), n_features)
            ap[alive] = ((area + silent[0] * (n_positive / (n_positive + n_negative))) / n_positive)[alive]
            recall[alive] = n_matches[alive] / n_positive
            f1[alive] = 0.0
            scores = 2 * tp / (n_above + n_positive)
            np.maximum.at(f1, feature, scores)
            best = np.flatnonzero(scores == f1[feature])[::-1]  # the first of equals, written last, stays
            f1_threshold[feature[best]] = bits[ends[best]].view(np.float32)
            ranked = np.append(bits.view(np.float32), 0.0)
            below = np.where(ends + 1 < start[feature + 1], ranked[ends + 1], 0.0)
            gap[feature[best]] = (ranked[ends] - below)[best]
        precision[alive] = n_matches[alive] / counts[alive]
    return Statistics(
        n_firings=counts,
        n_matches=n_matches,
        auroc=auroc,
        average_precision=ap,
        f1=f1,
        f1_threshold=f1_threshold,
        gap=gap,
        precision=precision,
        recall=recall,
    )


def _sorted(
    counts: Ints, value: npt.NDArray[np.float32], match: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.uint32], Ints]:
    """Each feature's firings, strongest first: the bits of their values, in the same order, and their labels."""
    top = np.uint32(0x7FFFFFFF)
    low = (top - np.ascontiguousarray(value, dtype=np.float32).view(np.uint32)).astype(np.uint64) << np.uint64(1)
    low |= match.astype(np.uint64)
    low |= np.repeat(np.arange(len(counts), dtype=np.uint64) << np.uint64(32), counts)
    low.sort()
    return top - ((low >> np.uint64(1)) & np.uint64(top)).astype(np.uint32), (low & np.uint64(1)).astype(np.int64)


def _sums(group: Ints, value: npt.NDArray[Any], n_groups: int) -> npt.NDArray[Any]:
    """Sums of the runs of `group` (ascending), in the dtype of `value`."""
    out = np.zeros(n_groups, dtype=value.dtype)
    if len(group):
        first = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))
        out[group[first]] = np.add.reduceat(value, first)
    return out
