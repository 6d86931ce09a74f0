"""Recovery scores: perfect for the truth, chance for a random dictionary, and equal to a slow reference in between."""

from __future__ import annotations

import math

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from scipy import integrate, stats

import saekit as sk
from saekit.errors import ConfigError, MismatchError, UnknownNameError
from saekit.synthetic import GroundTruth
from saekit.synthetic.recovery import BLOCK_TOKENS
from saekit.synthetic.truth import stream


@pytest.fixture(scope="module")
def orthogonal() -> GroundTruth:
    return sk.synthetic.independent(32, 32, 3, directions="orthogonal")


@pytest.fixture(scope="module")
def tree() -> GroundTruth:
    return sk.synthetic.hierarchical(32, 32, 2.5, n_children=3, directions="orthogonal", zipf_exponent=0.5)


def changed(sae: sk.SAE, **weights: torch.Tensor) -> sk.SAE:
    """An SAE with other weights, of whatever width they have."""
    width = weights["W_dec"].shape[0] if "W_dec" in weights else sae.config.d_sae
    out = sk.SAE(sae.config.replace(d_sae=width))
    with torch.no_grad():
        for name in ("W_enc", "W_dec", "b_enc", "b_dec", "threshold"):
            getattr(out, name).copy_(weights.get(name, getattr(sae, name)))
    return out


def chosen(sae: sk.SAE, rows: list[int] | torch.Tensor) -> sk.SAE:
    """An SAE with some features of another, in this order."""
    return changed(
        sae, W_enc=sae.W_enc[:, rows], W_dec=sae.W_dec[rows], b_enc=sae.b_enc[rows], threshold=sae.threshold[rows]
    )


def dense(truth: GroundTruth, sae: sk.SAE, n: int) -> tuple[np.ndarray, ...]:
    """x, true magnitudes, SAE activations times decoder norm and x_hat of the held-out tokens, as tables."""
    generator, parts = stream("held out", 0), []
    for size in [BLOCK_TOKENS] * (n // BLOCK_TOKENS) + [n % BLOCK_TOKENS]:
        batch = truth.sample(size, generator)
        acts = sae.encode(batch.x)
        parts.append((batch.x, batch.acts.to_dense(), acts * sae.W_dec.norm(dim=1), sae.decode(acts)))
    return tuple(torch.cat(p).detach().double().numpy() for p in zip(*parts, strict=True))


@pytest.mark.parametrize("match", ["cosine", "correlation"])
def test_the_truth_is_recovered(orthogonal: GroundTruth, match: str) -> None:
    order = torch.randperm(32, generator=torch.Generator().manual_seed(1))
    found = sk.recovery(chosen(orthogonal.sae(), order), orthogonal, n_tokens=5000, match=match)
    ones = [
        "mean_max_cosine",
        "mean_max_cosine_weighted",
        "matched_cosine",
        "matched_correlation",
        "precision",
        "recall",
        "f1",
        "micro_precision",
        "micro_recall",
        "micro_f1",
        "uniqueness",
        "distinct",
        "magnitude_ratio",
        "magnitude_slope",
        "shrinkage",
        "norm_ratio",
        "explained_variance",
    ]
    assert found.to_frame()[ones].iloc[0].tolist() == pytest.approx([1.0] * len(ones), abs=1e-6)
    assert found.silent == 0 and found.l0 == found.true_l0 and math.isnan(found.absorption)
    assert order[found.features.sae_feature.to_list()].tolist() == list(range(32))
    assert found.features.n_fired.sum() == pytest.approx(found.true_l0 * 5000)


def test_a_random_dictionary_scores_chance() -> None:
    truth = sk.synthetic.independent(24, 300, 3)
    sae = sk.SAE(sk.SAEConfig(d_in=24, d_sae=200, k=3, activation="topk", seed=5))
    found = sk.recovery(sae, truth, n_tokens=4000)
    cosine = stats.beta(11.5, 11.5)  # of (1 + cosine) / 2 between independent directions in 24 dimensions
    survival, _ = integrate.quad(lambda c: 1 - cosine.cdf((1 + c) / 2) ** 200, -1, 1)
    assert found.mean_max_cosine == pytest.approx(survival - 1, abs=0.02)  # E[max] = -1 + the integral of P(max > c)
    assert found.matched_correlation < 0.3 and found.f1 < 0.3
    cosines = (truth.directions @ sae.W_dec.T).detach().numpy()  # of unit rows
    nearest, best = set(cosines.argmax(0)), set(cosines.argmax(1))
    assert (found.uniqueness, found.distinct) == (len(nearest) / 200, len(best) / 300) and len(nearest) != len(best)
    spread = found.features.best_cosine.std() / math.sqrt(300)
    low, high = found.intervals["mean_max_cosine"]
    assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.15) and low < found.mean_max_cosine < high


