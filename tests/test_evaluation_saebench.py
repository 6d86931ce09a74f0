"""Sparse probing: the statistics against scikit-learn, the means against one document at a time, hand-made oracles."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn import metrics

import saekit as sk
from conftest import HOOK, tiny_sae
from saekit.activations import common_token_filter
from saekit.errors import ConfigError, DataError, MismatchError, UnknownNameError
from saekit.evaluation.saebench.pooled import choose_documents, pool, random_sae
from saekit.evaluation.saebench.probes import fit_probe, probe_metrics, split_rows, strongest
from saekit.evaluation.saebench.sparse_probing import probe_classes

CLASSES = ("bridge", "other")


def one_feature_a_class(n: int = 40, n_classes: int = 3, d_in: int = 12, noise: float = 0.02, seed: int = 0):
    """Rows of x = y-th axis + noise, and the features of an SAE that reads the axes off: one for each class."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(n_classes), n)
    x = noise * rng.standard_normal((len(y), d_in))
    x[np.arange(len(y)), y] += 1.0
    return x, y, np.where(x > 0.5, x, 0.0)


def probed(values, y, k, *, seed=0, choose="difference"):
    split = split_rows(y, 0.4, seed)
    weights = np.ones((1, len(split[1])))
    return probe_classes(values, y, int(y.max()) + 1, split, weights, k, choose)


def test_measures_are_those_of_scikit_learn_with_weights_and_ties():
    rng = np.random.default_rng(0)
    score, y = rng.integers(-3, 4, 60).astype(float), rng.random(60) < 0.3
    weights = np.concatenate([np.ones((1, 60)), rng.integers(0, 4, (5, 60))]).astype(float)
    for row, found in zip(weights, probe_metrics(score, y, weights).T, strict=True):
        known = {"sample_weight": row}
        assert found[0] == pytest.approx(metrics.accuracy_score(y, score > 0, **known))
        assert found[1] == pytest.approx(metrics.balanced_accuracy_score(y, score > 0, **known))
        assert found[2] == pytest.approx(metrics.roc_auc_score(y, score, **known))


def test_a_probe_gives_its_weights_in_the_units_of_the_rows():
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 4)) * [1, 10, 0.1, 1] + [0, 5, 0, 100]
    y = x[:, 1] + rng.standard_normal(50) > 5
    scaler = StandardScaler().fit(x)
    plain = LogisticRegression(class_weight="balanced", max_iter=1000).fit(scaler.transform(x), y)
    np.testing.assert_allclose(fit_probe(x, y).scores(x), plain.decision_function(scaler.transform(x)), atol=1e-6)
    with pytest.raises(DataError, match="a probe needs rows of both classes"):
        fit_probe(x, np.ones(50, dtype=bool))


@pytest.mark.parametrize("choose", ["difference", "separation"])
def test_the_strongest_columns_of_sparse_and_dense_rows(choose):
    rng = np.random.default_rng(0)
    y = np.arange(30) < 10
    dense = rng.random((30, 8)) * (rng.random((30, 8)) < 0.5)
    dense[y, 3] += 5
    dense[:, 6] = 10 * rng.random(30) + 3.0 * y  # loud: a large difference of means, badly separated
    dense[:, 0] = 0
    size = np.abs(dense[y].mean(0) - dense[~y].mean(0))
    if choose == "separation":
        size = size / np.maximum(np.sqrt((10 * dense[y].var(0) + 20 * dense[~y].var(0)) / 30), 1e-9)
    expected = np.argsort(-size, kind="stable")[:3]
    assert strongest(dense, y, 3, choose).tolist() == expected.tolist()
    assert strongest(sparse.csr_array(dense), y, 3, choose).tolist() == expected.tolist()
    assert expected[0] == 3


def test_the_split_divides_every_class():
    y = np.repeat([0, 1, 2], [20, 5, 2])
    train, test = split_rows(y, 0.4, 0)
    assert sorted([*train, *test]) == list(range(27))
    assert np.bincount(y[test]).tolist() == [8, 2, 1] and split_rows(y, 0.4, 0)[0].tolist() == train.tolist()
    with pytest.raises(DataError, match="too few documents to be split"):
        split_rows(np.array([0, 0, 1]), 0.4, 0)
    with pytest.raises(ConfigError, match="fraction_held_out is not a fraction"):
        split_rows(y, 1.0, 0)


def test_one_feature_for_each_class_is_probed_perfectly():
    x, y, acts = one_feature_a_class()
    for values in (sparse.csr_array(acts), acts):
        found, used = probed(values, y, 1)
        assert (found == 1).all() and used == [(0,), (1,), (2,)]
    assert (probed(x, y, None)[0] == 1).all()


