"""The tables of one feature: precision and recall by threshold, and the fraction on the concept by activation bin."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..index.records import N_ACTIVATION_BINS
from ..statistics import jackknife_bounds
from .examples import Activations, ClassifiedExamples, activation_bin_of
from .leave_one_out import LeaveOneOut
from .sparse_statistics import Floats, Ints

N_CURVE = 120
"""Points of the precision-recall curve, at most; dense at the top of the ranking."""


def curve_thresholds(value: Activations) -> Floats:
    """Distinct activations, descending: all of them, or some spread over the ranks that end at the smallest."""
    distinct = np.unique(value)[::-1].astype(np.float64)
    if len(distinct) <= N_CURVE:
        return distinct
    half = N_CURVE // 2
    ranks = np.concatenate([np.geomspace(1, len(distinct), half), np.linspace(1, len(distinct), half)])
    return distinct[np.unique(ranks.round().astype(np.int64)) - 1]


def curve_table(
    examples: ClassifiedExamples,
    example: Ints,
    value: Activations,
    thresholds: Floats,
    without: LeaveOneOut | None = None,
    level: float = math.nan,
) -> pd.DataFrame:
    """A row for each threshold; with intervals and the documents they are over, where `without` is given."""
    order = np.argsort(-value, kind="stable")
    n = np.searchsorted(-value[order], -thresholds, side="right")
    hits = np.concatenate([[0], np.cumsum(examples.match[example][order])])[n]
    frame = pd.DataFrame({"threshold": thresholds, "n_firings": n, "precision": hits / np.maximum(n, 1)})
    frame["recall"] = hits / examples.n_positive if examples.n_positive else np.nan
    if without is not None:
        frame["n_documents"] = without.curve_documents
        strata = without.holds.astype(np.int64)
        for name, informative, within in (("precision", without.curve_fires, None), ("recall", without.holds, strata)):
            low, high = _bounds(frame[name].to_numpy(), getattr(without, f"curve_{name}"), informative, level, within)
            frame[f"{name}_low"], frame[f"{name}_high"] = low, high
    return frame


def bin_table(
    examples: ClassifiedExamples,
    example: Ints,
    value: Activations,
    without: LeaveOneOut | None = None,
    level: float = math.nan,
) -> pd.DataFrame:
    """A row for each tenth of the activation range; n_documents are what the interval of the fraction is over."""
    of = activation_bin_of(value)
    match, n = examples.match[example], np.bincount(of, minlength=N_ACTIVATION_BINS)
    hits = np.bincount(of[match], minlength=N_ACTIVATION_BINS)
    text, n_texts = examples.text_of_document
    pairs = np.unique(of * n_texts + text[examples.document[example]]) // n_texts
    edges = np.linspace(0, float(value.max(initial=0)), N_ACTIVATION_BINS + 1)
    frame = pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "n_firings": n,
            "n_matches": hits,
            "n_documents": np.bincount(pairs, minlength=N_ACTIVATION_BINS),
            "fraction": np.where(n > 0, hits / np.maximum(n, 1), np.nan),
        },
        index=pd.RangeIndex(N_ACTIVATION_BINS, name="bin"),
    )
    if without is not None:
        low, high = _bounds(frame["fraction"].to_numpy(), without.bin_precision, without.bin_fires, level)
        frame["fraction_low"], frame["fraction_high"] = low, high
    return frame


def top_bin(examples: ClassifiedExamples, example: Ints, value: Activations) -> tuple[float, float]:
    """Precision and recall of the firings in the highest activation bin alone."""
    chosen = examples.match[example][activation_bin_of(value) == N_ACTIVATION_BINS - 1]
    if not len(chosen):
        return math.nan, math.nan
    return float(chosen.mean()), float(chosen.sum() / examples.n_positive) if examples.n_positive else math.nan


def _bounds(
    values: Floats, left_out: Floats, informative: npt.NDArray[np.bool_], level: float, strata: Ints | None = None
) -> tuple[Floats, Floats]:
    if not len(values):
        return np.zeros(0), np.zeros(0)
    return jackknife_bounds(values, left_out, strata=strata, informative=informative, level=level)
