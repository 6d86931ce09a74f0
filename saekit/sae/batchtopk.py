"""The BatchTopK rule: in training the k * n largest pre-activations of a batch of n tokens are active.

    f = pre where pre is among the k * n largest of the batch and positive
    loss = ||x - x_hat||^2 / ||x - mean||^2 + auxiliary loss (training/dead.py)

A token on its own has no batch, so inference uses a threshold: the running mean of the smallest activation that was
kept. Source: Bussmann et al. 2024, arXiv:2412.06410.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from .jumprelu import Thresholded
from .kernels import largest
from .nested import reconstruction
from .pairs import SparsePairs
from .rule import TrainingForward

if TYPE_CHECKING:
    from .base import SAE


class BatchTopK(Thresholded):
    """A threshold at inference, the largest of the batch in training."""

    unit_decoder = True
    auxiliary = True

    def training_forward(
        self, sae: SAE, x: Float[Tensor, "n d_in"], target: Float[Tensor, "n d_out"]
    ) -> TrainingForward:
        """The squared error of the batch's k * n largest."""
        with torch.no_grad():
            pre = sae.pre_acts(x)
            position = largest(pre, sae.k * len(x))
            value = pre.reshape(-1)[position]
            positive = value > 0
            if not bool(positive.all()):
                position, value = position[positive], value[positive]
            token = torch.div(position, pre.shape[1], rounding_mode="floor")
        pairs = SparsePairs.of(sae, x, token, position - token * pre.shape[1], value)
        error, squared = reconstruction(sae, x, target, pairs, pairs.pre)
        smallest = float(value.min()) if value.numel() else None
        return TrainingForward(error, squared, pairs.pattern.counts, smallest=smallest)
