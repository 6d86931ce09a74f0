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

from ..sparse.pairs import positive_pairs
from ..sparse.selection import largest_of_batch
from .architecture import TrainingForward
from .jumprelu import Thresholded
from .matryoshka import reconstruction

if TYPE_CHECKING:
    from ..base import SAE


class BatchTopK(Thresholded):
    """A threshold at inference, the largest of the batch in training."""

    unit_decoder = True
    auxiliary = True

    def training_forward(
        self, sae: SAE, x: Float[Tensor, "n d_in"], target: Float[Tensor, "n d_out"]
    ) -> TrainingForward:
        """The squared error of the batch's k * n largest."""
        pairs, acts = positive_pairs(sae, x, largest_of_batch(sae.encoder, x, sae.k * len(x)))
        error, squared = reconstruction(sae, x, target, pairs, acts)
        value = acts.detach()
        smallest = torch.where(value > 0, value, torch.inf).amin() if len(value) else None
        return TrainingForward(error, squared, pairs.counts(acts), smallest=smallest)