def test_features_that_know_nothing_are_probed_near_chance():
    _, y, _ = one_feature_a_class(n=300)
    acts = np.random.default_rng(1).random((len(y), 50))
    balanced, auroc = probed(sparse.csr_array(acts), y, 5)[0][:, 1:, 0].mean(0)
    assert balanced == pytest.approx(0.5, abs=0.06) and auroc == pytest.approx(0.5, abs=0.06)


def test_a_random_dictionary_falls_short_of_the_one_that_holds_the_classes():
    x, y, acts = one_feature_a_class(n=60, d_in=64, noise=0.35)
    random = random_sae(torch.from_numpy(x).float(), 64, 4.0, seed=3)
    held = probed(acts, y, 1)[0][:, 1, 0].mean()
    blind = probed(random.encode(torch.from_numpy(x).float()).detach().double().numpy(), y, 1)[0][:, 1, 0].mean()
    assert held > 0.9 and blind < held - 0.15


def test_separation_is_not_fooled_by_a_loud_feature():
    _, y, acts = one_feature_a_class(n=60)
    rng = np.random.default_rng(0)
    loud = np.concatenate([acts, 100 * rng.random((len(y), 5))], axis=1)
    assert probed(loud, y, 1)[0][:, 1, 0].mean() < 0.7
    assert probed(loud, y, 1, choose="separation")[0][:, 1, 0].mean() == 1


def test_means_of_documents_are_those_of_their_tokens_one_at_a_time(model, corpus):
    saes = [tiny_sae(model, activation="relu"), tiny_sae(model, seed=3)]
    documents = list(corpus.take(9))
    pooled = pool(model, saes, documents, hook_name=HOOK, length=24, batch_size=4, progress=False)
    assert pooled.document.tolist() == list(range(9))
    for row, document in enumerate(documents):
        ids = model.tokenize(document.text)[:24]
        x = model.activations([ids], HOOK)[0][[i not in model.special_ids for i in ids]].clone()
        assert pooled.n_tokens[row] == len(x)
        np.testing.assert_allclose(pooled.x[row], x.double().mean(0), atol=1e-6)
        for sae, acts in zip(saes, pooled.feature_acts, strict=True):
            with torch.no_grad():
                np.testing.assert_allclose(acts[[row]].toarray()[0], sae.encode(x).double().mean(0), atol=1e-5)


def test_the_random_sae_has_the_sizes_and_the_sparsity_of_the_one_it_stands_for(model, corpus):
    pooled = pool(model, [tiny_sae(model, k=4)], list(corpus.take(9)), hook_name=HOOK, length=24, progress=False)
    acts, random = pooled.feature_acts[0], pooled.random_acts[0]
    assert random.shape == acts.shape and pooled.random_W_dec[0].shape == (64, 32)
    assert abs(random - acts).max() > 0.01
    sae = random_sae(torch.randn(50, 8) + 3, 16, 3.2, seed=0)
    assert sae.k == 3 and float(sae.b_dec.detach().mean()) == pytest.approx(3, abs=0.3)


def test_a_document_without_a_kept_token_has_no_row(model, sae):
    documents = [sk.Document(t) for t in ("the cat", "", "a mat")]
    pooled = pool(model, [sae], documents, hook_name=HOOK, length=16, progress=False)
    assert pooled.document.tolist() == [0, 2] and len(pooled.x) == 2


def test_tokens_count_when_the_token_filter_of_every_sae_keeps_them(model):
    token_filters = [sk.TokenFilter(special_ids=(0,), max_norm=9.0), sk.TokenFilter(special_ids=(1,), max_norm=5.0)]
    saes = []
    for token_filter in token_filters:
        saes.append(tiny_sae(model))
        saes[-1].config = saes[-1].config.replace(token_filter=token_filter)
    assert common_token_filter(model, saes, HOOK) == sk.TokenFilter(special_ids=(0, 1), max_norm=5.0)
    assert common_token_filter(model, saes[:1], HOOK) is token_filters[0]


def test_documents_are_drawn_by_class_with_a_seed(corpus):
    pick = [choose_documents(corpus, lambda d: d["topic"], 5, seed) for seed in (0, 0, 1)]
    texts = [[d.text for d in documents] for documents, _ in pick]
    assert texts[0] == texts[1] != texts[2]
    assert sorted(pick[0][1]) == ["bridge"] * 5 + ["other"] * 5
    assert len(choose_documents(corpus, lambda d: d["topic"] if d["topic"] == "bridge" else None, None, 0)[0]) == 10


