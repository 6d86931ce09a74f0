"""What an SAE returns."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from .displays import output_html


@dataclass(frozen=True, eq=False)
class SAEOutput:
    """What an SAE returns for activations: the reconstruction and the features, in the model's units."""

    x_hat: Float[Tensor, "*batch d_out"]
    feature_acts: Float[Tensor, "*batch d_sae"]

    def __repr__(self) -> str:
        l0 = float((self.feature_acts != 0).sum(-1).float().mean()) if self.feature_acts.numel() else 0.0
        return f"SAEOutput: x_hat {tuple(self.x_hat.shape)}, feature_acts {tuple(self.feature_acts.shape)}, l0 {l0:.1f}"

    _repr_html_ = output_html
