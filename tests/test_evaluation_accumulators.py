"""The intervals of an evaluation hold the value of the population that its documents are drawn from."""

from __future__ import annotations

import numpy as np
import pytest

from saekit.evaluation.accumulators import FidelityAccumulator, Sums, metrics_of

D = 8


def drawn(rng: np.random.Generator, n: int) -> FidelityAccumulator:
    """Documents of 20 to 250 tokens that differ in their mean, in how hard they are and how well they are rebuilt."""
    sums = FidelityAccumulator(n, D, 4)
    length = rng.integers(20, 250, n)
    hard, lost = rng.gamma(12, 3 / 12, n), rng.gamma(8, 1 / 8, n)
    mean = rng.normal(0, 0.5, (n, D))
    sums.n[:], sums.n_scored[:], sums.fired[:] = length, length, 1
    sums.x[:] = length[:, None] * mean + rng.normal(size=(n, D)) * np.sqrt(length)[:, None]
    sums.square[:] = rng.chisquare(D * length) + length * (mean**2).sum(1)
    sums.error[:] = 0.15 * D * length * lost * rng.gamma(length / 2, 2 / length)
    sums.firings[:] = length * 30 * rng.gamma(40, 1 / 40, n)
    extra, kl = 0.1 * lost * rng.gamma(4, 1 / 4, n), 0.15 * lost * rng.gamma(6, 1 / 6, n)
    losses = [hard, hard + extra, kl, hard + 5 * extra, 5 * kl, np.full(n, 10.8), np.full(n, 9.0)]
    sums.scores[:] = length[:, None] * np.stack(losses, axis=1)
    return sums


@pytest.mark.slow
@pytest.mark.parametrize(("n", "least"), [(5, 0.85), (20, 0.9)])
def test_intervals_cover_the_value_of_the_population(n, least):
    rng, n_repetitions = np.random.default_rng(0), 250
    population = drawn(rng, 100_000)
    total = Sums(*(getattr(population, name).sum(0) for name in Sums._fields))
    known = {name: float(value) for name, value in metrics_of(total).items()}
    names = ("l0", "explained_variance", "mse", "ce_sae", "ce_loss_recovered", "kl")
    covered = dict.fromkeys(names, 0)
    for _ in range(n_repetitions):
        found = drawn(rng, n).metrics("documents")["estimates"]
        for name in names:
            assert found[name].n_units == n and found["ce_zero"].reason.startswith("no interval: the same in each")
            covered[name] += found[name].low <= known[name] <= found[name].high
    for name, count in covered.items():
        assert least <= count / n_repetitions <= 0.99, (name, count / n_repetitions)