def test_the_function_runs_the_model_once_for_all_saes(model, corpus, monkeypatch):
    saes = [tiny_sae(model), tiny_sae(model, d_sae=48, seed=5)]
    n_runs = []
    real = type(model).activations
    monkeypatch.setattr(type(model), "activations", lambda self, *a, **k: n_runs.append(1) or real(self, *a, **k))
    known = {"label": "topic", "classes": CLASSES, "ks": (2, 1), "length": 24, "progress": False}
    one = sk.sparse_probing(model, saes[0], corpus, **known)
    single = len(n_runs)
    both = sk.sparse_probing(model, saes, corpus, **known)
    assert len(n_runs) == 2 * single and len(both) == 2
    pd.testing.assert_frame_equal(one.to_frame(), both[0].to_frame())
    assert one.ks == (1, 2) and one.classes == CLASSES and one.n_train + one.n_test == 40
    assert "d_sae 48" in both[1].sae


def test_a_result_reads_well(model, corpus, sae):
    r = sk.sparse_probing(model, sae, corpus, label="topic", ks=(1, 2), length=24, progress=False)
    text = str(r)
    assert text.startswith("Sparse probing of 'topic': 2 classes, 24 training and 16 held-out documents")
    for name in ("SAE features k = 1", "random SAE's features k = 2", "dimensions of x k = 1", "all of x", "majority"):
        assert name in text
    assert r.score(1) == r.to_frame().loc[0, "balanced_accuracy"] and r.score(1, probe="majority class") == 0.5
    assert len(r.by_class) == 2 * len(r.summary) and all(len(f) == 2 for f in r.by_class.query("k == 2").features)
    assert r.by_class.query("probe == 'majority class'").accuracy.tolist() == [0.75, 0.75]
    for m in ("accuracy", "balanced_accuracy", "auroc"):
        known = r.summary[r.summary["probe"] != "majority class"]
        assert ((known[f"{m}_low"] <= known[m]) & (known[m] <= known[f"{m}_high"])).all()
    with pytest.raises(UnknownNameError, match="did you mean 'accuracy'"):
        r.score(1, "acuracy")
    with pytest.raises(UnknownNameError, match="unknown probe"):
        r.score(7)


def test_mistakes_are_named(model, corpus, sae):
    def run(**changes):
        return sk.sparse_probing(model, sae, corpus, **{"label": "topic", "length": 16, "progress": False} | changes)

    with pytest.raises(UnknownNameError, match="unknown label 'topik'; did you mean 'topic'"):
        run(label="topik")
    with pytest.raises(UnknownNameError, match="unknown value of label 'topic': 'bridges'; did you mean 'bridge'"):
        run(classes=["bridges", "other"])
    with pytest.raises(DataError, match="too few classes to classify"):
        run(min_each=20)
    with pytest.raises(ConfigError, match="ks are not counts"):
        run(ks=(0,))
    with pytest.raises(ConfigError, match="more features than there are"):
        run(ks=(33,))
    with pytest.raises(UnknownNameError, match="unknown way to choose features"):
        run(choose="separate")
    with pytest.raises(MismatchError, match="belongs to another hook point"):
        run(hook_name="blocks.1.hook_resid_post")
    with pytest.raises(ConfigError, match="not an SAE"):
        sk.sparse_probing(model, [], corpus, label="topic")
    other = tiny_sae(model)
    other.config = other.config.replace(hook_name="blocks.1.hook_resid_post")
    with pytest.raises(MismatchError, match="read at different hook points"):
        sk.sparse_probing(model, [sae, other], corpus, label="topic")


@pytest.mark.real
def test_the_packaged_sae_beats_random_directions(default_model):
    """By separation, at k = 1: on this text the difference of class means prefers features that fire loudly everywhere,
    and the best of 4,096 random directions then does as well as an SAE's."""
    sae, corpus = sk.load_sae("smollm2-135m-instruct/4k"), sk.load_corpus("demo")
    topics = (
        "golden_gate_bridge",
        "tower_bridge",
        "rope_bridge",
        "california",
        "cable_cars",
        "alcatraz",
        "pyramids",
        "internet",
    )
    r = sk.sparse_probing(
        default_model, sae, corpus, label="topic", classes=topics, ks=(1,), n_each=15, length=64, progress=False
    )
    assert r.n_train + r.n_test == 118
    for metric in ("balanced_accuracy", "auroc"):
        for baseline in ("random SAE's features", "dimensions of x", "majority class"):
            assert r.score(1, metric) > r.score(1, metric, baseline), str(r)
    assert r.score(1) > 0.8
