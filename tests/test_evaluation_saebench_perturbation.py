"""Probe perturbation and spurious correlations on sets where the right score is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

import saekit as sk
from conftest import HOOK, tiny_sae
from saekit.errors import ConfigError, DataError, UnknownNameError
from saekit.evaluation.saebench.perturbation import attributed, perturb, without
from saekit.evaluation.saebench.pooled import decoder, pool
from saekit.evaluation.saebench.probes import Probe, split_rows
from saekit.evaluation.saebench.spurious_correlation import remove


def class_axes(n: int = 40, n_classes: int = 4, d_in: int = 8, noise: float = 0.02, seed: int = 0):
    """Class c lies on axis c, at 1."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(n_classes), n)
    x = noise * rng.standard_normal((len(y), d_in))
    x[np.arange(len(y)), y] += 1.0
    return x, y


def tpp(x, acts, W_dec, y, ns=(1,), **kwargs):
    return perturb(x, acts, W_dec, y, ns=ns, split=split_rows(y, 0.4, 0), **kwargs)


def test_a_feature_for_each_class_changes_one_probe_and_no_other():
    x, y = class_axes()
    acts = sparse.csr_array(np.where(x > 0.5, x, 0.0))
    found = tpp(x, acts, np.eye(8), y, draws=True)
    score, own, others, relative = (v[0, 0] for v in found.scores())
    assert found.clean == pytest.approx(1) and found.features == ((0,), (1,), (2,), (3,))
    assert own == pytest.approx(0.5) and others == pytest.approx(0, abs=0.02)
    assert score == pytest.approx(0.5, abs=0.02) and relative == pytest.approx(1, abs=0.04)
    assert found.drop.shape == (1, 4, 4, 1 + 64)


def test_features_shared_by_all_classes_change_all_probes_alike():
    """Every feature stands for the whole of x: taking one out takes every class out."""
    x, y = class_axes()
    acts = np.linalg.norm(x, axis=1, keepdims=True) * np.ones((1, 4)) / 4
    shared = tpp(x, acts * (1 + 1e-6 * np.eye(4)[y]), 4 * np.ones((4, 8)), y, ns=(1, 4))
    score, own, others, _ = (v[:, 0] for v in shared.scores())
    assert np.abs(score).max() < 0.05 and own == pytest.approx(others, abs=0.05)


def test_an_sae_that_holds_nothing_of_the_classes_scores_nothing():
    x, y = class_axes()
    rng = np.random.default_rng(0)
    aside = np.zeros((6, 8))
    aside[:, 5:] = 0.01 * rng.standard_normal((6, 3))
    found = tpp(x, rng.random((len(x), 6)), aside, y, ns=(1, 6))
    assert np.abs(found.scores()[0]).max() < 0.05


def test_two_classes_on_one_feature_hurt_each_other_and_not_the_rest():
    x, y = class_axes()
    acts = np.stack([x[:, 0] + x[:, 1], x[:, 2], x[:, 3]], axis=1).clip(0)
    W_dec = np.zeros((3, 8))
    W_dec[0, [0, 1]] = 1.0
    W_dec[1, 2] = W_dec[2, 3] = 1.0
    found = tpp(x, acts, W_dec, y)
    drop = found.drop[0, :, :, 0]
    assert drop[0, 1] > 0.25 and drop[1, 0] > 0.25  # entangled
    assert np.abs(drop[2, [0, 1, 3]]).max() < 0.05 and drop[2, 2] == pytest.approx(0.5)
    assert found.scores()[0][0, 0] < 0.42


def test_attribution_is_difference_times_alignment():
    y = np.array([True, True, False, False])
    acts = np.array([[3.0, 0, 1, 0], [1, 0, 1, 0], [0, 2, 1, 0], [0, 2, 1, 0]])
    W_dec = np.array([[0.5, 0], [-3, 0], [9, 0], [9, 0]])
    probe = Probe(np.array([2.0, 0.0]), 0.0)
    assert attributed(acts, y, probe, W_dec, 4).tolist() == [0]  # 2 * 1; features 1 to 3 do not fire more on the class
    assert attributed(acts, y, probe, W_dec, 4, signed=False).tolist() == [1, 0]  # |-2 * -6| = 12 first
    assert attributed(sparse.csr_array(acts), y, probe, W_dec, 1, signed=False).tolist() == [1]