@pytest.mark.parametrize("match", ["cosine", "correlation"])
def test_every_figure_against_a_slow_reference(match: str) -> None:
    truth = sk.synthetic.hierarchical(12, 40, 3, n_children=3, exclusive=False, zipf_exponent=1.0, bias=1.0)
    perfect, noise = truth.sae(threshold=0.4), torch.Generator().manual_seed(2)
    rows = perfect.W_dec + 0.15 * torch.randn(40, 12, generator=noise)
    sae = chosen(changed(perfect, W_dec=rows, W_enc=rows.T), list(range(5, 35)))
    n = BLOCK_TOKENS + 900
    found = sk.recovery(sae, truth, n_tokens=n, match=match)
    x, true, acts, x_hat = dense(truth, sae, n)
    table = found.features
    assert (table.sae_feature >= 0).sum() == 30 and table.sae_feature.max() == 29
    unit = (sae.W_dec / sae.W_dec.norm(dim=1, keepdim=True)).detach().numpy()
    cosine = truth.directions.numpy() @ unit.T
    assert table.best_cosine.to_numpy() == pytest.approx(cosine.max(1), abs=1e-6)
    score = cosine
    if match == "correlation":
        score = np.nan_to_num(np.corrcoef(true.T, acts.T)[:40, 40:])
    swapped = table.sae_feature.to_numpy().copy()
    total = sum(score[i, s] for i, s in enumerate(swapped) if s >= 0)
    for i in range(0, 40, 3):  # no exchange of two partners is better
        for j in range(1, 40, 4):
            other = swapped.copy()
            other[[i, j]] = other[[j, i]]
            assert sum(score[a, s] for a, s in enumerate(other) if s >= 0) <= total + 1e-5
    lists: dict[str, list[float]] = {name: [] for name in ("cosine", "correlation", "precision", "recall", "f1")}
    ratio, with_child, silent, alone, alone_silent, product, square = [], 0, 0, 0, 0, 0.0, 0.0
    for i, s in enumerate(table.sae_feature):
        t, a = true[:, i], acts[:, s] if s >= 0 else np.zeros(n)
        both = (t > 0) & (a > 0)
        lists["cosine"].append(cosine[i, s] if s >= 0 else 0.0)
        lists["correlation"].append(np.corrcoef(t, a)[0, 1] if a.any() else 0.0)
        lists["precision"].append(both.sum() / (a > 0).sum() if a.any() else 0.0)
        lists["recall"].append(both.sum() / (t > 0).sum())
        lists["f1"].append(2 * both.sum() / ((a > 0).sum() + (t > 0).sum()))
        ratio.append(a[both].sum() / t[both].sum() if both.any() else np.nan)
        product, square = product + (a * t)[both].sum(), square + (t * t)[both].sum()
        if (truth.parent == i).any():
            child = (true[:, (truth.parent == i).numpy()] > 0).any(1)
            with_child, silent = with_child + child.sum(), silent + (child & (a == 0)).sum()
            alone, alone_silent = alone + ((t > 0) & ~child).sum(), alone_silent + ((t > 0) & ~child & (a == 0)).sum()
    assert (true > 0).any(0).all()
    for name, values in lists.items():
        assert table[name].to_numpy() == pytest.approx(values, abs=1e-5), name
    assert table.magnitude_ratio.to_numpy() == pytest.approx(ratio, abs=1e-6, nan_ok=True)
    assert found.magnitude_ratio == pytest.approx(np.nanmean(ratio)) and found.f1 == pytest.approx(np.mean(lists["f1"]))
    assert found.magnitude_slope == pytest.approx(product / square)
    assert (found.absorption, found.missed_alone) == pytest.approx((silent / with_child, alone_silent / alone))
    assert 0.02 < found.absorption < 0.98
    expected = 1 - ((x - x_hat) ** 2).sum() / ((x - x.mean(0)) ** 2).sum()
    assert found.explained_variance == pytest.approx(expected, abs=1e-6)
    assert found.shrinkage == pytest.approx((x_hat**2).sum() / (x * x_hat).sum())
    assert found.norm_ratio == pytest.approx((np.linalg.norm(x_hat, axis=1) / np.linalg.norm(x, axis=1)).mean())
    assert (found.l0, found.true_l0) == ((acts > 0).sum() / n, (true > 0).sum() / n)
    assert found.silent == (acts == 0).all(0).sum()
    paired = table.sae_feature[table.sae_feature >= 0]
    both = sum(((true[:, i] > 0) & (acts[:, s] > 0)).sum() for i, s in paired.items())
    micro = both / (acts[:, paired] > 0).sum(), both / (true > 0).sum()
    assert (found.micro_precision, found.micro_recall) == pytest.approx(micro)


