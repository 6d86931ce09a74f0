"""Nested prefixes of features (Matryoshka): the first m features alone must reconstruct x too.

    squared error = mean over prefixes m of ||x - (sum of the active features below m) - b_dec||^2

General features come first and need no help from the special ones that would otherwise absorb them. An option of topk
and batchtopk; the choice of active features is made once, over all of them. Source: Bussmann et al. 2025, "Learning
multi-level features with Matryoshka sparse autoencoders", arXiv:2503.17547.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from ..sparse import kernels
from ..sparse.pairs import SparsePairs

if TYPE_CHECKING:
    from ..base import SAE
    from ..config import SAEConfig

PREFIXES = (1 / 8, 1 / 4, 1 / 2, 1.0)  # of d_sae, where benchmarks and file checks want some


def reconstruction(
    sae: SAE, x: Float[Tensor, "n d_in"], target: Float[Tensor, "n d_out"], pairs: SparsePairs, acts: Tensor
) -> tuple[Float[Tensor, "n d_out"], Float[Tensor, ""]]:
    """The error of all features, and the squared error to minimise: theirs, or the mean over the prefixes."""
    sizes = sae.config.matryoshka
    if not sizes:
        base = sae.reconstruct(sae.b_dec.new_zeros(()), x)
        return kernels.squared_error(acts, pairs.pattern, sae.W_dec, base, target, sae.matmul_dtype)
    nested = pairs.decode_nested(acts, sae.W_dec, sizes)
    errors = (target - sae.reconstruct(nested.new_zeros(()), x))[:, None] - nested
    return errors[:, -1], errors.square().sum() / len(sizes)


def prefixes(d_sae: int) -> tuple[int, ...]:
    """Sizes of nested prefixes: an eighth, a quarter, half and all of the features."""
    return tuple(dict.fromkeys(max(1, round(fraction * d_sae)) for fraction in PREFIXES))


def nested_name(config: SAEConfig) -> str:
    """The architecture's name, and whether its prefixes are nested."""
    return f"matryoshka {config.activation}" if config.matryoshka else config.activation
