"""The sparsity of ablation effects, and losses as fractions of compute, against what is known exactly."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

import saekit as sk
from conftest import HOOK, tiny_sae
from saekit.errors import ConfigError, DataError, UnknownNameError
from saekit.evaluation.saebench.ablation_sparsity import effect_sparsity

V, T = 101, 4


def test_one_logit_of_all_is_the_sparsest_effect():
    change = torch.zeros(T, V)
    change[2, 7] = -3.0
    assert float(effect_sparsity(change)) == pytest.approx(1 / (V * T))
    change[0, 3] = 3.0
    assert float(effect_sparsity(change)) == pytest.approx(2 / (V * T))


def test_equal_sizes_are_the_least_sparse_and_noise_lies_at_two_over_pi():
    signs = torch.ones(T, V)
    signs[:, : V // 2] = -1.0
    signs[:, V // 2] = 0.0  # the median
    assert float(effect_sparsity(signs)) == pytest.approx((V - 1) / V)
    noise = torch.randn(16, 20_000, generator=torch.Generator().manual_seed(0))
    assert float(effect_sparsity(noise)) == pytest.approx(2 / math.pi, abs=0.01)


def test_a_constant_and_a_scale_change_nothing():
    change = torch.randn(3, T, V, generator=torch.Generator().manual_seed(0)) ** 3
    moved = 7 * (change + torch.tensor([5.0, -2.0, 0.0, 100.0])[:, None])
    torch.testing.assert_close(effect_sparsity(change), effect_sparsity(moved), rtol=1e-4, atol=1e-6)
    assert effect_sparsity(change).shape == (3,) and math.isnan(float(effect_sparsity(torch.ones(T, V))))


def test_every_ablation_against_one_forward_pass_at_a_time(model, corpus):
    sae = tiny_sae(model)
    r = sk.ablation_sparsity(model, sae, corpus, n_tokens=3, n_features=2, n_following=5, length=40, progress=False)
    assert len(r.table) == 6 and r.table.document.nunique() == 3 and r.d_vocab == 128
    shuffled = corpus.shuffle(int(np.random.default_rng(0).integers(2**31)))
    windows = sk.tokenize(shuffled.take(24), model, length=40)
    for _, row in r.table.iterrows():
        at = int((windows.documents.max(1).values == row.document).nonzero()[0, 0])
        ids = windows.tokens[at, : int(windows.lengths[at])].tolist()
        assert model.token_strings([ids[row.position]]) == [row.token] and ids[row.position] not in model.special_ids
        ids = ids[: row.position + 5]
        acts = sae.encode(model.activations([ids], HOOK)[0, row.position].clone()).detach()
        assert float(acts[row.feature]) == pytest.approx(row.activation, rel=1e-4) and row.activation != 0

        def ablate(x, row=row):
            x = x.clone()
            x[0, row.position] -= row.activation * sae.W_dec[row.feature].detach()
            return x

        clean, ablated = (model.forward([ids], hooks=h)[0][0, row.position :] for h in ((), [(HOOK, ablate)]))
        change = (ablated - clean).double().numpy()
        assert change.shape == (5, 128) and np.abs(change).max() == pytest.approx(row.largest, rel=1e-3)
        change = change - np.median(change, axis=1, keepdims=True)
        slow = np.abs(change).sum() ** 2 / (change**2).sum() / change.size
        assert row.sparsity == pytest.approx(slow, rel=2e-2)
    assert r.sparsity.value == pytest.approx(r.table.sparsity.mean()) and r.random.value == pytest.approx(
        r.table.random.mean()
    )
    assert np.isnan(r.sparsity.low) and r.sparsity.reason == "no interval: 3 documents, at least 5 are needed"
    more = sk.ablation_sparsity(model, sae, corpus, n_tokens=6, n_features=2, n_following=4, length=40, progress=False)
    assert more.sparsity.low < more.sparsity.value < more.sparsity.high and more.sparsity.n_units == 6
    assert 0 < more.reseed_sd < more.smallest_difference and "reseed noise 0." in repr(more)


def test_ablations_read_well_and_mistakes_are_named(model, corpus, sae):
    known = {"n_tokens": 2, "n_features": 3, "n_following": 4, "length": 40, "progress": False}
    one, two = sk.ablation_sparsity(model, [sae, tiny_sae(model, seed=2)], corpus, **known)
    text = str(one)
    assert text.startswith("Ablation sparsity: 6 ablations at 2 tokens, 4 tokens following")
    assert "random directions" in text and one.to_frame() is one.table
    places = ["document", "position"]
    assert one.table[places].drop_duplicates().equals(two.table[places].drop_duplicates())
    with pytest.raises(ConfigError, match="n_features is not positive"):
        sk.ablation_sparsity(model, sae, corpus, **known | {"n_features": 0})
    with pytest.raises(DataError, match="no document is long enough"):
        sk.ablation_sparsity(model, sae, corpus, **known | {"n_following": 60})
    dead = tiny_sae(model, activation="relu")
    torch.nn.init.constant_(dead.b_enc, -1e3)
    with pytest.raises(DataError, match="no feature of the SAE fires"):
        sk.ablation_sparsity(model, dead, corpus, **known)


# ---- loss as a fraction of compute --------------------------------------------------------------------------------

E, A, B = 1.8, 400.0, 0.15
COMPUTE = np.geomspace(1e17, 1e22, 8)


def loss(c):
    return E + A * np.asarray(c, dtype=float) ** -B


def test_a_known_law_gives_the_exact_share():
    reference = pd.DataFrame({"compute": COMPUTE, "loss": loss(COMPUTE)})
    result = sk.compute_fraction((float(loss(1e21)), float(loss(1e20))), reference)
    assert result.fraction == pytest.approx(0.1, rel=1e-4) and result.compute_clean == pytest.approx(1e21, rel=1e-3)
    assert result.parameters["E"] == pytest.approx(E, rel=1e-3) and result.parameters["b"] == pytest.approx(B, rel=1e-3)
    assert np.isnan(result.low) and result.reason == "no interval: all 8 rows agree exactly"
    same = sk.compute_fraction((2.6, 2.6), reference)
    assert same.fraction == pytest.approx(1)
    np.testing.assert_allclose(result.curve(COMPUTE), loss(COMPUTE), rtol=1e-4)


@pytest.mark.slow
def test_noise_widens_the_interval_and_the_truth_lies_in_it():
    rng = np.random.default_rng(0)
    inside, widths = 0, []
    for _ in range(20):
        noisy = loss(COMPUTE) * np.exp(0.004 * rng.standard_normal(len(COMPUTE)))
        result = sk.compute_fraction((float(loss(1e21)), float(loss(1e20))), {"compute": COMPUTE, "loss": noisy})
        inside += result.low <= 0.1 <= result.high
        assert "8 reference rows" in repr(result)
        widths.append(result.high - result.low)
    assert inside >= 14 and np.median(widths) > 0.005


def test_interpolation_joins_the_rows_in_log_compute():
    reference = {"loss": [4.0, 3.0, 2.5, 2.2], "compute": [1e18, 1e19, 1e20, 1e21]}
    result = sk.compute_fraction((2.5, 3.5), reference, method="interpolate")
    assert result.compute_clean == pytest.approx(1e20) and result.compute_sae == pytest.approx(10**18.5)
    assert (
        result.fraction == pytest.approx(10**-1.5)
        and result.parameters == {}
        and np.isnan(result.low)
        and "no interval" in repr(result)
    )
    assert result.curve(np.array([10**18.5])) == pytest.approx(3.5)


def test_compute_comes_from_parameters_and_tokens_or_one_of_them():
    n, d = np.array([1e8, 2e8, 4e8, 8e8]), np.array([1e10, 3e10, 9e10, 27e10])
    losses = loss(6 * n * d)
    clean, spliced = float(losses[2]), float(losses[1])
    both = sk.compute_fraction((clean, spliced), {"parameters": n, "tokens": d, "loss": losses})
    assert both.unit == "FLOP" and both.compute_clean == pytest.approx(6 * n[2] * d[2], rel=1e-3)
    alone = sk.compute_fraction((clean, spliced), {"tokens": d, "loss": losses}, method="interpolate")
    assert alone.unit == "tokens" and alone.fraction == pytest.approx(1 / 3)


def test_it_takes_an_evaluation_and_reads_well(model, corpus, sae):
    evaluation = sk.evaluate(model, sae, corpus.take(4), length=32, progress=False)
    low, high = sorted((evaluation.ce_clean, evaluation.ce_sae))
    reference = {"compute": [1.0, 10.0, 100.0], "loss": [high + 0.1, (low + high) / 2, low - 0.1]}
    result = sk.compute_fraction(evaluation, reference, method="interpolate")
    assert (result.ce_clean, result.ce_sae) == (evaluation.ce_clean, evaluation.ce_sae)
    assert f"{result.fraction:.1%}" in str(result) and "interpolated" in str(result)
    assert result.to_frame().fraction.tolist() == [result.fraction]
    fitted = str(sk.compute_fraction((2.6, 2.8), {"compute": COMPUTE, "loss": loss(COMPUTE)}))
    assert "With the SAE the model is as good as one of" in fitted and "L = 1.8" in fitted


def test_nothing_is_guessed_outside_the_reference():
    reference = {"compute": COMPUTE, "loss": loss(COMPUTE)}
    beyond = (float(loss(1e23)), 2.6)
    with pytest.raises(DataError, match="outside what the reference measured") as raised:
        sk.compute_fraction(beyond, reference)
    assert "extrapolate=True" in str(raised.value)
    far = sk.compute_fraction(beyond, reference, extrapolate=True)
    assert far.extrapolated and far.compute_clean == pytest.approx(1e23, rel=0.01) and "extrapolated" in str(far)
    with pytest.raises(DataError, match="never reaches this loss"):
        sk.compute_fraction((1.0, 2.6), reference, extrapolate=True)
    with pytest.raises(DataError, match="outside what the reference measured"):
        sk.compute_fraction(beyond, reference, method="interpolate", extrapolate=True)


@pytest.mark.parametrize(
    ("reference", "error", "match"),
    [
        ({"compute": [1, 2, 3, 4]}, UnknownNameError, "column of the reference"),
        ({"loss": [4, 3, 2, 1]}, DataError, "does not give the compute"),
        ({"compute": [1, 2, 3], "loss": [4, 3, 2]}, DataError, "too few rows"),
        ({"compute": [1, 2, 2, 4], "loss": [4, 3, 2, 1]}, DataError, "too few rows"),
        ({"compute": [0, 2, 3, 4], "loss": [4, 3, 2, 1]}, DataError, "cannot be used"),
    ],
)
def test_a_reference_that_cannot_be_used_says_why(reference, error, match):
    with pytest.raises(error, match=match):
        sk.compute_fraction((2.0, 3.0), reference)


def test_rising_losses_are_not_joined():
    reference = {"compute": [1, 2, 3], "loss": [4, 2, 3]}
    with pytest.raises(DataError, match="does not fall"):
        sk.compute_fraction((2.5, 3.0), reference, method="interpolate")
    with pytest.raises(UnknownNameError, match="unknown method 'interpolat'; did you mean 'interpolate'"):
        sk.compute_fraction((2.5, 3.0), reference, method="interpolat")