def test_uniqueness_falls_with_copies(orthogonal: GroundTruth) -> None:
    half = sk.recovery(chosen(orthogonal.sae(), [*range(16)] * 2), orthogonal, n_tokens=2000)
    assert half.uniqueness == half.distinct == 0.5
    assert half.matched_cosine == pytest.approx(0.5, abs=1e-6)
    assert half.recall == pytest.approx(0.5 + 0.5 * 3 / 32, abs=0.01)  # left-over copies meet lost features by chance
    twice = sk.recovery(chosen(orthogonal.sae(), [*range(32)] * 2), orthogonal, n_tokens=2000)
    assert (twice.uniqueness, twice.distinct, twice.f1) == (0.5, 1.0, 1.0)


def test_features_without_a_pair_count_as_nothing(orthogonal: GroundTruth) -> None:
    found = sk.recovery(chosen(orthogonal.sae(), [*range(8)]), orthogonal, n_tokens=2000)
    assert (found.features.sae_feature == -1).sum() == 24 and found.uniqueness == 1.0
    means = (found.matched_cosine, found.matched_correlation, found.precision, found.recall, found.f1)
    assert means == pytest.approx((0.25,) * 5, abs=1e-6)
    assert found.magnitude_ratio == pytest.approx(1)  # only where both fire


def test_shrinkage_is_in_units_of_x(orthogonal: GroundTruth) -> None:
    sae = orthogonal.sae()
    same = sk.recovery(
        changed(sae, W_dec=4 * sae.W_dec, W_enc=sae.W_enc / 4, threshold=sae.threshold / 4), orthogonal, n_tokens=2000
    )
    assert (same.magnitude_ratio, same.magnitude_slope, same.shrinkage) == pytest.approx((1, 1, 1))
    less = sk.recovery(changed(sae, W_dec=0.75 * sae.W_dec), orthogonal, n_tokens=2000)
    shrunken = (less.magnitude_ratio, less.magnitude_slope, less.shrinkage, less.norm_ratio)
    assert shrunken == pytest.approx((0.75,) * 4) and less.f1 == 1 and less.explained_variance < 1


def test_dead_and_silent_features(orthogonal: GroundTruth) -> None:
    sae = orthogonal.sae()
    found = sk.recovery(
        changed(sae, threshold=torch.where(torch.arange(32) < 4, 99.0, sae.threshold)), orthogonal, n_tokens=2000
    )
    assert found.silent == 4 and found.f1 == pytest.approx(28 / 32)
    assert found.features.correlation[:4].tolist() == found.features.precision[:4].tolist() == [0.0] * 4


def test_features_that_never_fired_are_left_out() -> None:
    rate = torch.full((16,), 0.2).double()
    rate[3] = 1e-7
    none = torch.full((16,), -1)
    directions = sk.synthetic.unit_directions(16, 16, kind="orthogonal")
    truth = GroundTruth(
        directions=directions,
        firing_rate=rate,
        parent=none,
        group=none,
        group_rate=torch.zeros(0).double(),
        bias=torch.zeros(16),
    )
    found = sk.recovery(truth.sae(threshold=0.25), truth, n_tokens=1000)
    assert found.f1 == found.recall == 1.0 and found.features[["f1", "correlation"]].isna().loc[3].all()
    assert found.mean_max_cosine == pytest.approx(1.0)


