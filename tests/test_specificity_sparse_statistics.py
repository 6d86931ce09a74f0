"""The statistics of sparse scores against scikit-learn, and the same without each document."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from saekit.specificity import leave_one_out as module
from saekit.specificity.leave_one_out import ScoredFirings, leave_one_out
from saekit.specificity.sparse_statistics import statistics
from saekit.statistics import jackknife_bounds


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
            assert got.gap[f] == float(s[chosen].min()) - float(s[~chosen].max(initial=0))


def firings_of(score: np.ndarray, match: np.ndarray, document: np.ndarray, n_documents: int) -> ScoredFirings:
    fired = np.flatnonzero(score)
    return ScoredFirings(
        value=score[fired],
        match=match[fired],
        document=document[fired],
        bin=(score[fired] > 1).astype(int),
        positives=np.bincount(document[match], minlength=n_documents),
        negatives=np.bincount(document[~match], minlength=n_documents),
    )


@settings(max_examples=60, deadline=None)
@given(scored_examples(), st.sampled_from([0.5, 1.0, math.nan]))
@pytest.mark.slow
def test_leaving_out_a_document_is_what_scikit_learn_gives_without_it(
    examples: tuple[np.ndarray, np.ndarray, np.ndarray], f1_threshold: float
) -> None:
    score, match, document = examples
    thresholds = np.unique(score[score > 0])[::-1].astype(float)
    firings = firings_of(score, match, document, 6)
    got = leave_one_out(firings, thresholds, 2, f1_threshold)
    held = [d for d in range(6) if not match[document == d].any()] + [
        d for d in range(6) if match[document == d].any()
    ]  # documents without the concept come first
    assert got.holds.tolist() == [bool(match[document == d].any()) for d in held]
    assert got.n_holding == got.holds.sum() and got.n_firing == got.fires.sum() == len(set(document[score > 0]))
    for u, left_out in enumerate(held):
        w = (document != left_out).astype(float)
        assert got.fires[u] == (score[document == left_out] > 0).any()
        if w.sum() == 0:
            continue
        expected = slow(score, match, w)
        for name in ("auroc", "average_precision", "precision", "recall"):
            if name != "recall" or (score > 0).any():
                assert getattr(got, name)[u] == pytest.approx(expected[name], nan_ok=True, abs=1e-12), name
        positives = (w * match).sum()
        assert got.base_rate[u] == pytest.approx(positives / w.sum())
        if positives and not math.isnan(f1_threshold):
            above = (score >= f1_threshold) & (score > 0)
            f1 = 2 * (w * match * above).sum() / ((w * above).sum() + positives)
            assert got.f1[u] == pytest.approx(f1)
        for t, threshold in enumerate(thresholds):
            chosen = (score >= threshold) * w
            precision = (chosen * match).sum() / chosen.sum() if chosen.sum() else math.nan
            assert got.curve_precision[t, u] == pytest.approx(precision, nan_ok=True)
            assert got.curve_fires[t, u] == (score[document == left_out] >= threshold).any()
            assert got.curve_documents[t] == len(set(document[score >= threshold]))
        in_top = (score > 1) * w
        top = (in_top * match).sum() / in_top.sum() if in_top.sum() else math.nan
        assert got.bin_precision[1, u] == pytest.approx(top, nan_ok=True)
        assert got.bin_documents[1] == len(set(document[score > 1]))


def many_documents(n: int, n_documents: int) -> ScoredFirings:
    rng = np.random.default_rng(0)
    document = np.sort(rng.integers(0, n_documents, n))
    match = (rng.random(n) < 0.05) & (document % 5 == 0)
    score = rng.random(n, dtype=np.float32) * (rng.random(n) < 0.02 + 0.5 * match)
    return firings_of(score, match, document, n_documents)


def test_two_thousand_documents_are_left_out_in_about_a_second() -> None:
    firings = many_documents(400_000, 2_000)
    start = time.process_time()
    leave_one_out(firings, np.linspace(1, 0, 100), 10, 0.5)
    assert time.process_time() - start < 5


def test_more_documents_are_left_out_in_groups_and_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    firings = many_documents(60_000, 600)
    strata, bounds = {}, {}
    for kind, most, groups in (("documents", 1_000, 1_000), ("groups", 100, 100)):
        monkeypatch.setattr(module, "MAX_UNITS", most)
        monkeypatch.setattr(module, "N_GROUPS", groups)
        got = leave_one_out(firings, np.linspace(1, 0, 5), 2, 0.5)
        strata[kind] = got.holds
        value = np.array([got.auroc.mean()])
        bounds[kind] = jackknife_bounds(value, got.auroc[None], strata=got.holds.astype(int))
        assert got.n_holding == (firings.positives > 0).sum()
    assert len(strata["groups"]) == 200 and len(strata["documents"]) == 600
    width = {kind: float(high[0] - low[0]) for kind, (low, high) in bounds.items()}
    assert width["groups"] == pytest.approx(width["documents"], rel=0.25)