def test_the_mean_of_ablated_tokens_is_the_ablated_mean(model, corpus):
    """The means stand for the tokens: each token without its features, error kept, then averaged."""
    sae, features = tiny_sae(model), [3, 10, 20, 40]
    documents = list(corpus.take(4))
    pooled = pool(model, [sae], documents, hook_name=HOOK, length=24, progress=False)
    fast = without(pooled.x, pooled.feature_acts[0], decoder(sae), np.array(features))
    for row, document in enumerate(documents):
        ids = model.tokenize(document.text)[:24]
        x = model.activations([ids], HOOK)[0][[i not in model.special_ids for i in ids]].clone()
        with torch.no_grad():
            acts = sae.encode(x)
            error = x - sae.decode(acts)
            acts[:, features] = 0
            slow = (sae.decode(acts) + error).double().mean(0)
        np.testing.assert_allclose(fast[row], slow, atol=1e-5)


# ---- spurious correlations ---------------------------------------------------------------------------------------


def two_labels(n: int = 50, loud: float = 3.0, noise: float = 0.2, seed: int = 0):
    """Axis 0 says the wanted label, quietly; axis 1 the spurious one, loudly."""
    rng = np.random.default_rng(seed)
    wanted, spurious = (np.tile(np.repeat([False, True], m), 4 * n // (2 * m)) for m in (2 * n, n))
    x = noise * rng.standard_normal((4 * n, 6))
    x[:, 0] += wanted
    x[:, 1] += loud * spurious
    return x, wanted, spurious


def test_a_feature_for_the_spurious_label_removes_the_bias():
    x, wanted, spurious = two_labels()
    acts = np.stack([x[:, 0], x[:, 1]], axis=1).clip(0)
    found = remove(x, sparse.csr_array(acts), np.eye(2, 6), wanted, spurious, ns=(1,), draws=True)
    assert found.features[0] == 1 and found.oracle[0] > 0.97 and found.biased[0] < 0.85
    assert found.n_biased == 60 and found.n_balanced == 120 and found.n_test == 80


def test_scores_are_one_for_the_cure_and_zero_for_nothing():
    """A probe biased as in the definition: it adds both axes, and errs exactly where they disagree."""
    rng = np.random.default_rng(0)
    wanted, spurious = (rng.random(400) < 0.5 for _ in range(2))
    x = 0.02 * rng.standard_normal((400, 4))
    x[:, 0] += np.where(wanted, 1.0, -1.0)
    x[:, 1] += np.where(spurious, 1.5, -1.5)
    both = np.stack([x[:, 1].clip(0), (-x[:, 1]).clip(0), x[:, 0].clip(0)], axis=1)
    W_dec = np.zeros((3, 4))
    W_dec[0, 1], W_dec[1, 1], W_dec[2, 0] = 1, -1, 1
    found = remove(x, both, W_dec, wanted, spurious, ns=(2,), draws=True)
    assert sorted(found.features[:2]) == [0, 1]
    assert 0.4 < found.biased[0] < 0.8 and found.oracle[0] == 1
    assert found.scores()[0, 0] == pytest.approx(1)
    aside = np.zeros((3, 4))
    aside[:, 3] = 1e-4
    nothing = remove(x, rng.random((400, 3)), aside, wanted, spurious, ns=(1, 3))
    assert nothing.scores()[:, 0] == pytest.approx(0, abs=0.02)


def test_the_score_is_the_published_fraction_and_undefined_without_a_bias():
    x, wanted, spurious = two_labels(loud=0.0, noise=0.01)
    found = remove(x, x.clip(0), np.eye(6), wanted, spurious, ns=(1, 2))
    assert found.biased[0] == found.oracle[0] == 1 and np.isnan(found.scores()).all()
    x, wanted, spurious = two_labels(seed=1)
    found = remove(x, x.clip(0), np.eye(6), wanted, spurious, ns=(1, 2))
    expected = (found.after - found.biased) / (found.oracle - found.biased)
    np.testing.assert_allclose(found.scores(), expected)


def test_every_combination_of_the_labels_is_needed():
    x, wanted, _ = two_labels()
    with pytest.raises(DataError, match="not found in every combination"):
        remove(x, x.clip(0), np.eye(6), wanted, wanted, ns=(1,))


# ---- the functions -----------------------------------------------------------------------------------------------


def test_perturbation_reads_well(model, corpus, sae):
    saes = [sae, tiny_sae(model, d_sae=32, seed=2)]
    known = {"label": "topic", "ns": (1, 4), "length": 24, "progress": False}
    with pytest.warns(sk.AuditWarning, match="2605.18229") as warned:
        one, two = sk.targeted_probe_perturbation(model, saes, corpus, **known)
    assert len(warned) == 1 and warned[0].filename == __file__
    assert one.classes == ("other", "bridge") and list(one.table.n) == [1, 4]
    assert {"score", "score_low", "own_drop", "other_drop", "relative", "random_score"} <= set(one.to_frame().columns)
    assert set(one.features) == {"other", "bridge"} and all(len(f) <= 4 for f in one.features.values())
    expected = np.mean([one.drop[0, 0, 0] - one.drop[0, 0, 1], one.drop[0, 1, 1] - one.drop[0, 1, 0]])
    assert one.table.score[0] == pytest.approx(expected)
    text = str(one)
    assert text.startswith("Targeted probe perturbation of 'topic': 2 classes, 24 training and 16 held-out documents")
    assert "nothing ablated" in text and "random_score" in text and "d_sae 32" in str(two)
    assert "TPP of 'topic', 1 features ablated: reseed noise" in text and (one.table.n_units == 16).all()
    assert "no smallest difference known" in one.plot().layout.title.subtitle.text


def test_spurious_removal_takes_columns_values_and_pairs(model, corpus, sae):
    known = {"ns": (1, 4), "length": 24, "progress": False, "fraction_held_out": 0.4}
    texts = [{"text": d.text, **d.labels, "number": i % 4} for i, d in enumerate(corpus)]
    crossed = [{**t, "style": s, "text": f"{s} {t['text']}"} for t in texts for s in ("note", "story")]
    both = sk.load_corpus(crossed)
    with pytest.warns(sk.AuditWarning, match="spurious correlation removal"):
        r = sk.spurious_correlation_removal(model, sae, both, wanted="topic", spurious={"style": "note"}, **known)
    assert {"score_sd", "score_resolves"} <= set(r.table.columns)
    assert (r.wanted, r.spurious) == ("topic = other (not bridge)", "style = note")
    assert r.n_test == 4 * 4 and r.n_balanced == 4 * 6 and r.n_biased == 2 * 6
    text = str(r)
    assert f"accuracy biased {r.accuracy_biased:.3f}, oracle {r.accuracy_oracle:.3f}" in text
    assert list(r.to_frame().n) == [1, 4] and len(r.features) <= 4
    pair = {"number": (1, 2)}
    paired = sk.spurious_correlation_removal(model, [sae], both, wanted=pair, spurious="style", **known)
    assert len(paired) == 1 and paired[0].wanted == "number = 1 (not 2)"
    for label, error, match in (
        ("number", ConfigError, "does not have two values"),
        ({"number": 9}, UnknownNameError, "unknown value of label 'number'"),
        ("stile", UnknownNameError, "did you mean 'style'"),
        ({"number": (1, 2, 3)}, ConfigError, "one value or two"),
        ({"number": 1, "style": "note"}, ConfigError, "not a label"),
    ):
        with pytest.raises(error, match=match):
            sk.spurious_correlation_removal(model, sae, both, wanted="topic", spurious=label, **known)


def test_a_transcoder_is_refused(model, corpus):
    config = sk.SAEConfig(d_in=32, d_sae=64, activation="topk", k=4, hook_name=HOOK, hook_out="blocks.1.hook_mlp_out")
    for function in (sk.targeted_probe_perturbation, sk.ablation_sparsity):
        known = {"label": "topic"} if function is sk.targeted_probe_perturbation else {}
        with pytest.raises(ConfigError, match="this one writes elsewhere"):
            function(model, sk.SAE(config), corpus, **known)
