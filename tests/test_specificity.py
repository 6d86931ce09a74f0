"""Specificity on an index: the right numbers for the right tokens, the examples behind them, and what a result says."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.metrics import precision_recall_curve

from saekit.corpus import Corpus
from saekit.errors import ConfigError, DataError, UnknownNameError
from saekit.index import FeatureIndex, build_index
from saekit.models import LanguageModel
from saekit.sae import SAE, SAEConfig, TokenFilter
from saekit.specificity import examples, permutation, rank_features, specificity
from saekit.specificity.concepts import Concept
from saekit.specificity.split import split_documents
from saekit.statistics import jackknife_estimate

from .array_index import ArrayIndex
from .test_specificity_sparse_statistics import slow

BRIDGE = Concept.regex("golden gate bridge", name="bridge")


# ---- on an index ----------------------------------------------------------------------------------------------------

N_DOCUMENTS = 60


def planted(strings: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """Features: 0 dead, 1 the bridge exactly, 2 any bridge, 3 noise, 4 the bridge in even documents, 5 to 8 noise."""
    rng = np.random.default_rng(0)
    golden = np.zeros(len(strings), dtype=bool)
    for i in range(2, len(strings)):
        golden[i - 2 : i + 1] |= [
            strings[i - 2 + k].strip() == w for k, w in enumerate(("Golden", "Gate", "Bridge"))
        ] == [True] * 3
    out = np.zeros((len(strings), 9), dtype=np.float32)
    out[:, 1] = golden * (1 + rng.random(len(strings)))
    out[:, 2] = np.char.endswith(strings.astype(str), "Bridge") * (1 + rng.random(len(strings)) + golden)
    out[:, 4] = golden * (documents % 2 == 0) * 2.0
    for f in (3, 5, 6, 7, 8):
        out[:, f] = (rng.random(len(strings)) < 0.1) * rng.random(len(strings))
    return out


@pytest.fixture(scope="module")
def index() -> ArrayIndex:
    rng = np.random.default_rng(1)
    words = ["the", "fog", "sits", "on", "a", "city", "Bridge", "gate"]
    topics = [("golden", "bay", "cats")[i % 3] for i in range(N_DOCUMENTS)]
    middle = {"golden": "the Golden Gate Bridge", "bay": "the Bay Bridge", "cats": "a cat"}
    texts = [f"{' '.join(rng.choice(words, 9))} {middle[t]} {' '.join(rng.choice(words, 9))}" for t in topics]
    return ArrayIndex(texts, {"topic": topics, "number": list(range(N_DOCUMENTS))}, length=32, acts=planted)


def test_a_perfect_feature(index: ArrayIndex) -> None:
    result = specificity(index, 1, BRIDGE, documents="all")
    assert result.auroc.value == result.precision.value == result.recall.value == result.f1.value == 1.0
    assert result.average_precision.value == pytest.approx(1.0)
    exact = stats.binomtest(20, 20).proportion_ci(0.95, method="exact").low  # 20 of 20 documents
    for name in ("auroc", "precision", "recall", "f1"):
        estimate = getattr(result, name)
        assert (estimate.low, estimate.high, estimate.n_units) == (pytest.approx(exact), 1.0, 20)
    assert result.n_positive == 3 * 20 == result.n_firings and result.n_positive_documents == 20
    assert not result.false_positives and not result.misses and len(result.true_positives) == 10
    assert result.summary.startswith("AUROC 1.00 [0.83, 1.00], 20 documents; 7 matched features 0.")
    assert result.specific and result.p_value == pytest.approx(1 / 201) and "p ≤ 0.005" in result.summary
    assert result.notes == (
        "only 7 other features fire on this corpus: fewer controls than the 10 asked for",
        "the threshold of F1 is the best one on these very documents",
    )


@pytest.mark.parametrize("feature", [2, 3, 4])
def test_token_metrics_agree_with_scikit_learn(index: ArrayIndex, feature: int) -> None:
    result = specificity(index, feature, BRIDGE, documents="all")
    score, match = index.acts[:, feature], BRIDGE.token_mask(index)
    for name, expected in slow(score, match).items():
        assert getattr(result, name).value == pytest.approx(expected), name
    assert result.base_rate.value == match.mean()
    precision, recall, thresholds = precision_recall_curve(match, score)
    curve = result.curve.sort_values("threshold")
    known = {float(t): (p, r) for p, r, t in zip(precision, recall, thresholds, strict=False)}
    for row in curve.itertuples():
        assert (row.precision, row.recall) == pytest.approx(known[row.threshold])
        assert row.n_firings == (score >= np.float32(row.threshold)).sum()
        if row.n_firings >= 20:
            assert row.precision_low <= row.precision + 1e-12 and row.precision <= row.precision_high + 1e-12
    top = score > 0.9 * score.max()
    assert result.top_precision.value == pytest.approx(match[top].mean())
    assert result.top_recall.value == pytest.approx((match & top).sum() / match.sum())


def test_document_metrics_use_the_strongest_token(index: ArrayIndex) -> None:
    result = specificity(index, 2, BRIDGE, unit="document", documents="all")
    documents = index.windows.documents.reshape(-1).numpy()[index.kept]
    score = pd.Series(index.acts[:, 2]).groupby(documents).max().to_numpy()
    match = BRIDGE.document_mask(index)
    for name, expected in slow(score, match).items():
        assert getattr(result, name).value == pytest.approx(expected), name
    assert result.n == N_DOCUMENTS and result.n_positive == 20
    best = result.true_positives[0]
    assert best.activation == pytest.approx(score[match].max()) and best.document == np.argmax(score * match)
    assert result.n_documents == result.n


@pytest.mark.parametrize(("unit", "documents"), [("token", "all"), ("document", "all"), ("token", "report")])
def test_intervals_match_a_slow_jackknife_over_documents(index: ArrayIndex, unit: str, documents: str) -> None:
    """Documents are left out, not tokens: the same intervals as computing everything again without each."""
    result = specificity(index, 4, BRIDGE, unit=unit, documents=documents, level=0.9)  # type: ignore[arg-type]
    split = split_documents(index, BRIDGE)
    of = index.windows.documents.reshape(-1).numpy()[index.kept]
    score, match = index.acts[:, 4], BRIDGE.token_mask(index)
    inside = split.mask(documents)[of]  # type: ignore[arg-type]
    of, score, match = of[inside], score[inside], match[inside]
    holds = BRIDGE.document_mask(index)
    if unit == "document":
        score = pd.Series(score).groupby(of).max().to_numpy()
        of = np.unique(of)
        match = holds[of]
    whole = slow(score, match)
    without = pd.DataFrame([slow(score, match, (of != d).astype(float)) for d in np.unique(of)])
    strata = holds[np.unique(of)].astype(int)
    fires = np.array([(score[of == d] > 0).any() for d in np.unique(of)])
    for name in ("auroc", "average_precision", "precision", "recall"):
        estimate = getattr(result, name)
        expected = jackknife_estimate(
            whole[name],
            without[name].to_numpy(),
            strata=strata if name in ("auroc", "recall") else None,
            informative=fires if name == "precision" else strata == 1,
            bias_corrected=name == "average_precision",
            level=0.9,
        )
        assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high), nan_ok=True), name
        assert estimate.n_units == expected.n_units == (fires if name == "precision" else strata).sum()
    assert 0 < result.recall.low < whole["recall"] < result.recall.high < 1


@pytest.mark.slow
def test_rank_features_chooses_on_one_half_and_shows_the_other(index: ArrayIndex) -> None:
    for unit in ("token", "document"):
        for by in ("average_precision", "auroc", "f1", "precision"):
            table = rank_features(index, BRIDGE, unit=unit, by=by, min_firings=1, n_permutations=19)
            assert list(table.index)[:1] == [1] and 0 not in table.index
            assert table[f"choose_{by}"].is_monotonic_decreasing
        for feature, row in table.iterrows():
            result = specificity(index, feature, BRIDGE, unit=unit, n_permutations=19, n_controls=0)
            chosen = specificity(index, feature, BRIDGE, unit=unit, documents="choose", n_permutations=0, n_controls=0)
            for name in ("auroc", "average_precision", "f1", "precision", "recall"):
                estimate = getattr(result, name)
                assert row[name] == pytest.approx(estimate.value, nan_ok=True), name
                ends = (row[f"{name}_low"], row[f"{name}_high"])
                assert ends == pytest.approx((estimate.low, estimate.high), nan_ok=True), name
            assert row[f"choose_{by}"] == getattr(chosen, by).value
            assert row.p_value == result.p_value and row["max"] == result.max_activation
            assert row.n_firings == result.n_firings and row.promoted == [f"p{feature}"]
            assert (row.n_positive_documents, row.n_firing_documents) == (10, result.precision.n_units)
            assert row.f1_threshold == result.f1_threshold == chosen.f1_threshold
    assert table.attrs["documents"] == (
        "chosen on 30 of 60 documents, 10 of them with the concept; shown on the other 30, 10 of them with it"
    )
    assert table.attrs["p_any"] == 0.05 and table.attrs["few"] == ""


@pytest.mark.slow
def test_rank_features_on_all_documents_is_for_those_who_report_elsewhere(index: ArrayIndex) -> None:
    table = rank_features(index, BRIDGE, min_firings=1, split=False, n_permutations=0)
    for feature, row in table.iterrows():
        result = specificity(index, feature, BRIDGE, documents="all", n_permutations=0, n_controls=0)
        assert row.choose_average_precision == row.average_precision == result.average_precision.value
    assert "too good for one chosen on them" in table.attrs["documents"] and math.isnan(table.attrs["p_any"])


def test_rank_features_leaves_out_rare_ones_and_scans_in_blocks(
    index: ArrayIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = rank_features(index, BRIDGE, n=4, min_firings=1)
    assert len(whole) == 4
    monkeypatch.setattr(examples, "BLOCK_FIRINGS", 70)
    monkeypatch.setattr(permutation, "BLOCK_CELLS", 402)
    permutation._TESTS.clear()
    pd.testing.assert_frame_equal(rank_features(index, BRIDGE, n=4, min_firings=1), whole)
    fired = (index.acts > 0).sum(0)
    assert set(rank_features(index, BRIDGE, min_firings=60).index) == set(np.flatnonzero(fired >= 60))
    assert rank_features(index, BRIDGE, min_firings=10_000).empty


def test_the_table_by_interval(index: ArrayIndex) -> None:
    result = specificity(index, 2, BRIDGE, documents="all")
    score, match = index.acts[:, 2], BRIDGE.token_mask(index)
    assert len(result.bins) == 10 and result.bins.n_firings.sum() == result.n_firings
    for row in result.bins.itertuples():
        inside = (score > row.low) & (score <= np.float32(row.high))
        assert row.n_firings == inside.sum() and row.n_matches == (inside & match).sum()
        assert row.fraction == pytest.approx(match[inside].mean()) if inside.any() else math.isnan(row.fraction)
    frame = result.evidence_frame()
    sampled = frame[frame.group == "bin sample"]
    assert set(sampled.bin) == set(result.bins.index[result.bins.n_firings > 0])
    for row in sampled.itertuples():
        assert result.bins.low[row.bin] < row.activation <= np.float32(result.bins.high[row.bin])


def test_examples_are_what_they_are_called(index: ArrayIndex) -> None:
    result = specificity(index, 2, BRIDGE, documents="all", n_permutations=0)
    match = dict(zip(index.kept, BRIDGE.token_mask(index), strict=True))
    act = dict(zip(index.kept, index.acts[:, 2], strict=True))
    length = index.windows.length
    for contexts, belongs, fires in (
        (result.true_positives, True, True),
        (result.false_positives, False, True),
        (result.misses, True, False),
    ):
        assert contexts and len({c.document for c in contexts}) == len(contexts)
        for c in contexts:
            at = c.window * length + c.pos
            assert match[at] == belongs and (act[at] > 0) == fires and c.activation == act[at]
            assert c.acts[c.centre] == c.activation and len(c.acts) == len(c.tokens)
            assert c.tokens == index.token_strings(
                np.arange(c.window * length + c.start, c.window * length + c.start + len(c.tokens))
            )
            assert c.labels["topic"] in ("golden", "bay", "cats")
    strongest = [c.activation for c in result.false_positives]
    assert strongest == sorted(strongest, reverse=True)
    assert result.misses[0].text.count("[") == 1


def test_where_the_activation_goes_by_label(index: ArrayIndex) -> None:
    result = specificity(index, 2, BRIDGE, documents="all", n_permutations=0)
    table = result.by_label[result.by_label.label == "topic"].set_index("value")
    documents = index.windows.documents.reshape(-1).numpy()[index.kept]
    topic = index.documents.topic.to_numpy()[documents]
    score, match = index.acts[:, 2].astype(float), BRIDGE.token_mask(index)
    assert table.activation_fraction.sum() == pytest.approx(1)
    for value, row in table.iterrows():
        here, fires = topic == value, score > 0
        assert row.n == here.sum() and row.n_firings == (here & fires).sum()
        assert row.activation_fraction == pytest.approx(score[here].sum() / score.sum())
        assert row.precision == pytest.approx(match[here & fires].mean())
    assert table.precision["bay"] == 0 and table.activation_fraction.is_monotonic_decreasing


@pytest.mark.slow
def test_controls(index: ArrayIndex) -> None:
    result = specificity(index, 2, BRIDGE, documents="all", n_permutations=0, n_controls=4)
    assert list(result.controls.index) == [1, 3, 4, 5]
    for feature, row in result.controls.iterrows():
        other = specificity(index, feature, BRIDGE, documents="all", n_permutations=0, n_controls=0)
        for name in ("auroc", "average_precision", "precision", "top_precision", "top_recall"):
            assert row[name] == getattr(other, name).value
    frame = result.to_frame()
    assert frame.controls_best["auroc"] == result.controls.auroc.max() == 1
    assert frame.controls_mean["recall"] == result.controls.recall.mean()
    curves = result.control_curves
    one = specificity(index, 4, BRIDGE, documents="all", n_permutations=0, n_controls=0).curve
    mine = curves[curves.feature == 4].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine.drop(columns="feature"), one[["threshold", "n_firings", "precision", "recall"]])
    tops = [index.acts[:, f] > 0.9 * index.acts[:, f].max() for f in (1, 3, 4, 5)]
    pooled = sum((BRIDGE.token_mask(index) & t).sum() for t in tops) / sum(t.sum() for t in tops)
    assert result.bins.controls_fraction[9] == pytest.approx(pooled)
    assert "matched" not in specificity(index, 2, BRIDGE, documents="all", n_permutations=0, n_controls=0).summary


def test_undefined_numbers_are_nan_and_say_why(index: ArrayIndex) -> None:
    silent = specificity(index, 0, BRIDGE)
    for name in ("auroc", "average_precision", "f1", "precision", "recall", "top_precision", "top_recall"):
        estimate = getattr(silent, name)
        assert math.isnan(estimate.value) and estimate.reason == "feature 0 never fires on this corpus"
    assert silent.curve.empty and silent.controls.empty and silent.evidence_frame().group.unique().tolist() == ["miss"]
    assert "undefined: feature 0 never fires" in str(silent) and "nan" not in str(silent)
    everything = specificity(index, 3, Concept.labels(topic=["golden", "bay", "cats"]))
    assert math.isnan(everything.auroc.value) and "every scored token belongs" in everything.auroc.reason
    assert everything.average_precision.value == 1.0


def test_the_report(index: ArrayIndex) -> None:
    result = specificity(index, 2, BRIDGE, n_controls=3)
    text = str(result)
    assert text == repr(result) and len(text.splitlines()) < 60 and max(map(len, text.splitlines())) <= 130
    assert text.startswith(f"Feature 2 for 'bridge': AUROC {result.auroc}\n  on 30 of 60 documents, none of which")
    assert result.auroc.n_units == 10 and str(result.auroc).endswith(", 10 documents")
    for part in (
        "AUROC",
        "F1 at its threshold",
        "95% interval     documents",
        "for a chosen one: by document AUROC",
        "the best of all 8 features reaches",
        "fair comparison for a feature that was fixed in advance",
        "precision, top bin",
        "3 matched features: mean (best)",
        "strongest off the concept",
    ):
        assert part in text
    assert list(result.to_frame().index)[:3] == ["base_rate", "auroc", "average_precision"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.feature = 3  # type: ignore[misc]


def test_bad_settings(index: ArrayIndex) -> None:
    with pytest.raises(ConfigError, match="unknown unit"):
        specificity(index, 1, BRIDGE, unit="word")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="cannot rank by that"):
        rank_features(index, BRIDGE, by="luck")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="level of an interval"):
        specificity(index, 1, BRIDGE, level=95)
    for bad in (-1, 2.5, True):
        with pytest.raises(ConfigError, match="n_permutations is negative|n_permutations is not a"):
            specificity(index, 1, BRIDGE, n_permutations=bad)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="n_permutations is negative|n_permutations is not a"):
            rank_features(index, BRIDGE, n_permutations=bad)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="documents"):
        specificity(index, 1, BRIDGE, documents="test")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="matches no indexed token"):
        specificity(index, 1, Concept.regex("submarine"))


# ---- on a real index ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, model: LanguageModel, corpus: Corpus) -> FeatureIndex:
    torch.manual_seed(0)
    config = SAEConfig(
        d_in=model.d_model,
        d_sae=64,
        activation="topk",
        k=4,
        hook_name="blocks.0.hook_resid_post",
        model_name=model.name,
        weight_processing=model.weight_processing,
        token_filter=TokenFilter(special_ids=tuple(sorted(model.special_ids))),
    )
    out = tmp_path_factory.mktemp("scoring") / "index"
    return build_index(model, SAE(config), corpus, out=out, length=32, progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["token", "document"])
def test_a_built_index_agrees_with_dense_activations(built: FeatureIndex, unit: str) -> None:
    concept = Concept.keywords(["bridge"])
    table = rank_features(built, concept, unit=unit, n=64, min_firings=1, split=False)  # type: ignore[arg-type]
    dense = built.matrix.toarray()
    match, documents = concept.token_mask(built), built.windows.documents.reshape(-1).numpy()[built.kept]
    assert "".join(built.token_strings(built.kept[match])) == "bridge" * (match.sum() // 6)
    if unit == "document":
        dense = pd.DataFrame(dense).groupby(documents).max().to_numpy()
        match = concept.document_mask(built)
    assert set(table.index) == set(np.flatnonzero(dense.any(0)))
    for feature, row in table.iterrows():
        for name, expected in slow(dense[:, feature], match).items():
            assert row[name] == pytest.approx(expected), (feature, name)


def test_a_built_index_has_the_same_intervals_and_contexts(built: FeatureIndex) -> None:
    feature = int(built.features.n_firings.idxmax())
    record = built.feature(feature)
    result = specificity(built, feature, Concept.labels(topic="bridge"), documents="all", n_controls=5)
    assert list(result.bins.n_firings) == [i.count for i in record.bins]
    assert np.allclose(result.bins.high, [i.high for i in record.bins])
    assert len(result.controls) == 5 and feature not in result.controls.index
    assert result.max_activation == pytest.approx(record.max) and result.n == built.n_tokens
    assert set(result.by_label.label) == {"topic", "style"}
    for context in result.true_positives:
        assert context.activation == pytest.approx(context.acts[context.centre])
        assert context.labels["topic"] == "bridge"
    with pytest.raises(UnknownNameError, match="no feature 64"):
        specificity(built, 64, Concept.labels(topic="bridge"))
