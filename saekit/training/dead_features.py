"""Dead features: counting how long each has been silent, and two ways to bring them back.

The auxiliary loss, where the architecture has it: Gao et al. 2024, arXiv:2406.04093, appendix A.2. Resampling, for
architectures with a penalty, on request: Bricken et al. 2023, "Towards Monosemanticity", appendix "Neuron resampling".

Rejected: letting a dead feature's JumpReLU threshold sink by 1 % a step, so that the auxiliary loss reaches it. It
revives nearly all (12 dead of 2,048 instead of 301), but on features with Zipf firing rates the revived ones crowd the
true ones out: F1 0.67 instead of 0.75 (benchmarks/recovery.py, hierarchical set).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..sae import SAE
from ..sae.precision import doubles


class FiringTracker:
    """For each feature the tokens since it last fired, and how often it fired since `restart`."""

    def __init__(self, d_sae: int, device: torch.device) -> None:
        self.n_silent = torch.zeros(d_sae, dtype=torch.int64, device=device)
        self.n_fired = torch.zeros(d_sae, dtype=torch.int64, device=device)
        self.n_counted = 0

    def update(self, counts: Int[Tensor, " d_sae"], n_tokens: int) -> None:
        """Takes in one batch: on how many of its tokens each feature fired."""
        self.n_silent += n_tokens
        self.n_silent.mul_(counts == 0)
        self.n_fired += counts
        self.n_counted += n_tokens

    def dead(self, after: int) -> Int[Tensor, " n_dead"]:
        """The features silent for at least `after` tokens."""
        return (self.n_silent >= after).nonzero().squeeze(1)

    def restart(self) -> None:
        """Counts firings from here on; silence is counted on."""
        self.n_fired.zero_()
        self.n_counted = 0

    def density(self) -> Float[Tensor, " d_sae"] | None:
        """Fraction of tokens each feature fired on since `restart`; None before any."""
        return self.n_fired.float() / self.n_counted if self.n_counted else None


def auxiliary_loss(
    sae: SAE, x: Float[Tensor, "n d_in"], error: Float[Tensor, "n d_out"], dead: Int[Tensor, " n_dead"], k_aux: int
) -> Float[Tensor, ""]:
    """The fraction of the error left after the k_aux most active dead features have rebuilt what they can of it.

    `error` is x - x_hat, which b_dec has left already, so b_dec is not added again. Gradients reach the dead features'
    weights and nothing else. Dead features are few, so a dense product over them is cheaper than a sparse one.
    """
    error, x = error.detach(), x.detach()
    if sae.config.subtracts_b_dec:
        x = x - sae.b_dec.detach()
    pre = torch.addmm(sae.b_enc[dead], x, sae.W_enc.T[dead].T)
    if dead.numel() > k_aux:
        least = pre.detach().topk(k_aux, dim=1, sorted=False).values.amin(dim=1, keepdim=True)
        pre = torch.where(pre >= least, pre, 0.0)
    rebuilt = pre.relu() @ sae.W_dec[dead]
    tiny = torch.finfo(error.dtype).tiny
    return (error - rebuilt).square().sum() / error.square().sum().clamp(min=tiny)


@torch.no_grad()
def resample(
    sae: SAE,
    adam: Mapping[Tensor, Any],
    x: Float[Tensor, "n d_in"],
    error: Float[Tensor, "n d_out"],
    dead: Int[Tensor, " n_dead"],
    seed: int,
) -> None:
    """Points dead features at what the others reconstruct worst, in place; their optimiser state is reset.

    A token is drawn for each with a chance that grows with its squared loss, ||error||^4. The decoder row becomes the
    token's error, at the norm the rows of living features have; the encoder row what was read there, at a fifth of the
    mean norm of living features, so that the newcomer disturbs little. Biases begin at 0. `adam` holds each weight's
    moments, by feature.
    """
    alive = torch.ones(sae.config.d_sae, dtype=torch.bool, device=x.device)
    alive[dead] = False
    chance = doubles(error.square().sum(1).square())
    if not len(dead) or not bool(alive.any()) or not float(chance.sum()) > 0:
        return
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.multinomial(chance.cpu(), len(dead), replacement=True, generator=generator).to(x.device)
    rows = error[drawn] / error[drawn].norm(dim=1, keepdim=True)
    read = rows
    if sae.config.is_transcoder:
        read = (x - x.mean(0))[drawn]
        read = read / read.norm(dim=1, keepdim=True).clamp(min=torch.finfo(read.dtype).tiny)
    sae.W_dec[dead] = rows * (1.0 if sae.architecture.unit_decoder else sae.W_dec[alive].norm(dim=1).mean())
    sae.W_enc.T[dead] = read * 0.2 * sae.W_enc.T[alive].norm(dim=1).mean()
    for name in ("b_enc", *sae.architecture.extra_parameters):
        getattr(sae, name)[dead] = 0.0
    for name in ("W_dec", "W_enc", "b_enc", *sae.architecture.extra_parameters):
        moments = adam[getattr(sae, name)]
        for moment in (moments["exp_avg"], moments["exp_avg_sq"]) if moments else ():
            moment[dead] = 0.0
