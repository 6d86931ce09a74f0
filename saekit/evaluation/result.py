"""The metrics of an evaluation, as a table with intervals and baselines.

l0, explained variance, cross-entropy loss recovered, KL divergence, density. Sources: Bricken et al. 2023 and Gao et
al. 2024 for the metrics; loss recovered as in Rajamanoharan et al. 2024, with zeros at every position as in SAELens and
SAEBench.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float

from ..activations.excluded import ExcludedTokens
from ..statistics import Estimate, Interval
from .displays import evaluation_html

if TYPE_CHECKING:
    import plotly.graph_objects as go


SHOWN = ("l0", "explained_variance", "ce_loss_recovered", "ce_loss_recovered_everywhere", "kl")
"""The metrics whose intervals an evaluation prints."""


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
    """Cross-entropy with x_hat in the place of x at the tokens that count; the others are left as they are."""
    ce_sae_everywhere: float
    """Cross-entropy with x_hat in the place of x at every position, attention sinks and special tokens too."""
    ce_zero: float
    """Cross-entropy with zeros in the place of x at every position, attention sinks and special tokens too. Sparing
    them makes it larger, worse than a uniform guess, and what is lost seem smaller."""
    ce_loss_recovered: float
    """(ce_zero - ce_sae) / (ce_zero - ce_clean); NaN where zeros change nothing."""
    ce_loss_recovered_everywhere: float
    """The same of ce_sae_everywhere. Negative where the SAE cannot write attention sinks, on which it was not trained
    and which the model needs."""
    kl: float
    """Mean KL divergence of the clean next-token distribution from the one of ce_sae, in nats."""
    kl_everywhere: float
    """The same from the one of ce_sae_everywhere."""
    kl_zero: float
    """The same for zeros: what kl is to be compared with."""
    mse_mean: float
    """mse of always predicting the mean: the variance per dimension."""
    explained_variance_zero: float
    """Explained variance of predicting zeros; below 0, since the mean of x is not zero."""
    density: Float[np.ndarray, " d_sae"]
    """Fraction of tokens on which each feature is non-zero."""
    estimates: Mapping[str, Estimate]
    """Each metric with its 95 % interval: a delete-one-unit jackknife t interval, on the log scale, of explained
    variance and loss recovered that of what is missing to 1. None below five units."""
    interval_unit: str
    """What is left out in turn: documents, or windows where documents share them."""
    excluded: ExcludedTokens
    """What the token filter left out of this text, and how much of the norm that is."""
    n_dead_in_training: int | None
    """Features that were dead at the end of training: silent for TrainConfig.dead_after. None where it is not known."""
    n_tokens: int
    """Tokens that count in l0, explained_variance and density."""
    n_scored: int
    """Next tokens that count in the cross-entropies and kl."""
    n_sequences: int
    """Windows run."""
    seconds: float = field(compare=False)
    """Wall time of the call."""

    @property
    def silent(self) -> np.ndarray:
        """The features that are never non-zero on these tokens."""
        return np.flatnonzero(self.density == 0)

    @property
    def n_silent(self) -> int:
        return len(self.silent)

    @property
    def dead(self) -> np.ndarray:
        """`silent`, under its name in earlier scripts; which features training left dead is not recorded."""
        return self.silent

    @property
    def intervals(self) -> dict[str, Interval]:
        """The (low, high) of each of `estimates`; nan where there is no interval."""
        return {name: Interval(e.low, e.high) for name, e in self.estimates.items()}

    @property
    def n_units(self) -> int:
        """Documents (`interval_unit`) that the intervals are over."""
        return self.estimates["l0"].n_units or 0

    def to_frame(self) -> pd.DataFrame:
        """One row for the SAE and one for each baseline; NaN where a metric is not defined or not measured.

        "sae" stands at the tokens that count, "sae everywhere" at every position, as zeros do.
        """
        nan = float("nan")
        everywhere = [self.ce_sae_everywhere, self.ce_loss_recovered_everywhere, self.kl_everywhere]
        rows = {
            "sae": [self.l0, self.explained_variance, self.mse, self.ce_sae, self.ce_loss_recovered, self.kl],
            "sae everywhere": [nan, nan, nan, *everywhere],
            "predict the mean": [0.0, 0.0, self.mse_mean, nan, nan, nan],
            "zero ablation": [0.0, self.explained_variance_zero, nan, self.ce_zero, 0.0, self.kl_zero],
            "no change": [nan, 1.0, 0.0, self.ce_clean, 1.0, 0.0],
        }
        columns = ["l0", "explained_variance", "mse", "ce", "ce_loss_recovered", "kl"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns)

    def intervals_frame(self) -> pd.DataFrame:
        """One row for each metric: value, low, high and n_units."""
        return pd.DataFrame.from_dict({name: e.row() for name, e in self.estimates.items()}, orient="index")

    def plot(self) -> go.Figure:
        """The cross-entropies and the densities of the features as a plotly figure."""
        from .plots import plot_evaluation

        return plot_evaluation(self)

    def __repr__(self) -> str:
        table = self.to_frame().to_string(float_format=lambda v: f"{v:.3f}", na_rep="-")
        lines = [f"  {name:<29} {self.estimates[name]:.3f}" for name in SHOWN]
        d_sae, dead = len(self.density), self.n_dead_in_training
        in_training = "" if dead is None else f"; dead in training: {dead:,} ({dead / d_sae:.1%})"
        return "\n".join(
            [
                f"Evaluation on {self.n_tokens:,} tokens in {self.n_sequences:,} windows, {self.seconds:.0f} s",
                table,
                f"95 % intervals (jackknife t over {self.interval_unit})",
                *lines,
                str(self.excluded),
                f"silent features: {self.n_silent:,} of {d_sae:,} ({self.n_silent / d_sae:.1%}) on these tokens"
                f"{in_training}",
            ]
        )

    __str__ = __repr__
    _repr_html_ = evaluation_html
