"""The statistics of sparse scores against scikit-learn, and their resamples against weighted scikit-learn."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from saekit.specificity.resampling import ScoredFirings, resample
from saekit.specificity.sparse_statistics import statistics
from saekit.statistics import count_blocks


def slow(score: np.ndarray, match: np.ndarray, weight: np.ndarray | None = None) -> dict[str, float]:
    """The statistics of one feature by scikit-learn; nan where they are undefined."""
    w = np.ones(len(score)) if weight is None else weight
    P, N, fires = (w * match).sum(), (w * ~match).sum(), score > 0
    out = dict.fromkeys(("auroc", "average_precision", "f1", "precision", "recall"), math.nan)
    if P and N:
        out["auroc"] = roc_auc_score(match, score, sample_weight=w)
    if P:
        out["average_precision"] = average_precision_score(match, score, sample_weight=w)
        out["recall"] = (w * match * fires).sum() / P
        reached = [(score >= t) for t in np.unique(score[fires])]
        f1 = [2 * (w * match * r).sum() / max((w * r).sum() + P, 1) for r in reached]
        out["f1"] = max(f1, default=0.0)
    if (w * fires).sum():
        out["precision"] = (w * match * fires).sum() / (w * fires).sum()
    return out


@st.composite
def scored_examples(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores with many zeros and ties, labels and documents of some examples."""
    n = draw(st.integers(1, 40))
    score = draw(st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.5, 1.0, 1.5, 2.0, 1e-6, 3e30]), min_size=n, max_size=n))
    match = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    document = draw(st.lists(st.integers(0, 5), min_size=n, max_size=n))
    return np.array(score, dtype=np.float32), np.array(match), np.array(document)


@settings(max_examples=120, deadline=None)
@given(st.lists(scored_examples(), min_size=1, max_size=4))
@pytest.mark.slow
def test_statistics_of_many_features_agree_with_scikit_learn(
    examples: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> None:
    """Features share the examples' labels in use; here each is checked with its own totals, then all in one call."""
    score, match, _ = examples[0]
    scores = [score, *(np.resize(other[0], len(score)) for other in examples[1:])]
    fired = [np.flatnonzero(s) for s in scores]
    start = np.concatenate([[0], np.cumsum([len(f) for f in fired])])
    value = np.concatenate([s[f] for s, f in zip(scores, fired, strict=True)])
    got = statistics(start, value, match[np.concatenate(fired)], int(match.sum()), int((~match).sum()))
    for f, s in enumerate(scores):
        if not (s > 0).any():
            assert all(math.isnan(getattr(got, name)[f]) for name in slow(s, match))
            continue
        for name, expected in slow(s, match).items():
            assert getattr(got, name)[f] == pytest.approx(expected, nan_ok=True, abs=1e-12), name
        if match.any() and got.f1[f] > 0:
            chosen = s >= np.float32(got.f1_threshold[f])
            assert 2 * (match & chosen).sum() / (chosen.sum() + match.sum()) == pytest.approx(got.f1[f])


@settings(max_examples=60, deadline=None)
@given(scored_examples(), st.integers(0, 1000))
@pytest.mark.slow
def test_resamples_agree_with_weighted_scikit_learn(
    examples: tuple[np.ndarray, np.ndarray, np.ndarray], seed: int
) -> None:
    score, match, document = examples
    fired = np.flatnonzero(score)
    firings = ScoredFirings(
        value=score[fired],
        match=match[fired],
        document=document[fired],
        bin=(score[fired] > 1).astype(int),
        positives=np.bincount(document[match], minlength=6),
        negatives=np.bincount(document[~match], minlength=6),
    )
    thresholds = np.unique(score[fired])[::-1].astype(float)
    got = resample(firings, thresholds, 2, n_bootstrap=7, seed=seed)
    weights = np.concatenate(list(count_blocks(6, 7, np.random.default_rng(seed), 7)), axis=1)
    for b in range(7):
        w = weights[document, b]
        expected = slow(score, match, w)
        if w.sum() == 0:
            continue
        for name in ("auroc", "average_precision", "f1"):
            assert getattr(got, name)[b] == pytest.approx(expected[name], nan_ok=True, abs=1e-12), name
        for t, threshold in enumerate(thresholds):
            chosen = (score >= threshold) * w
            precision = (chosen * match).sum() / chosen.sum() if chosen.sum() else math.nan
            assert got.curve_precision[t, b] == pytest.approx(precision, nan_ok=True)
        in_top = (score > 1) * w
        top = (in_top * match).sum() / in_top.sum() if in_top.sum() else math.nan
        assert got.bin_precision[1, b] == pytest.approx(top, nan_ok=True)


def test_a_thousand_resamples_take_about_a_second() -> None:
    rng = np.random.default_rng(0)
    n, n_documents = 400_000, 2_000
    document = np.sort(rng.integers(0, n_documents, n))
    match = (rng.random(n) < 0.05) & (document % 20 == 0)
    fired = np.flatnonzero(rng.random(n) < 0.02 + 0.5 * match)
    firings = ScoredFirings(
        value=rng.random(len(fired), dtype=np.float32),
        match=match[fired],
        document=document[fired],
        bin=rng.integers(0, 10, len(fired)),
        positives=np.bincount(document[match], minlength=n_documents),
        negatives=np.bincount(document[~match], minlength=n_documents),
    )
    start = time.process_time()
    resample(firings, np.linspace(1, 0, 100), 10, n_bootstrap=1000, seed=0)
    assert time.process_time() - start < 5
