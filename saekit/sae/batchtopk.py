"""The BatchTopK rule: in training the k * n largest pre-activations of a batch of n tokens are active.

A token on its own has no batch, so inference uses a threshold: the running mean of the smallest activation that was
kept. Source: Bussmann et al. 2024, arXiv:2412.06410.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .jumprelu import JumpReLU
from .kernels import largest

if TYPE_CHECKING:
    from .base import SAE


class BatchTopK(JumpReLU):
    """JumpReLU at inference, the largest of the batch in training."""

    unit_decoder = True
    auxiliary = True
    trainable = True

    def select_training(
        self, pre_acts: Float[Tensor, "n d_sae"], sae: SAE
    ) -> tuple[Int[Tensor, " nnz"], Int[Tensor, " nnz"], Float[Tensor, " nnz"]]:
        """The k * n largest of the whole batch, those of them that are positive."""
        n, d_sae = pre_acts.shape
        position = largest(pre_acts, sae.k * n)
        value = pre_acts.reshape(-1)[position]
        positive = value > 0
        if not bool(positive.all()):
            position, value = position[positive], value[positive]
        token = torch.div(position, d_sae, rounding_mode="floor")
        return token, position - token * d_sae, value
