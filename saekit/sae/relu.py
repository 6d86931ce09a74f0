"""The ReLU rule: every positive pre-activation is active; an L1 penalty keeps them few.

The penalty is lambda * sum_i f_i ||W_dec_i||, so that decoder norms cannot dodge it. Source: Anthropic, Circuits
Updates April 2024, "Update on how we train SAEs".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxtyping import Float, Int
from torch import Tensor

from .rule import ActivationRule, nonzero

if TYPE_CHECKING:
    from .base import SAE


class ReLU(ActivationRule):
    """f = max(pre, 0)."""

    architecture = "standard"
    unit_decoder = False
    auxiliary = False

    def acts(
        self, pre_acts: Float[Tensor, "n d_sae"], sae: SAE, features: Int[Tensor, " d_sae"] | None = None
    ) -> Float[Tensor, "n d_sae"]:
        """Positive pre-activations."""
        return pre_acts.relu()

    def select(
        self, pre_acts: Float[Tensor, "n d_sae"], sae: SAE
    ) -> tuple[Int[Tensor, " nnz"], Int[Tensor, " nnz"], Float[Tensor, " nnz"]]:
        """Positive pre-activations as a list."""
        return nonzero(pre_acts.relu())
