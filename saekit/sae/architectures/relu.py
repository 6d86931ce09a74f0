"""ReLU: every positive pre-activation is active; an L1 penalty keeps them few.

    f = max(pre, 0)
    loss = mean ||x - x_hat||^2 + lambda * mean sum_i f_i ||W_dec_i||

The decoder norms stand in the penalty so that long rows cannot dodge it. Source: Anthropic, Circuits Updates April
2024, "Update on how we train SAEs".
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..sparse.pairs import Pairs, pairs_above
from ..sparse.selection import Chosen, above
from .architecture import TRANSCODERS, Architecture, TrainingForward, short_run

if TYPE_CHECKING:
    from ..base import SAE
    from ..config import SAEConfig


class Rectified(Architecture):
    """f = max(pre, 0), with a penalty on the batch's activations."""

    options: ClassVar[tuple[str, ...]] = ("sparsity_coefficient", "target_l0")
    resampling = True

    def acts(
        self, pre_acts: Float[Tensor, "n d_sae"], sae: SAE, features: Int[Tensor, " d_sae"] | None = None
    ) -> Float[Tensor, "n d_sae"]:
        """Positive pre-activations."""
        return pre_acts.relu()

    def select(self, sae: SAE, x: Float[Tensor, "n d_in"]) -> Chosen:
        """Positive pre-activations as a list."""
        return above(sae.encoder, x, torch.zeros_like(sae.b_enc))

    def training_forward(
        self, sae: SAE, x: Float[Tensor, "n d_in"], target: Float[Tensor, "n d_out"]
    ) -> TrainingForward:
        """The squared error, and the penalty."""
        pairs = pairs_above(sae, x, torch.zeros_like(sae.b_enc))
        acts = pairs.pre.relu()
        error = target - sae.reconstruct(pairs.decode(acts, sae.W_dec), x)
        return TrainingForward(error, error.square().sum(), pairs.counts(acts), self.penalty(sae, pairs, acts, len(x)))

    @abstractmethod
    def penalty(self, sae: SAE, pairs: Pairs, acts: Tensor, n: int) -> Float[Tensor, ""]:
        """The sparsity penalty per token of n tokens."""

    def saelens_architecture(self, transcoder: bool, skip: bool) -> str:
        """ "standard"; its transcoders have no prefix."""
        return TRANSCODERS[skip] if transcoder else self.saelens_name


class ReLU(Rectified):
    """f = max(pre, 0), with an L1 penalty."""

    name = "relu"
    unit_decoder = False
    saelens_name = "standard"
    saelens_transcoders = True

    def default_sparsity_coefficient(self, config: SAEConfig) -> float | None:
        """5: Anthropic, April 2024."""
        return 5.0

    def peak_lr(self, d_sae: int, n_steps: int) -> float:
        """5e-5 (Anthropic, April 2024); in short runs half of topk's."""
        topk = 2e-4 * (16_384 / d_sae) ** 0.5
        return float(5e-5 * (3.75 * topk / 5e-5) ** short_run(n_steps))

    def penalty(self, sae: SAE, pairs: Pairs, acts: Tensor, n: int) -> Float[Tensor, ""]:
        """sum_i f_i ||W_dec_i||, per token."""
        l1: Tensor = (pairs.sum_by_feature(acts) * sae.W_dec.norm(dim=1)).sum() / n
        return l1
