"""Exact changes of an SAE's units: training normalisation and decoder norms folded into the weights.

Every function returns a new SAE and leaves the one it was given alone.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ConfigError
from .base import SAE


@dataclass(frozen=True, eq=False, kw_only=True)
class Normalisation:
    """What training does to activations: (x - mean) * scale; the target of a transcoder has its own."""

    mean: Float[Tensor, " d_in"]
    scale: Float[Tensor, " d_in"]
    mean_out: Float[Tensor, " d_out"] | None = None
    """None: the reconstruction is of x and has its mean and scale."""
    scale_out: Float[Tensor, " d_out"] | None = None

    @property
    def of_output(self) -> tuple[Float[Tensor, " d_out"], Float[Tensor, " d_out"]]:
        """Mean and scale of what is reconstructed."""
        if self.mean_out is None or self.scale_out is None:
            return self.mean, self.scale
        return self.mean_out, self.scale_out

    def apply(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_in"]:
        """What is read, normalised."""
        return (x - self.mean) * self.scale

    def apply_to_output(self, x: Float[Tensor, "n d_out"]) -> Float[Tensor, "n d_out"]:
        """What is to be reconstructed, normalised."""
        mean, scale = self.of_output
        return (x - mean) * scale

    def inverse(self) -> Normalisation:
        """The normalisation that undoes this one."""
        mean_out, scale_out = self.of_output
        return Normalisation(
            mean=-self.mean * self.scale, scale=1 / self.scale, mean_out=-mean_out * scale_out, scale_out=1 / scale_out
        )


@torch.no_grad()
def fold_normalisation(sae: SAE, normalisation: Normalisation) -> SAE:
    """The SAE that does to x what `sae` does to normalised x; features and reconstruction in units of x.

    Exact for one scale over all dimensions. Where the output has several (a crosscoder's hook points), decoder rows
    change their norms, which move into the encoder: exact unless features are compared with each other (topk), whose
    choice it would change, so there they stay.

    >>> x = torch.randn(4, sae.config.d_in)
    >>> normalisation = sk.sae.Normalisation(mean=x.mean(0), scale=torch.full((sae.config.d_in,), 3.0))
    >>> folded = sk.sae.fold_normalisation(sae, normalisation)
    >>> torch.allclose(folded.encode(x), sae.encode((x - x.mean(0)) * 3.0) / 3.0, atol=1e-5)
    True
    """
    if sae.config.normalises_input:
        raise ConfigError(
            "an SAE that normalises each token has no weights that a normalisation before it could be folded into",
            got=f"input_normalisation={sae.config.input_normalisation!r}",
            accepted="none",
        )
    out = copy.deepcopy(sae)
    mean, scale = normalisation.mean.to(out.b_dec), normalisation.scale.to(out.b_dec)
    mean_out, scale_out = (v.to(out.b_dec) for v in normalisation.of_output)
    unit = scale_out[0]  # feature activations shrink by this: decoder rows stay as they are where it is the only scale
    if not sae.config.subtracts_b_dec:
        read_at_mean = (mean * scale) @ out.W_enc
        out.architecture.shift(out, -read_at_mean)
    out.W_enc.mul_((scale / unit)[:, None])
    out.W_dec.mul_(unit / scale_out)
    for vector in _in_activation_units(out):
        vector.div_(unit)
    out.b_dec.copy_(mean_out + sae.b_dec / scale_out)
    if sae.config.skip:
        out.W_skip.mul_(scale[:, None] / scale_out)
        out.b_dec.sub_(mean @ out.W_skip)
    several = bool((scale_out != unit).any())
    return fold_decoder_norms(out) if several and sae.architecture.elementwise else out


@torch.no_grad()
def fold_decoder_norms(sae: SAE) -> SAE:
    """The same reconstruction with decoder rows of unit norm and their norms moved into the encoder.

    Exact for architectures that look at one feature at a time (all but topk at inference); for topk it changes the
    choice unless the rows were of unit norm. A row of zeros stays.
    """
    out = copy.deepcopy(sae)
    norm = out.W_dec.norm(dim=1)
    norm = torch.where(norm > 0, norm, torch.ones_like(norm))
    out.W_dec.div_(norm[:, None])
    out.W_enc.mul_(norm)
    for vector in _in_activation_units(out):
        vector.mul_(norm)
    return out


def _in_activation_units(sae: SAE) -> list[Tensor]:
    """The vectors over features that grow with the activations."""
    return [sae.b_enc, sae.threshold, *(getattr(sae, name) for name in sae.architecture.activation_units)]
