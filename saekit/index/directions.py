"""What a feature's decoder direction shows without any text: its logit effects and its neighbours.

Logit effects are products with the unembedding, neighbours with the other decoder rows; of each the largest are found a
block of features at a time (`exact_topk`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from ..hook_points import HookPoint, hook_names
from .exact_topk import Ranked, largest_products

if TYPE_CHECKING:
    from ..models import LanguageModel
    from ..sae import SAE

_NOT_RESIDUAL = ("hook_q", "hook_k", "hook_v", "hook_z", ".q.", ".k.", ".v.", ".o.hook_in", "hook_result", "rot_")


def writes_to_residual(hook_name: str) -> bool:
    """Whether what is at this hook point lies in the residual stream's own basis, so that it has logit effects.

    >>> from saekit.index.directions import writes_to_residual
    >>> writes_to_residual("blocks.0.hook_resid_post"), writes_to_residual("blocks.0.attn.hook_z")
    (True, False)
    """
    return not any(part in hook_name for part in _NOT_RESIDUAL)


def written_to_residual(sae: SAE, model: LanguageModel, hook_name: HookPoint) -> Float[Tensor, "d_sae d_model"] | None:
    """What each feature adds to the residual stream; None where the SAE writes elsewhere.

    A transcoder writes at its hook_out, a crosscoder at the last of its hook points (its other blocks go through layers
    that no product with the unembedding shows).

    >>> sk.index.directions.written_to_residual(sae, model, HOOK).shape == sae.W_dec.shape
    True
    """
    where = sae.config.hook_out or hook_names(hook_name)[-1]
    if not writes_to_residual(where) or model.hook_width(where) != model.d_model:
        return None
    return sae.W_dec[:, -model.d_model :]


@torch.inference_mode()
def logit_effects(
    W_dec: Float[Tensor, "d_sae d_in"],
    unembedding: Float[Tensor, "d_in d_vocab"],
    n: int = 10,
    block: int = 512,
    report: Callable[[int], object] = lambda n_features: None,
) -> tuple[Ranked, Ranked]:
    """The n tokens each feature promotes most and the n it suppresses most, with the effect on their logits.

    The effect is that of one unit of the feature written straight to the unembedding, less its mean over the
    vocabulary, up to the scale of the final norm ("direct logit attribution": nostalgebraist, logit lens, 2020).

    >>> U = torch.tensor([[3.0, 0, 0], [0, 0, 6]])
    >>> promoted, suppressed = sk.index.directions.logit_effects(torch.eye(2), U, n=1)
    >>> promoted.column.flatten().tolist(), promoted.value.flatten().tolist()
    ([0, 2], [2.0, 4.0])
    """
    n = min(n, unembedding.shape[1])
    tokens = unembedding.float().T
    tokens = (tokens - tokens.mean(0)).contiguous()
    written = W_dec.detach().to(tokens.device, torch.float32)
    promoted, suppressed = largest_products(written, tokens, n, block=block, signs=(1, -1), report=report)
    return promoted, suppressed


@torch.inference_mode()
def neighbours(
    W_dec: Float[Tensor, "d_sae d_in"],
    n: int = 10,
    block: int = 1024,
    report: Callable[[int], object] = lambda n_features: None,
) -> Ranked:
    """The n features whose decoder directions have the highest cosine with each feature's, itself left out.

    >>> sk.index.directions.neighbours(torch.tensor([[1.0, 0], [0, 1], [1, 2]]), 1).column.flatten().tolist()
    [2, 2, 1]
    """
    unit = torch.nn.functional.normalize(W_dec.detach().float(), dim=1)
    return largest_products(unit, unit, min(n, len(unit) - 1), block=block, itself=True, report=report)[0]
