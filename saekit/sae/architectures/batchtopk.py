"""BatchTopK: in training the k * n largest pre-activations of a batch of n tokens are active.

    f = pre where pre is among the k * n largest of the batch and positive
    loss = ||x - x_hat||^2 / ||x - mean||^2 + auxiliary loss (training/dead_features.py)

A token on its own has no batch, so inference uses a threshold: the running mean of the smallest activation that was
kept. Source: Bussmann et al. 2024, arXiv:2412.06410.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..sparse.pairs import positive_pairs
from ..sparse.selection import largest_of_batch
from .architecture import TrainingForward
from .jumprelu import Thresholded
from .matryoshka import nested_name, prefixes, reconstruction

if TYPE_CHECKING:
    from ..base import SAE
    from ..config import SAEConfig

THRESHOLD_MEMORY = 100  # steps, or a twentieth of a short run, over which the threshold is averaged


class BatchTopK(Thresholded):
    """A threshold at inference, the largest of the batch in training."""

    name = "batchtopk"
    options = ("k", "matryoshka")
    needs = ("k",)
    auxiliary_loss = True
    saelens_name = "jumprelu"
    saelens_default = False
    saelens_transcoders = True

    def describe(self, config: SAEConfig) -> str:
        """With nested prefixes, where it has them."""
        return nested_name(config)

    def variants(self, d_sae: int) -> dict[str, dict[str, Any]]:
        """Nested prefixes."""
        return {"": {}, "matryoshka": {"matryoshka": prefixes(d_sae)}}

    def from_saelens(self, cfg: Mapping[str, Any]) -> dict[str, Any]:
        """k and the nested prefixes of an SAE that was saved while it trained."""
        widths = [n for n in cfg.get("matryoshka_widths") or () if n < cfg["d_sae"]]
        return {"k": round(cfg["k"]), "matryoshka": (*widths, cfg["d_sae"]) if widths else ()}

    def after_step(self, sae: SAE, out: TrainingForward, finite: Bool[Tensor, ""], step: int, n_steps: int) -> None:
        """The threshold follows the smallest activation that was kept."""
        if out.smallest is None:
            return
        weight = 1.0 / min(step + 1, THRESHOLD_MEMORY, max(1, n_steps // 20))
        threshold, known = sae.threshold, finite & torch.isfinite(out.smallest)
        threshold.copy_(torch.where(known, threshold.lerp(out.smallest.expand_as(threshold), weight), threshold))

    def training_forward(
        self, sae: SAE, x: Float[Tensor, "n d_in"], target: Float[Tensor, "n d_out"]
    ) -> TrainingForward:
        """The squared error of the batch's k * n largest."""
        pairs, acts = positive_pairs(sae, x, largest_of_batch(sae.encoder, x, sae.k * len(x)))
        error, squared = reconstruction(sae, x, target, pairs, acts)
        value = acts.detach()
        smallest = torch.where(value > 0, value, torch.inf).amin() if len(value) else None
        return TrainingForward(error, squared, pairs.counts(acts), smallest=smallest)
