"""Synthetic data is what its truth says: rates, correlations, trees, magnitudes, directions, and the same each time."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from saekit import synthetic
from saekit.errors import ConfigError, UnknownNameError
from saekit.synthetic import GroundTruth


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def truths() -> list[GroundTruth]:
    size = {"d_model": 16, "n_features": 60, "n_active": 4.5}
    return [
        synthetic.independent(**size),
        synthetic.independent(**size, zipf_exponent=1.0),
        synthetic.correlated(**size, group_size=7, zipf_exponent=0.5, correlation=0.4),
        synthetic.hierarchical(**size, zipf_exponent=1.0, n_children=4),
        synthetic.hierarchical(**size, n_children=2, depth=3, exclusive=False, child_fraction=1.1),
    ]


each_truth = pytest.mark.parametrize("truth", truths(), ids=lambda t: f"{t.name}-{len(t.group_rate)}")


def z_scores(hits: torch.Tensor, p: torch.Tensor, n: int) -> torch.Tensor:
    return (hits - n * p) / (n * p * (1 - p)).sqrt()


@each_truth
def test_features_fire_at_their_rates(truth: GroundTruth) -> None:
    n = 40_000
    acts = truth.sample(n, generator()).acts
    z = z_scores(torch.bincount(acts.feature, minlength=60), truth.firing_rate, n)
    assert z.abs().max() < 4.5 and 0.5 < z.std() < 2
    assert truth.n_active == pytest.approx(4.5) and acts.value.numel() / n == pytest.approx(4.5, rel=0.02)


@each_truth
def test_x_is_the_sum_of_what_fires(truth: GroundTruth) -> None:
    truth = dataclasses.replace(truth, bias=torch.arange(16.0))
    batch = truth.sample(500, generator())
    key = batch.acts.token * 60 + batch.acts.feature
    assert (key.diff() > 0).all()  # tokens ascending, features ascending within a token, no pair twice
    assert torch.allclose(batch.x, batch.acts.to_dense() @ truth.directions + truth.bias, atol=1e-5)
    assert torch.allclose(truth.sample(60_000, generator(1)).x.mean(0), truth.mean, atol=0.03)


def test_independent_features_are_independent() -> None:
    truth = synthetic.independent(8, 12, 4)  # rates of 1/3, where drawing without care would show
    fires = truth.sample(50_000, generator()).acts.to_dense().bool().double()
    correlation = torch.corrcoef(fires.T) - torch.eye(12)
    assert correlation.abs().max() < 4.5 / math.sqrt(50_000)
    per_token = fires.sum(1)
    assert per_token.var() == pytest.approx(12 * (1 / 3) * (2 / 3), rel=0.03)


def test_zipf_rates() -> None:
    truth = synthetic.independent(8, 100, 2, zipf_exponent=1.0)
    rank = torch.arange(1, 101).double()
    assert torch.allclose(truth.firing_rate, 2 / rank / (1 / rank).sum())
    capped = synthetic.independent(8, 100, 8, zipf_exponent=1.5).firing_rate
    head = int((capped > 0.4999).sum())
    assert head > 1 and capped.max() == 0.5 and capped.sum() == pytest.approx(8)
    assert capped[-1] / capped[head] == pytest.approx(((head + 1) / 100) ** 1.5)


def test_groups_have_the_correlation_that_was_asked_for() -> None:
    truth = synthetic.correlated(8, 20, 3, group_size=4, correlation=0.6, zipf_exponent=0.7)
    fires = truth.sample(60_000, generator()).acts.to_dense().bool().double()
    correlation = torch.corrcoef(fires.T)
    same = truth.group[:, None] == truth.group
    within = correlation[same & ~torch.eye(20, dtype=torch.bool)]
    assert (within - 0.6).abs().max() < 0.03 and correlation[~same].abs().max() < 0.025
    together = synthetic.correlated(8, 20, 3, group_size=4, correlation=1).sample(300, generator()).acts.to_dense() > 0
    assert (together[:, 0] == together[:, 3]).all() and together.any()


def test_a_child_fires_only_with_its_parent() -> None:
    for truth in truths()[3:]:
        fires = truth.sample(40_000, generator()).acts.to_dense() > 0
        child = (truth.parent >= 0).nonzero().squeeze(1)
        parent = truth.parent[child]
        assert not (fires[:, child] & ~fires[:, parent]).any()
        fraction = truth.firing_rate[child] / truth.firing_rate[parent]
        hits, n = fires[:, child].sum(0), fires[:, parent].sum(0)
        assert ((hits - n * fraction) / (n * fraction * (1 - fraction)).sqrt()).abs().max() < 4.5
        siblings = torch.stack([fires[:, truth.parent == p].sum(1) for p in parent.unique()])
        assert int(siblings.max()) == (1 if truth.exclusive else 2)
        for p in parent.unique():
            family = fraction[parent == p]
            assert float(family.sum()) == pytest.approx(0.5 if truth.exclusive else min(1.1, 0.95 * len(family)))


def test_trees_have_the_shape_that_was_asked_for() -> None:
    truth = synthetic.hierarchical(8, 2 * (1 + 3 + 9), 1, n_children=3, depth=3)
    assert truth.depth.bincount().tolist() == [2, 6, 18]
    assert truth.parent[truth.parent >= 0].bincount().tolist() == [3] * 8
    assert truth.depth[truth.parent[truth.depth == 2]].unique().tolist() == [1]
    ragged = synthetic.hierarchical(8, 30, 1, n_children=3, depth=3)
    assert ragged.n_features == 30 and ragged.depth.max() == 2
    assert truth.to_frame().parent.tolist() == truth.parent.tolist()


@pytest.mark.parametrize(
    ("magnitude", "least", "deviation"),
    [("uniform", 0.5, 0.2887), ("half_normal", 0.25, 0.5666), ("lognormal", 0, 0.5329), ("constant", 1, 0)],
)
def test_magnitudes(magnitude: str, least: float, deviation: float) -> None:
    value = synthetic.independent(8, 32, 4, magnitude=magnitude).sample(60_000, generator()).acts.value
    assert value.mean() == pytest.approx(1, abs=0.01) and value.std() == pytest.approx(deviation, abs=0.01)
    assert value.min() >= least and value.min() < least + 0.2 and (value > 0).all()


def test_directions() -> None:
    cosines = {}
    for kind in ("random", "spread"):
        rows = synthetic.unit_directions(16, 64, kind=kind)
        assert torch.allclose(rows.norm(dim=1), torch.ones(64))
        cosines[kind] = float(((rows @ rows.T).square().sum() - 64) / (64 * 63))
    welch = (64 - 16) / (16 * 63)
    assert cosines["random"] == pytest.approx(1 / 16, rel=0.1)
    assert welch - 1e-6 <= cosines["spread"] < welch + 0.05 * (1 / 16 - welch)
    orthogonal = synthetic.independent(16, 12, 2, directions="orthogonal").directions
    assert torch.allclose(orthogonal @ orthogonal.T, torch.eye(12), atol=1e-6)


def test_bias_and_noise() -> None:
    plain, noisy = (synthetic.independent(16, 32, 3, bias=5, noise=noise) for noise in (0, 0.2))
    assert plain.bias.norm() == pytest.approx(5)
    batch = noisy.sample(20_000, generator())
    error = batch.x - batch.acts.to_dense() @ noisy.directions - noisy.bias
    assert error.std() == pytest.approx(0.2, rel=0.01) and error.mean().abs() < 0.001


@each_truth
def test_a_seed_says_everything(truth: GroundTruth) -> None:
    before = torch.get_rng_state()
    again = next(t for t in truths() if torch.equal(t.firing_rate, truth.firing_rate) and t.name == truth.name)
    a, b, other = next(truth.batches(64, seed=3)), next(again.batches(64, seed=3)), next(truth.batches(64, seed=4))
    assert torch.equal(a, b) and not torch.equal(a, other)
    stream = truth.batches(64)
    assert not torch.equal(next(stream), next(stream))
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(synthetic.independent(16, 60, 3, seed=1).directions, truth.directions)


def test_reprs() -> None:
    assert "12 trees of depth 2, 48 exclusive children" in repr(truths()[3])
    assert "9 groups that fire together" in repr(truths()[2])
    assert repr(truths()[0].sample(10, generator())).startswith("SyntheticBatch: x (10, 16), SparseActs of 10 tokens")


def test_misuse_is_explained() -> None:
    with pytest.raises(ConfigError, match="so many active features do not fit"):
        synthetic.independent(8, 16, 9)
    with pytest.raises(ConfigError, match="no room for so many orthogonal directions"):
        synthetic.independent(8, 16, 2, directions="orthogonal")
    with pytest.raises(UnknownNameError, match="did you mean 'spread'"):
        synthetic.independent(8, 16, 2, directions="spred")
    with pytest.raises(UnknownNameError, match="did you mean 'half_normal'"):
        synthetic.independent(8, 16, 2, magnitude="halfnormal")
    with pytest.raises(ConfigError, match="zipf_exponent is negative"):
        synthetic.independent(8, 16, 2, zipf_exponent=-1)
    with pytest.raises(ConfigError, match="n_children is not a positive integer"):
        synthetic.hierarchical(8, 16, 2, n_children=0)
    with pytest.raises(ConfigError, match="child_fraction is out of range"):
        synthetic.hierarchical(8, 16, 2, child_fraction=1.5)
    with pytest.raises(ConfigError, match="correlation is out of range"):
        synthetic.correlated(8, 16, 2, correlation=0)
    with pytest.raises(ConfigError, match="there is no token to draw"):
        truths()[0].sample(0, generator())


def test_a_truth_made_by_hand_is_checked() -> None:
    truth = synthetic.hierarchical(8, 8, 1, n_children=3)
    cases = {
        "directions are not unit vectors": {"directions": 2 * truth.directions},
        "a firing rate is out of range": {"firing_rate": truth.firing_rate * 0},
        "a feature comes before its parent": {"parent": torch.arange(8)},
        "has both a parent and a group": {"group": torch.zeros(8).long(), "group_rate": torch.ones(1).double()},
        "children fire more often": {"firing_rate": torch.full((8,), 0.4).double()},
        "noise is negative": {"noise": -1.0},
    }
    for message, change in cases.items():
        with pytest.raises(ConfigError, match=message):
            dataclasses.replace(truth, **change)
    group = {"group": torch.zeros(8).long(), "group_rate": torch.full((1,), 0.05).double()}
    with pytest.raises(ConfigError, match="members of a group fire more often"):
        dataclasses.replace(truth, parent=torch.full((8,), -1), **group)
