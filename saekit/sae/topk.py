"""The TopK rule: the k largest pre-activations of each token are active, those of them that are positive.

Source: Gao et al. 2024, "Scaling and evaluating sparse autoencoders", arXiv:2406.04093, section 2.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .rule import ActivationRule

if TYPE_CHECKING:
    from .base import SAE


class TopK(ActivationRule):
    """f = the k largest of each token, never negative."""

    architecture = "topk"
    unit_decoder = True
    auxiliary = True
    elementwise = False

    def acts(
        self, pre_acts: Float[Tensor, "n d_sae"], sae: SAE, features: Int[Tensor, " d_sae"] | None = None
    ) -> Float[Tensor, "n d_sae"]:
        """The k largest of each row; the rest 0."""
        value, feature = pre_acts.topk(sae.k, dim=1, sorted=False)
        return torch.zeros_like(pre_acts).scatter(1, feature, value.relu())

    def select(
        self, pre_acts: Float[Tensor, "n d_sae"], sae: SAE
    ) -> tuple[Int[Tensor, " nnz"], Int[Tensor, " nnz"], Float[Tensor, " nnz"]]:
        """The k largest of each row as a list."""
        n = pre_acts.shape[0]
        value, feature = pre_acts.topk(sae.k, dim=1, sorted=False)
        feature, order = feature.sort(dim=1)
        value = value.gather(1, order).reshape(-1)
        token = torch.arange(n, device=value.device).repeat_interleave(sae.k)
        positive = value > 0
        if bool(positive.all()):
            return token, feature.reshape(-1), value
        return token[positive], feature.reshape(-1)[positive], value[positive]
