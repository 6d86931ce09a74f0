"""The metrics of an evaluation, as a table with intervals and baselines.

The metrics are those of DESIGN: l0, explained variance, cross-entropy loss recovered, KL divergence, density. Sources:
Bricken et al. 2023 and Gao et al. 2024 for the metrics; loss recovered as in Rajamanoharan et al. 2024.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float

from ..statistics import Interval

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How good an SAE is on some text. Prints as a table with its intervals and two baselines."""

    l0: float
    """Mean number of non-zero features per token."""
    explained_variance: float
    """1 - sum ||x - x_hat||^2 / sum ||x - mean(x)||^2. Predicting the mean gives 0. Of a transcoder x is what it is to
    reconstruct, of a crosscoder all its hook points together; so in all that follows."""
    mse: float
    """Mean of (x - x_hat)^2 over tokens and dimensions, in the model's units squared."""
    ce_clean: float
    """Cross-entropy of the model as it is, in nats per token."""
    ce_sae: float
    """Cross-entropy with x_hat in the place of x."""
    ce_zero: float
    """Cross-entropy with zeros in the place of x, at the same tokens."""
    ce_loss_recovered: float
    """(ce_zero - ce_sae) / (ce_zero - ce_clean); NaN where zeros change nothing."""
    kl: float
    """Mean KL divergence of the clean next-token distribution from the spliced one, in nats."""
    kl_zero: float
    """The same for zeros: what kl is to be compared with."""
    mse_mean: float
    """mse of always predicting the mean: the variance per dimension."""
    explained_variance_zero: float
    """Explained variance of predicting zeros; below 0, since the mean of x is not zero."""
    density: Float[np.ndarray, " d_sae"]
    """Fraction of tokens on which each feature is non-zero."""
    intervals: dict[str, Interval]
    """95 % bootstrap intervals of l0, explained_variance, ce_loss_recovered and kl."""
    interval_unit: str
    """What the bootstrap draws: documents, or windows where documents share them."""
    n_tokens: int
    """Tokens that count in l0, explained_variance and density."""
    n_scored: int
    """Next tokens that count in the cross-entropies and kl."""
    n_sequences: int
    """Windows run."""
    seconds: float = field(compare=False)
    """Wall time of the call."""

    @property
    def dead(self) -> np.ndarray:
        """The features that are never non-zero on these tokens."""
        return np.flatnonzero(self.density == 0)

    @property
    def n_dead(self) -> int:
        return len(self.dead)

    def to_frame(self) -> pd.DataFrame:
        """One row for the SAE and one for each baseline; NaN where a metric is not defined or not measured."""
        nan = float("nan")
        rows = {
            "sae": [self.l0, self.explained_variance, self.mse, self.ce_sae, self.ce_loss_recovered, self.kl],
            "predict the mean": [0.0, 0.0, self.mse_mean, nan, nan, nan],
            "zero ablation": [0.0, self.explained_variance_zero, nan, self.ce_zero, 0.0, self.kl_zero],
            "no change": [nan, 1.0, 0.0, self.ce_clean, 1.0, 0.0],
        }
        columns = ["l0", "explained_variance", "mse", "ce", "ce_loss_recovered", "kl"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns)

    def plot(self) -> go.Figure:
        """The cross-entropies and the densities of the features as a plotly figure."""
        from .plots import plot_evaluation

        return plot_evaluation(self)

    def __repr__(self) -> str:
        table = self.to_frame().to_string(float_format=lambda v: f"{v:.3f}", na_rep="-")
        lines = [f"  {name:<20} {low:.3f} to {high:.3f}" for name, (low, high) in self.intervals.items()]
        d_sae = len(self.density)
        return "\n".join(
            [
                f"Evaluation on {self.n_tokens:,} tokens in {self.n_sequences:,} windows, {self.seconds:.0f} s",
                table,
                f"95 % intervals (bootstrap over {self.interval_unit})",
                *lines,
                f"dead features: {self.n_dead:,} of {d_sae:,} ({self.n_dead / d_sae:.1%}) on these tokens",
            ]
        )

    __str__ = __repr__
