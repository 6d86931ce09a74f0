"""Matched features, of similar density and maximum: the same numbers for features that were not chosen."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..index.records import N_ACTIVATION_BINS
from .examples import Activations, ClassifiedExamples
from .measures import MEASURES
from .sparse_statistics import Floats, Ints, Statistics, statistics
from .tables import bin_table, curve_table, curve_thresholds, top_bin

CURVE = ["feature", "threshold", "n_firings", "precision", "recall"]


class Controls(NamedTuple):
    """Matched features: their metrics, curves, and pooled fraction of firings on the concept by activation bin."""

    table: pd.DataFrame
    curves: pd.DataFrame
    fraction: Floats


def matched_controls(examples: ClassifiedExamples, feature: int, n: int, seed: int) -> Controls:
    """Up to n features matched with `feature`, scored on the same examples; none for one that never fires.

    Their F1 is the best of any threshold on these examples, which favours them over the feature's own.
    """
    start = examples.index.by_feature.start
    n = min(n, int((np.diff(start) > 0).sum()) - 1) if start[feature + 1] > start[feature] else 0
    features = [int(f) for f in examples.index.matched_features(feature, n=n, seed=seed)] if n > 0 else []
    if not features:
        columns = ["n_firings", "n_matches", "max", *MEASURES]
        table = pd.DataFrame(columns=columns, index=pd.Index([], name="feature"), dtype=float)
        return Controls(table, pd.DataFrame(columns=CURVE, dtype=float), np.full(N_ACTIVATION_BINS, np.nan))
    frames, curves, bins = [], [], []
    for some, start, example, value in examples.blocks(features):
        frame = feature_table(some, feature_statistics(examples, start, example, value), start, value)
        each = [(example[a:b], value[a:b]) for a, b in pairwise(start)]
        tops = np.array([top_bin(examples, i, v) for i, v in each])
        frames.append(frame.assign(top_precision=tops[:, 0], top_recall=tops[:, 1]))
        for control, (i, v) in zip(some, each, strict=True):
            curves.append(curve_table(examples, i, v, curve_thresholds(v))[CURVE[1:]].assign(feature=control))
            bins.append(bin_table(examples, i, v)[["n_firings", "n_matches"]])
    together = sum(bins[1:], bins[0])
    fraction = (together["n_matches"] / together["n_firings"].where(together["n_firings"] > 0)).to_numpy()
    return Controls(table=pd.concat(frames).drop(columns="gap"), curves=pd.concat(curves)[CURVE], fraction=fraction)


def feature_statistics(examples: ClassifiedExamples, start: Ints, example: Ints, value: Activations) -> Statistics:
    """The statistics of features whose firings lie at start[f] : start[f + 1] of example and value."""
    return statistics(start, value, examples.match[example], examples.n_positive, examples.n - examples.n_positive)


def feature_table(features: Sequence[int], stats: Statistics, start: Ints, value: Activations) -> pd.DataFrame:
    """The statistics as a row for each feature."""
    highest = np.zeros(len(features))
    alive = np.diff(start) > 0
    highest[alive] = np.maximum.reduceat(value, start[:-1][alive]) if alive.any() else 0.0
    names = ["n_firings", "n_matches", "auroc", "average_precision", "f1", "f1_threshold", "gap", "precision", "recall"]
    frame = pd.DataFrame({name: getattr(stats, name) for name in names}, index=pd.Index(features, name="feature"))
    frame.insert(2, "max", highest)
    return frame


def f1_at(examples: ClassifiedExamples, start: Ints, example: Ints, value: Activations, threshold: Floats) -> Floats:
    """The F1 of each feature at and above its threshold: 0 where it is nan, for nothing was found to reach."""
    counts = np.diff(start)
    feature = np.repeat(np.arange(len(counts)), counts)
    above = value >= threshold[feature]
    hits = np.bincount(feature[above & examples.match[example]], minlength=len(counts))
    fired = np.bincount(feature[above], minlength=len(counts))
    with np.errstate(invalid="ignore", divide="ignore"):
        f1: Floats = 2 * hits / (fired + examples.n_positive)
    return np.where(counts > 0, f1, np.nan)
