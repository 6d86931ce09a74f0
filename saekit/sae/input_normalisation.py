"""What some SAEs do to each token's own activation before they read it, and undo in their reconstruction.

    layer_norm    z = (x - mean) / (std + 1e-5)    x_hat = decoded * std + mean
    rms_norm      z = x * sqrt(d_in) / ||x||       x_hat = decoded * ||x|| / sqrt(d_in)

It differs from token to token, so that no weights can hold it. std is that of a sample, over the dimensions. Sources:
Gao et al. 2024, arXiv:2406.04093, and SAELens, which calls the second constant_norm_rescale.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

INPUT_NORMALISATIONS = ("none", "layer_norm", "rms_norm")
EPSILON = 1e-5


def normalised(kind: str, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_in"]:
    """The activations as an SAE with this normalisation reads them.

    >>> from saekit.sae.input_normalisation import normalised
    >>> normalised("rms_norm", torch.tensor([[6.0, 8.0]])).square().mean().item()
    1.0
    """
    if kind == "none":
        return x
    shift, scale = token_units(kind, x)
    if kind == "layer_norm":
        return (x - shift) / (scale + EPSILON)
    return x / scale.clamp_min(torch.finfo(x.dtype).tiny)


def token_units(
    kind: str, x: Float[Tensor, "*batch d_in"]
) -> tuple[Float[Tensor, "*batch 1"], Float[Tensor, "*batch 1"]]:
    """What each token's reconstruction is moved and multiplied by, to be in units of x again.

    >>> from saekit.sae.input_normalisation import token_units
    >>> shift, scale = token_units("layer_norm", torch.tensor([[1.0, 3.0]]))
    >>> shift.item(), round(scale.item(), 3)
    (2.0, 1.414)
    """
    if kind == "layer_norm":
        return x.mean(-1, keepdim=True), x.std(-1, keepdim=True)
    return x.new_zeros(()).expand(*x.shape[:-1], 1), x.norm(dim=-1, keepdim=True) / x.shape[-1] ** 0.5
