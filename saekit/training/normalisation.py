"""The normalisation of a run, found on its first batch: centred, with E||x - mean||^2 equal to the width.

Every hook point of a crosscoder is scaled alone, and a transcoder's target has a mean and a scale of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..sae import SAE, Normalisation


def identity(sae: SAE) -> Normalisation:
    """The normalisation that changes nothing."""
    c, like = sae.config, sae.b_dec.detach()
    return Normalisation(
        mean=like.new_zeros(c.d_in),
        scale=like.new_ones(c.d_in),
        mean_out=torch.zeros_like(like) if c.is_transcoder else None,
        scale_out=torch.ones_like(like) if c.is_transcoder else None,
    )


def fit_normalisation(
    x: Float[Tensor, "n d_in"], target: Float[Tensor, "n d_out"] | None, blocks: Sequence[int]
) -> Normalisation:
    """The normalisation of activations like these; `blocks` are the widths of the hook points in x."""
    mean, scale = _standard(x, blocks)
    mean_out, scale_out = (None, None) if target is None else _standard(target, [target.shape[1]])
    return Normalisation(mean=mean, scale=scale, mean_out=mean_out, scale_out=scale_out)


def _standard(x: Float[Tensor, "n d"], blocks: Sequence[int]) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
    """Mean and scale that give each block of dimensions E||x - mean||^2 = its width."""
    mean = x.mean(0)
    scales = []
    for part in torch.split(x - mean, list(blocks), dim=1):
        variance = part.square().sum(1).mean()
        scale = float((part.shape[1] / variance) ** 0.5) if variance > 0 else 1.0
        scales.append(torch.full((part.shape[1],), scale, dtype=x.dtype, device=x.device))
    return mean, torch.cat(scales)


@torch.no_grad()
def geometric_median(x: Float[Tensor, "n d_in"], n_iterations: int = 20) -> Float[Tensor, " d_in"]:
    """The point with the least sum of distances to the rows of x, by Weiszfeld's iteration from their mean.

    >>> geometric_median(torch.tensor([[0.0], [1.0], [1e6]])).round()
    tensor([1.])
    """
    median = x.mean(0)
    for _ in range(n_iterations):
        weight = 1.0 / (x - median).norm(dim=1).clamp(min=1e-6)
        median = (x * weight[:, None]).sum(0) / weight.sum()
    return median
