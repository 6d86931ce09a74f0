"""Exact changes of an SAE's units: training normalisation and decoder norms folded into the weights.

Every function returns a new SAE and leaves the one it was given alone.
"""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float
from torch import Tensor

from .base import SAE


@torch.no_grad()
def fold_normalisation(sae: SAE, mean: Float[Tensor, " d_in"], scale: float) -> SAE:
    """The SAE that does to x what `sae` does to (x - mean) * scale; features and reconstruction in units of x.

    >>> x = torch.randn(4, sae.config.d_in)
    >>> folded = sk.sae.fold_normalisation(sae, mean=x.mean(0), scale=3.0)
    >>> torch.allclose(folded.encode(x), sae.encode((x - x.mean(0)) * 3.0) / 3.0, atol=1e-5)
    True
    """
    out = copy.deepcopy(sae)
    mean = mean.to(out.b_dec)
    out.b_enc.div_(scale)
    if not sae.config.apply_b_dec_to_input:
        out.b_enc.sub_(mean @ out.W_enc)
    out.b_dec.copy_(mean + sae.b_dec / scale)
    out.threshold.div_(scale)
    return out


@torch.no_grad()
def unfold_normalisation(sae: SAE, mean: Float[Tensor, " d_in"], scale: float) -> SAE:
    """The inverse of `fold_normalisation`: the SAE for normalised activations."""
    out = copy.deepcopy(sae)
    mean = mean.to(out.b_dec)
    if not sae.config.apply_b_dec_to_input:
        out.b_enc.add_(mean @ out.W_enc)
    out.b_enc.mul_(scale)
    out.b_dec.copy_((sae.b_dec - mean) * scale)
    out.threshold.mul_(scale)
    return out


@torch.no_grad()
def fold_decoder_norms(sae: SAE) -> SAE:
    """The same reconstruction with decoder rows of unit norm and their norms moved into the encoder.

    Exact for rules that look at one feature at a time (relu, jumprelu, batchtopk at inference); for topk it changes the
    choice unless the rows were of unit norm. A row of zeros stays.
    """
    out = copy.deepcopy(sae)
    norm = out.W_dec.norm(dim=1)
    norm = torch.where(norm > 0, norm, torch.ones_like(norm))
    out.W_dec.div_(norm[:, None])
    out.W_enc.mul_(norm)
    out.b_enc.mul_(norm)
    out.threshold.mul_(norm)
    return out
