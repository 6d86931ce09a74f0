"""What a model's final norm does to a direction, measured: whatever the module is called and however it writes its
weight (x * w, x * (1 + w), with the mean taken off or not), its response to a probe says so.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

LARGE = 100.0
"""Of the probe, so that the norm's epsilon does not show: 1e-5 in 1e4."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FinalNorm:
    """The linear part of a norm: it scales each dimension, after taking off the mean where it centres."""

    scale: Float[Tensor, " d_model"]
    centres: bool

    def fold_into(self, W_U: Float[Tensor, "d_model d_vocab"]) -> Float[Tensor, "d_model d_vocab"]:
        """W_U behind the norm: direction @ this is what the direction adds to the logits, up to the norm's scale.

        >>> from saekit.models.final_norm import FinalNorm
        >>> FinalNorm(scale=torch.tensor([1.0, 2.0]), centres=True).fold_into(torch.tensor([[1.0], [1.0]]))
        tensor([[-0.5000],
                [ 0.5000]])
        """
        folded = W_U * self.scale.to(W_U).unsqueeze(-1)
        return folded - folded.mean(0, keepdim=True) if self.centres else folded


@torch.no_grad()
def measure_final_norm(module: nn.Module | None, d_model: int) -> FinalNorm:
    """The FinalNorm of a module that takes [..., d_model]; the identity's for None.

    The probe has entries of both signs that sum to zero, so that its mean square is the same with the mean taken off;
    half the difference of the responses to it and to its negative leaves out a bias.

    >>> from saekit.models.final_norm import measure_final_norm
    >>> norm = torch.nn.LayerNorm(4)
    >>> norm.weight.data = torch.tensor([1.0, 2.0, 3.0, 4.0])
    >>> measured = measure_final_norm(norm, 4)
    >>> measured.scale, measured.centres
    (tensor([1., 2., 3., 4.]), True)
    """
    if module is None:
        return FinalNorm(scale=torch.ones(d_model), centres=False)
    module = copy.deepcopy(module).float()
    device = next((t.device for t in [*module.parameters(), *module.buffers()]), torch.device("cpu"))
    probe = torch.ones(d_model, device=device)
    probe[1::2] = -1
    if d_model % 2:
        probe[-3:] = torch.tensor([1.0, 1.0, -2.0], device=device)

    def response(x: Tensor) -> Tensor:
        out: Tensor = module(torch.stack([x, -x]).unsqueeze(0) * LARGE)[0].float()
        return (out[0] - out[1]) / 2

    plain, shifted = response(probe), response(probe + 1)
    scale = plain / probe * probe.square().mean().sqrt()
    near, far = (shifted - plain).norm(), (shifted - scale * (probe + 1) / (probe + 1).square().mean().sqrt()).norm()
    return FinalNorm(scale=scale.cpu(), centres=bool(near < far))
