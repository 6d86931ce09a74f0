"""Everything an Evaluation is computed from, as sums per unit of the bootstrap.

Sums are kept per document, in float64, so that intervals are percentile bootstraps over documents (Efron and Tibshirani
1993, ch. 13).
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ..errors import DataError
from ..sae.precision import doubles
from ..statistics import Interval, percentile_interval, resample_counts
from .result import Evaluation


class FidelityAccumulator:
    """What an Evaluation is computed from, by unit of the bootstrap.

    Sums of x are taken about the first batch's mean, so that the variance does not drown in the mean.
    """

    def __init__(self, n_units: int, d_in: int, d_sae: int) -> None:
        self.n, self.firings, self.error, self.square, self.norm = (np.zeros(n_units) for _ in range(5))
        self.x = np.zeros((n_units, d_in))
        self.n_scored, self.scores = np.zeros(n_units), np.zeros((n_units, 5))
        self.centre: np.ndarray | None = None
        self.fired = np.zeros(d_sae, np.int64)

    def add_activations(self, unit: Tensor, x: Tensor, x_hat: Tensor, feature: Tensor, token: Tensor) -> None:
        if not len(x):
            return
        values = doubles(x).cpu().numpy()
        if self.centre is None:
            self.centre = values.mean(0)
        u, about = unit.numpy(), values - self.centre
        np.add.at(self.n, u, 1)
        np.add.at(self.error, u, (doubles(x) - doubles(x_hat)).pow(2).sum(-1).cpu().numpy())
        np.add.at(self.square, u, (about**2).sum(1))
        np.add.at(self.norm, u, (values**2).sum(1))
        np.add.at(self.x, u, about)
        np.add.at(self.firings, u[token.cpu().numpy()], 1)
        self.fired += np.bincount(feature.cpu().numpy(), minlength=len(self.fired))

    def add_scores(self, unit: int, n: int, scores: Tensor) -> None:
        self.n_scored[unit] += n
        self.scores[unit] += scores.cpu().numpy()

    def metrics(self, weight: np.ndarray) -> dict[str, np.ndarray]:
        """The metrics with each unit counted as often as `weight` [draws, units] says."""
        n, scored = weight @ self.n, weight @ self.n_scored
        variance = weight @ self.square - ((weight @ self.x) ** 2).sum(1) / n
        clean, sae, kl, zero, kl_zero = (weight @ self.scores).T / scored
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                "l0": weight @ self.firings / n,
                "explained_variance": 1 - weight @ self.error / variance,
                "mse": weight @ self.error / n / self.x.shape[1],
                "ce_clean": clean,
                "ce_sae": sae,
                "ce_zero": zero,
                "ce_loss_recovered": (zero - sae) / (zero - clean),
                "kl": kl,
                "kl_zero": kl_zero,
                "mse_mean": variance / n / self.x.shape[1],
                "explained_variance_zero": 1 - weight @ self.norm / variance,
            }

    def evaluation(self, n_bootstrap: int, seed: int, unit_name: str, n_sequences: int, started: float) -> Evaluation:
        n_tokens = int(self.n.sum())
        if not n_tokens:
            raise DataError(
                "no token counts under the SAE's token filter",
                accepted="text with tokens that are neither special nor sinks",
                fix="check the corpus and sae.config.token_filter",
            )
        values = {name: float(v[0]) for name, v in self.metrics(np.ones((1, len(self.n)))).items()}
        return Evaluation(
            **values,
            density=self.fired / n_tokens,
            intervals=self._intervals(n_bootstrap, seed, ("l0", "explained_variance", "ce_loss_recovered", "kl")),
            interval_unit=unit_name,
            n_tokens=n_tokens,
            n_scored=int(self.n_scored.sum()),
            n_sequences=n_sequences,
            seconds=time.perf_counter() - started,
        )

    def _intervals(self, n_bootstrap: int, seed: int, names: Sequence[str]) -> dict[str, Interval]:
        n_units = len(self.n)
        rng = np.random.default_rng(seed)
        parts = [
            self.metrics(resample_counts(n_units, size, rng))
            for size in [100] * (n_bootstrap // 100) + [n_bootstrap % 100] * (n_bootstrap % 100 > 0)
        ]
        return {name: percentile_interval(np.concatenate([p[name] for p in parts] or [np.zeros(0)])) for name in names}
