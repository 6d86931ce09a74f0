"""Gated: one path decides whether a feature fires, another how strongly, so that sparsity costs no strength.

    pi  = (x - b_dec) @ W_enc + b_gate                  whether: pi > 0
    mag = ((x - b_dec) @ W_enc) * exp(r_mag) + b_mag    how strongly
    f   = relu(mag) where pi > 0
    loss = mean ||x - x_hat||^2 + lambda * mean sum_i relu(pi_i) + mean ||x - x_hat_frozen(relu(pi))||^2

The penalty is on the gate alone. The last term, the gate's own reconstruction through a frozen copy of the decoder,
gives the gate its gradient: f has none in pi. b_gate is the SAE's b_enc. Decoder rows have unit norm. Source:
Rajamanoharan et al. 2024, "Improving dictionary learning with gated sparse autoencoders", arXiv:2404.16014, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..sparse.pairs import pairs_above
from ..sparse.selection import Chosen, above
from .architecture import Architecture, TrainingForward

if TYPE_CHECKING:
    from ..base import SAE
    from ..config import SAEConfig


class Gated(Architecture):
    """f = relu(mag) where the gate is open."""

    name = "gated"
    options = ("sparsity_coefficient", "target_l0")
    extra_parameters = ("b_mag", "r_mag")
    activation_units = ("b_mag",)
    resampling = True
    saelens_name = "gated"
    saelens_tensors: ClassVar[Mapping[str, str]] = {"b_enc": "b_gate"}

    def default_sparsity_coefficient(self, config: SAEConfig) -> float | None:
        """1, where the error is per token and of the order of d_in."""
        return 1.0

    def shift(self, sae: SAE, shift: Float[Tensor, " d_sae"]) -> None:
        """Both biases; the magnitude's pre-activation is scaled by exp(r_mag)."""
        super().shift(sae, shift)
        sae.b_mag.add_(shift * sae.r_mag.exp())

    def acts(
        self, pre_acts: Float[Tensor, "n d_sae"], sae: SAE, features: Int[Tensor, " d_sae"] | None = None
    ) -> Float[Tensor, "n d_sae"]:
        """The magnitudes where the gate's pre-activation is positive; the rest 0."""
        b_gate, r_mag, b_mag = (v if features is None else v[features] for v in (sae.b_enc, sae.r_mag, sae.b_mag))
        return magnitude(pre_acts, b_gate, r_mag, b_mag) * (pre_acts > 0)

    def select(self, sae: SAE, x: Float[Tensor, "n d_in"]) -> Chosen:
        """The same as a list."""
        token, feature, gate = above(sae.encoder, x, torch.zeros_like(sae.b_enc))
        value = magnitude(gate, *(v.detach()[feature] for v in (sae.b_enc, sae.r_mag, sae.b_mag)))
        on = value > 0
        return token[on], feature[on], value[on]

    def training_forward(
        self, sae: SAE, x: Float[Tensor, "n d_in"], target: Float[Tensor, "n d_out"]
    ) -> TrainingForward:
        """The squared errors of the features and of the gate, and sum_i relu(pi_i) per token as the penalty."""
        pairs = pairs_above(sae, x, torch.zeros_like(sae.b_enc))
        gate = pairs.pre.relu()
        open_ = (pairs.pre.detach() > 0).to(gate.dtype)
        acts = open_ * magnitude(
            pairs.pre, pairs.of_feature(sae.b_enc), pairs.of_feature(sae.r_mag), pairs.of_feature(sae.b_mag)
        )
        error = target - sae.reconstruct(pairs.decode(acts, sae.W_dec), x)
        of_gate = target - sae.reconstruct(pairs.decode(gate, sae.W_dec.detach()), x, frozen=True)
        penalty = pairs.sum_by_feature(gate).sum() / len(x)
        squared = error.square().sum() + of_gate.square().sum()
        return TrainingForward(error, squared, pairs.counts(acts), penalty)


def magnitude(pre: Tensor, b_gate: Tensor, r_mag: Tensor, b_mag: Tensor) -> Tensor:
    """relu of the magnitude path, from the gate's pre-activation: both share W_enc."""
    return ((pre - b_gate) * r_mag.exp() + b_mag).relu()
