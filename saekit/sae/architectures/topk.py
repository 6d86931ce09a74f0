"""TopK: the k largest pre-activations of each token are active, those of them that are positive.

    f = relu(topk(pre))
    loss = ||x - x_hat||^2 / ||x - mean||^2 + auxiliary loss (training/dead_features.py)

With multi_k_coefficient c a second reconstruction, from the 4 k largest, adds c times its error, so that features mean
something beyond the k-th too. Source: Gao et al. 2024, "Scaling and evaluating sparse autoencoders", arXiv:2406.04093,
section 2.3 and appendix A.2 (multi-TopK, c = 1/8).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..sparse.pairs import positive_pairs
from ..sparse.selection import Chosen, largest_of_tokens, positive
from .architecture import Architecture, TrainingForward
from .matryoshka import nested_name, prefixes, reconstruction

if TYPE_CHECKING:
    from ..base import SAE
    from ..config import SAEConfig

MULTIPLE = 4  # features of the second reconstruction, in multiples of k


class TopK(Architecture):
    """f = the k largest of each token, never negative."""

    name = "topk"
    options = ("k", "matryoshka", "multi_k_coefficient")
    needs = ("k",)
    elementwise = False
    auxiliary_loss = True
    saelens_name = "topk"

    def describe(self, config: SAEConfig) -> str:
        """With nested prefixes and a second reconstruction, where it has them."""
        return nested_name(config) + (" with multi-k loss" if config.multi_k_coefficient else "")

    def variants(self, d_sae: int) -> dict[str, dict[str, Any]]:
        """A second reconstruction with the weight of Gao et al. 2024, and nested prefixes."""
        return {"": {}, "multi-k": {"multi_k_coefficient": 1 / 8}, "matryoshka": {"matryoshka": prefixes(d_sae)}}

    def acts(
        self, pre_acts: Float[Tensor, "n d_sae"], sae: SAE, features: Int[Tensor, " d_sae"] | None = None
    ) -> Float[Tensor, "n d_sae"]:
        """The k largest of each row; the rest 0."""
        value, feature = pre_acts.topk(sae.k, dim=1, sorted=False)
        return torch.zeros_like(pre_acts).scatter(1, feature, value.relu())

    def select(self, sae: SAE, x: Float[Tensor, "n d_in"]) -> Chosen:
        """The k largest of each row as a list."""
        return positive(*_largest(sae, x, sae.k))

    def training_forward(
        self, sae: SAE, x: Float[Tensor, "n d_in"], target: Float[Tensor, "n d_out"]
    ) -> TrainingForward:
        """The squared error, and with multi_k_coefficient its like from 4 k features."""
        pairs, acts = positive_pairs(sae, x, _largest(sae, x, sae.k), uniform=True)
        error, squared = reconstruction(sae, x, target, pairs, acts)
        if c := sae.config.multi_k_coefficient:
            more = _largest(sae, x, min(MULTIPLE * sae.k, sae.config.d_sae))
            squared = squared + c * reconstruction(sae, x, target, *positive_pairs(sae, x, more, uniform=True))[1]
        return TrainingForward(error, squared, pairs.counts(acts))

    def to_saelens(self, config: SAEConfig) -> dict[str, Any]:
        """k."""
        return {"k": config.k, "rescale_acts_by_decoder_norm": False}

    def from_saelens(self, cfg: Mapping[str, Any]) -> dict[str, Any]:
        """k."""
        return {"k": cfg.get("k")}


def _largest(sae: SAE, x: Float[Tensor, "n d_in"], k: int) -> Chosen:
    """Token, feature and value of the k largest of each token."""
    feature, value = largest_of_tokens(sae.encoder, x, k)
    token = torch.arange(len(x), device=x.device).repeat_interleave(k)
    return token, feature.reshape(-1), value.reshape(-1)
