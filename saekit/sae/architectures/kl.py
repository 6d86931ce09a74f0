"""KL divergence, as in the classic sparse autoencoder: every feature is drawn to the same low firing rate rho.

    f = max(pre, 0)
    rho_hat_j = batch mean of tanh(f_j)
    loss = mean ||x - x_hat||^2 + beta * sum_j [rho log(rho / rho_hat_j) + (1 - rho) log((1 - rho) / (1 - rho_hat_j))]

The divergence needs a bounded activation. The classic sigmoid is never 0; tanh of a ReLU is bounded too and leaves true
zeros, so that the result is an SAE like the others: at inference it is relu. Decoder rows have unit norm, else
short activations with long rows would dodge the penalty. With target_l0, rho is a quarter of target_l0 / d_sae, where a
large beta would lead, and beta is steered to the L0 asked for. Source: Ng 2011, "Sparse autoencoder" (CS294A lecture
notes), section 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from ..sparse.pairs import Pairs
from .relu import Rectified

if TYPE_CHECKING:
    from ..base import SAE
    from ..config import SAEConfig


class KL(Rectified):
    """ReLU at inference; trained towards one firing rate for all features."""

    name = "kl"
    options = ("sparsity_coefficient", "target_l0", "firing_rate")
    saelens_name = "standard"
    saelens_default = False

    def fixes_sparsity(self, config: SAEConfig) -> bool:
        """By its coefficient or its firing rate."""
        return config.firing_rate is not None or super().fixes_sparsity(config)

    def default_sparsity_coefficient(self, config: SAEConfig) -> float | None:
        """1, where the error is per token and of the order of d_in."""
        return 1.0

    def penalty(self, sae: SAE, pairs: Pairs, acts: Tensor, n: int) -> Float[Tensor, ""]:
        """The features' summed divergences from the firing rate."""
        return divergence(firing_rate(sae.config), pairs.sum_by_feature(acts.tanh()) / n).sum()


def firing_rate(config: SAEConfig) -> float:
    """The rate rho that features are drawn to."""
    if config.firing_rate is not None:
        return config.firing_rate
    return 0.05 if config.target_l0 is None else config.target_l0 / config.d_sae / 4


def divergence(rho: float, rate: Float[Tensor, " d_sae"]) -> Float[Tensor, " d_sae"]:
    """KL(rho || rate) of two coins, per feature; finite at rates of 0 and 1."""
    tiny = torch.finfo(rate.dtype).eps
    rate = rate.clamp(tiny, 1 - tiny)
    return rho * (rho / rate).log() + (1 - rho) * ((1 - rho) / (1 - rate)).log()
