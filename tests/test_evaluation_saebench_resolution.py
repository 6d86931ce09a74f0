"""What a score can resolve: reseed noise, the smallest difference, and ranks only where SAEs can be told apart."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.stats import t

import saekit as sk
from conftest import tiny_sae
from saekit.errors import ConfigError
from saekit.evaluation.saebench.probes import split_rows
from saekit.evaluation.saebench.resolution import interval, leave_one_out, smallest_difference
from saekit.evaluation.saebench.sparse_probing import probe_classes


def test_the_smallest_difference_is_the_larger_of_both_noises_for_a_difference_of_two():
    values = np.array([0.80, 0.84, 0.78, 0.82])
    noise, resolves = smallest_difference(values, 0.79, 0.81)
    assert noise == pytest.approx(values.std(ddof=1))
    assert resolves == pytest.approx(np.sqrt(2) * t.ppf(0.975, 3) * noise)
    assert smallest_difference(values, 0.5, 1.0)[1] == pytest.approx(np.sqrt(2) * 0.25)
    assert np.isnan(smallest_difference([0.8], 0.79, 0.81)).all()
    assert np.isnan(smallest_difference(values, np.nan, np.nan)[1])


def test_two_evaluations_of_one_sae_differ_by_more_than_it_in_at_most_five_percent():
    """Scores that are normal about one value."""
    rng = np.random.default_rng(0)
    scores = rng.normal(0.7, 0.03, size=(400, 2, 4))
    smallest = np.array([[smallest_difference(s, 0.69, 0.71)[1] for s in pair] for pair in scores])
    beyond = np.abs(scores[:, 0, 0] - scores[:, 1, 0]) > np.sqrt((smallest**2).mean(1))
    assert beyond.mean() < 0.05


def test_intervals_leave_one_document_out_within_its_class():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [30, 20])
    right = rng.random(50) < np.where(y == 1, 0.7, 0.85)
    weights = leave_one_out(50)
    assert weights.shape == (51, 50) and weights[0].sum() == 50 and (weights[1:].sum(1) == 49).all()
    draws = np.mean([weights @ ((y == c) * right) / (weights @ (y == c)) for c in (0, 1)], axis=0)
    value, low, high = interval(draws, "identity", y)
    rates = [right[y == c].mean() for c in (0, 1)]
    error = 0.5 * np.sqrt(sum(p * (1 - p) / ((y == c).sum() - 1) for c, p in enumerate(rates)))
    assert value == pytest.approx(np.mean(rates))
    assert (high - low) / 2 == pytest.approx(error * t.ppf(0.975, 46), rel=0.05)


def test_reseed_noise_is_that_of_other_splits(model, corpus, sae):
    known = {"label": "topic", "ks": (1,), "length": 24, "progress": False}
    r = sk.sparse_probing(model, sae, corpus, n_reseeds=2, **known)
    alone = [sk.sparse_probing(model, sae, corpus, n_reseeds=0, seed=seed, **known) for seed in (0,)]
    row = r.summary.iloc[0]
    assert row["balanced_accuracy"] == alone[0].score(1) and np.isnan(alone[0].summary["balanced_accuracy_sd"]).all()
    assert "reseed noise not measured" in repr(alone[0]) and "smallest difference between two SAEs" in repr(r)
    from saekit.evaluation.saebench.pooled_classes import pool_classes

    hook = sae.config.hook_name
    pooled, y = pool_classes(
        model, [sae], corpus, "topic", r.classes, hook_name=hook, length=24, n_each=100, seed=0, progress=False
    )
    scores = []
    for seed in (0, 1000, 2000):
        split = split_rows(y, 0.4, seed)
        found, _ = probe_classes(
            pooled.feature_acts[0], y, 2, split, np.ones((1, len(split[1]))), 1, choose="separation"
        )
        scores.append(found[:, 1, 0].mean())
    assert row["balanced_accuracy_sd"] == pytest.approx(np.std(scores, ddof=1))
    with pytest.raises(ConfigError, match="n_reseeds is negative"):
        sk.sparse_probing(model, sae, corpus, n_reseeds=-1, **known)


@dataclass(frozen=True)
class Score:
    sae: str
    value: float
    smallest: float = 0.1

    def headline(self, at=None):
        known = {"low": self.value - 0.05, "high": self.value + 0.05, "n_units": 40, "unit": "documents"}
        known |= {"reseed_sd": 0.01, "smallest_difference": self.smallest, "higher_is_better": True}
        return {"what": "a score", "value": self.value, **known}


def test_saes_are_ranked_only_where_they_can_be_told_apart():
    three = [Score("a", 0.60), Score("b", 0.65), Score("c", 0.90)]
    found = sk.compare_scores(three)
    assert found.frame["rank"].isna().tolist() == [True, True, False] and found.frame.loc["c", "rank"] == 1
    assert found.frame["cannot_tell_apart"].tolist() == [("b",), ("a",), ()]
    assert "a: 0.600 [0.550, 0.650], 40 documents; not ranked, cannot tell apart from b" in repr(found)
    assert "c: 0.900 [0.850, 0.950], 40 documents; rank 1" in repr(found)
    assert "2 of 3 cannot be told apart" in found.plot().layout.title.subtitle.text
    unknown = sk.compare_scores([*three[1:], replace(three[0], smallest=np.nan)])
    assert unknown.frame["rank"].isna().all()
    with pytest.raises(ConfigError, match="not scores of one kind"):
        sk.compare_scores(three[:1])


def test_scores_of_each_kind_are_compared(model, corpus):
    saes = [tiny_sae(model), tiny_sae(model, seed=7)]
    known = {"length": 24, "progress": False}
    probed = sk.sparse_probing(model, saes, corpus, label="topic", ks=(1, 2), **known)
    words = [f" {a}{b}{c}" for a in "cdm" for b in "aeiou" for c in "tnrsp"]
    absorbed = sk.feature_absorption(model, saes, words=words, min_f1=0.0, progress=False)
    for results, what in ((probed, "balanced accuracy of 'topic' from 1 features"), (absorbed, "words absorbed")):
        found = sk.compare_scores(results)
        assert found.what == what and len(found.frame) == 2 and found.frame["value"].notna().all()
    assert sk.compare_scores(probed, at=2).what.endswith("from 2 features")
