"""Everything an Evaluation is computed from, as sums per unit: a document, or a window where documents share them.

Sums are kept per unit, in float64, so that a metric can be computed without each of them: intervals are delete-one-unit
jackknife t intervals (`statistics.jackknife`), of rates and losses on the log scale and of explained variance and
loss recovered on that of what is missing to 1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ..errors import DataError
from ..sae.precision import doubles
from ..statistics import MIN_UNITS, Estimate, jackknife_estimate
from ..statistics.jackknife import Scale

OF_TOKENS = ("l0", "explained_variance", "mse")
OF_SCORES = (
    *("ce_clean", "ce_sae", "ce_sae_everywhere", "ce_zero", "ce_loss_recovered", "ce_loss_recovered_everywhere"),
    *("kl", "kl_everywhere", "kl_zero"),
)
ROUNDING = 1e-9
"""What differs by no more than this fraction of it is the same."""
UNDEFINED = "zeros in the place of the activations change nothing"
UP_TO_ONE = ("explained_variance", "ce_loss_recovered", "ce_loss_recovered_everywhere")
"""Metrics that are 1 where nothing is lost: their intervals are taken of 1 - x."""


class Sums(NamedTuple):
    """What the metrics are computed from, of each unit or of several together."""

    n: np.ndarray
    firings: np.ndarray
    error: np.ndarray
    square: np.ndarray
    norm: np.ndarray
    x: np.ndarray
    n_scored: np.ndarray
    scores: np.ndarray


class FidelityAccumulator:
    """What an Evaluation is computed from, by unit.

    Sums of x are taken about the first batch's mean, so that the variance does not drown in the mean.
    """

    def __init__(self, n_units: int, d_in: int, d_sae: int) -> None:
        self.n, self.firings, self.error, self.square, self.norm = (np.zeros(n_units) for _ in range(5))
        self.x = np.zeros((n_units, d_in))
        self.n_scored, self.scores = np.zeros(n_units), np.zeros((n_units, 7))
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
        """Adds the sums over `n` next tokens of: the clean cross-entropy; then cross-entropy and KL divergence with
        the SAE at the tokens that count, with it at every position, and with zeros at every position."""
        self.n_scored[unit] += n
        self.scores[unit] += scores.cpu().numpy()

    def metrics(self, unit: str) -> dict[str, Any]:
        """The metrics by name, their estimates over `unit`, density and counts: what an Evaluation takes of these sums.

        DataError when no token counts.
        """
        n_tokens = int(self.n.sum())
        if not n_tokens:
            raise DataError(
                "no token counts under the SAE's token filter",
                accepted="text with tokens that are neither special nor sinks",
                fix="check the corpus and sae.config.token_filter",
            )
        of_unit = Sums(self.n, self.firings, self.error, self.square, self.norm, self.x, self.n_scored, self.scores)
        total = Sums(*(part.sum(0) for part in of_unit))
        values = metrics_of(total)
        without = metrics_of(Sums(*(whole - part for whole, part in zip(total, of_unit, strict=True))))
        present = dict.fromkeys(OF_TOKENS, self.n > 0) | dict.fromkeys(OF_SCORES, self.n_scored > 0)
        return {
            **{name: float(value) for name, value in values.items()},
            "estimates": {
                name: estimate(name, float(values[name]), without[name][units], unit) for name, units in present.items()
            },
            "density": self.fired / n_tokens,
            "n_tokens": n_tokens,
            "n_scored": int(total.n_scored),
        }


def metrics_of(sums: Sums) -> dict[str, np.ndarray]:
    """The metrics of some sums, as many as these have rows."""
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = sums.square - (sums.x**2).sum(-1) / sums.n
        clean, sae, kl, everywhere, kl_everywhere, zero, kl_zero = (sums.scores / sums.n_scored[..., None]).T
        d_in = sums.x.shape[-1]
        return {
            "l0": sums.firings / sums.n,
            "explained_variance": 1 - sums.error / variance,
            "mse": sums.error / sums.n / d_in,
            "ce_clean": clean,
            "ce_sae": sae,
            "ce_sae_everywhere": everywhere,
            "ce_zero": zero,
            "ce_loss_recovered": (zero - sae) / (zero - clean),
            "ce_loss_recovered_everywhere": (zero - everywhere) / (zero - clean),
            "kl": kl,
            "kl_everywhere": kl_everywhere,
            "kl_zero": kl_zero,
            "mse_mean": variance / sums.n / d_in,
            "explained_variance_zero": 1 - sums.norm / variance,
        }


def estimate(name: str, value: float, without: np.ndarray, unit: str = "documents") -> Estimate:
    """A metric with its interval; `without` is what it is without each unit.

    >>> import numpy as np
    >>> from saekit.evaluation.accumulators import estimate
    >>> estimate("l0", 4.0, np.full(20, 4.0))
    4.00 (no interval: the same in each of 20 documents)
    """
    spread = np.abs(without - value).max(initial=0.0)
    if spread <= ROUNDING * abs(value) and len(without) >= MIN_UNITS:
        reason = f"no interval: the same in each of {len(without):,} {unit}"
        return Estimate(value, reason=reason, n_units=len(without), unit=unit)
    if name in UP_TO_ONE and value < 1 and bool((without < 1).all()):
        lost = jackknife_estimate(1 - value, 1 - without, scale="log", unit=unit)
        return replace(lost, value=value, low=1 - lost.high, high=1 - lost.low)
    scale: Scale = "log" if name not in UP_TO_ONE and value > 0 else "identity"
    return jackknife_estimate(value, without, scale=scale, unit=unit, reason=UNDEFINED)
