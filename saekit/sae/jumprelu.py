"""The JumpReLU rule: a pre-activation above its feature's threshold passes unchanged.

Here for files trained elsewhere; finished BatchTopK SAEs have the same form. Source: Rajamanoharan et al. 2024,
arXiv:2407.14435; a negative threshold acts as zero, as in SAELens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxtyping import Float, Int
from torch import Tensor

from .rule import ActivationRule, nonzero

if TYPE_CHECKING:
    from .base import SAE


class JumpReLU(ActivationRule):
    """f = pre where pre > threshold and pre > 0."""

    architecture = "jumprelu"
    unit_decoder = False
    auxiliary = False
    has_threshold = True
    trainable = False

    def acts(
        self, pre_acts: Float[Tensor, "n d_sae"], sae: SAE, features: Int[Tensor, " d_sae"] | None = None
    ) -> Float[Tensor, "n d_sae"]:
        """Pre-activations above the threshold; the rest 0."""
        return pre_acts.relu() * (pre_acts > (sae.threshold if features is None else sae.threshold[features]))

    def select(
        self, pre_acts: Float[Tensor, "n d_sae"], sae: SAE
    ) -> tuple[Int[Tensor, " nnz"], Int[Tensor, " nnz"], Float[Tensor, " nnz"]]:
        """Pre-activations above the threshold as a list."""
        return nonzero(self.acts(pre_acts, sae))