def test_absorption_of_a_hand_built_sae(tree: GroundTruth) -> None:
    sae, parent = tree.sae(), tree.parent
    first = torch.stack([(parent == p).nonzero()[0, 0] for p in range(8)])  # the child that each parent loses
    W_enc, W_dec = sae.W_enc.clone(), sae.W_dec.clone()
    W_enc[:, :8] -= 4 * W_enc[:, first]
    W_dec[first] += W_dec[:8]
    found = sk.recovery(changed(sae, W_enc=W_enc, W_dec=W_dec), tree, n_tokens=6000)
    clean = sk.recovery(sae, tree, n_tokens=6000)
    fired = clean.features.n_fired
    expected = fired[first.numpy()].sum() / fired[8:].sum()  # children exclude each other
    assert found.absorption == pytest.approx(expected) and 0.2 < expected < 0.8
    assert found.missed_alone == clean.absorption == clean.missed_alone == 0
    by_parent = fired[first.numpy()].to_numpy() / [fired[(parent == p).numpy()].sum() for p in range(8)]
    assert found.features.absorption[:8].to_numpy() == pytest.approx(by_parent)
    assert found.features.absorption[8:].isna().all()
    assert found.parts.loc["children", "recall"] == 1 > found.parts.loc["parents", "recall"]
    assert found.parts.n.to_dict() == {"all": 32, "parents": 8, "children": 24}


def test_pairs_by_correlation_do_not_look_at_the_decoder(orthogonal: GroundTruth) -> None:
    sae = orthogonal.sae()
    wrong = changed(sae, W_dec=sae.W_dec.roll(1, 0))
    assert sk.recovery(wrong, orthogonal, n_tokens=2000, match="correlation").f1 == 1
    by_cosine = sk.recovery(wrong, orthogonal, n_tokens=2000)
    assert by_cosine.matched_cosine == pytest.approx(1) and by_cosine.f1 < 0.3


def test_held_out_means_held_out(orthogonal: GroundTruth) -> None:
    sae, seen = orthogonal.sae(), []
    encode = sae.encode_sparse
    sae.encode_sparse = lambda x: seen.append(x) or encode(x)  # type: ignore[method-assign,assignment,return-value,func-returns-value]
    first, second = (sk.recovery(sae, orthogonal, n_tokens=600) for _ in range(2))
    assert first.to_frame().equals(second.to_frame()) and first.intervals == second.intervals
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], next(orthogonal.batches(600)))
    sk.recovery(sae, orthogonal, n_tokens=600, seed=1)
    assert not torch.equal(seen[0], seen[2])


def test_text_and_tables(tree: GroundTruth, orthogonal: GroundTruth) -> None:
    found = sk.recovery(tree.sae(), tree, n_tokens=1000)
    text = repr(found)
    assert "Recovery of 32 true features by 32 of an SAE, 1,000 tokens, paired by cosine" in text
    assert "absorption                0.000, missed alone 0.000" in text and "children" in text
    assert len(found.to_frame()) == 1 and found.to_frame().f1[0] == 1
    plain = sk.recovery(orthogonal.sae(), orthogonal, n_tokens=1000)
    assert "absorption" not in repr(plain) and list(plain.parts.index) == ["all"]
    assert "that fired" in repr(plain)


def test_figure(tree: GroundTruth) -> None:
    found = sk.recovery(tree.sae(threshold=0.7), tree, n_tokens=3000)
    fig = found.plot()
    assert isinstance(fig, go.Figure) and len(fig.to_json()) < 120_000
    roots, children, line, points = fig.data
    assert list(roots.y) == list(found.features.best_cosine[:8]) and len(children.x) == 24
    assert list(children.x) == list(found.features.firing_rate[8:]) and fig.layout.xaxis.type == "log"
    assert line.x[1] == line.y[1] == found.firings.magnitude.max()
    silent = (np.array(points.y) == 0).mean()
    assert len(points.x) == 1500 and 0.05 < silent < 0.4
    assert f"silent on {silent:.0%} of true firings" in [a.text for a in fig.layout.annotations]
    assert f"F1 {found.f1:.3f}" in fig.layout.title.subtitle.text
    assert (np.array(points.x)[np.array(points.y) == 0] <= 0.71).all()


def test_misuse_is_explained(orthogonal: GroundTruth) -> None:
    with pytest.raises(MismatchError, match="reads another width than the truth"):
        sk.recovery(sk.SAE(sk.SAEConfig(d_in=8, d_sae=8, k=2)), orthogonal)
    with pytest.raises(UnknownNameError, match="did you mean 'cosine'"):
        sk.recovery(orthogonal.sae(), orthogonal, match="cosin")
    with pytest.raises(ConfigError, match="n_tokens is too small"):
        sk.recovery(orthogonal.sae(), orthogonal, n_tokens=1)
