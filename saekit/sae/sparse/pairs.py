"""The pairs of token and feature that matter to one training step, and what a loss does with their values.

Few pairs are a list (sparse sums, kernels.py); many are the whole matrix (dense products). An architecture writes its
equations once, on `pre` and the per-feature weights `of_feature` picks for it, and both forms give the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .. import triton as triton_kernels
from . import kernels
from .kernels import Pattern
from .selection import SAMPLE_TOKENS, Chosen, above, positive

if TYPE_CHECKING:
    from ..base import SAE

SPARSE_BELOW = 0.04  # fraction of pairs that matter under which sums over them beat a dense product


@dataclass(frozen=True, eq=False)
class SparsePairs:
    """A list of pairs: token ascending, and feature ascending within a token."""

    pre: Float[Tensor, " nnz"]
    """Pre-activations; gradients flow to the encoder."""
    pattern: Pattern

    @staticmethod
    def of(
        sae: SAE,
        x: Float[Tensor, "n d_in"],
        token: Int[Tensor, " nnz"],
        feature: Int[Tensor, " nnz"],
        value: Float[Tensor, " nnz"],
        uniform: bool = False,
    ) -> SparsePairs:
        """The pairs (token, feature) with their pre-activations `value`, already computed, made differentiable."""
        pattern = Pattern(token, feature, x.shape[0], sae.config.d_sae, uniform)
        b_dec = sae.b_dec if sae.config.subtracts_b_dec else None
        return SparsePairs(kernels.pre_acts(value, pattern, x, sae.W_enc, sae.b_enc, b_dec), pattern)

    def of_feature(self, vector: Float[Tensor, " d_sae"]) -> Float[Tensor, " nnz"]:
        """Each pair's entry of a vector over features."""
        return vector[self.pattern.feature]

    def sum_by_feature(self, values: Float[Tensor, " nnz"]) -> Float[Tensor, " d_sae"]:
        """Per feature the sum of its pairs' values."""
        return values.new_zeros(self.pattern.d_sae).index_add(0, self.pattern.feature, values)

    def counts(self, acts: Float[Tensor, " nnz"]) -> Int[Tensor, " d_sae"]:
        """On how many tokens each feature is not zero."""
        p = self.pattern
        if kernels.on_gpu(acts):
            return triton_kernels.segment_counts(p.feature, acts.detach().abs(), p.d_sae, sorted_=p.segments)
        on = acts.detach() != 0
        return p.counts if bool(on.all()) else torch.bincount(p.feature[on], minlength=p.d_sae)

    def decode(self, acts: Float[Tensor, " nnz"], W_dec: Float[Tensor, "d_sae d_out"]) -> Float[Tensor, "n d_out"]:
        """acts @ W_dec."""
        return kernels.decode(acts, self.pattern, W_dec)

    def decode_nested(
        self, acts: Float[Tensor, " nnz"], W_dec: Float[Tensor, "d_sae d_out"], sizes: Sequence[int]
    ) -> Float[Tensor, "n prefixes d_out"]:
        """acts @ W_dec from the first sizes[0] features alone, from the first sizes[1], and so on.

        Every pair is decoded once, into the part of its token that its feature's group makes up; running sums follow.
        """
        p, n_groups = self.pattern, len(sizes)
        group = torch.bucketize(p.feature, torch.as_tensor(sizes, device=p.feature.device), right=True)
        parts = kernels.decode(
            acts, Pattern(p.token * n_groups + group, p.feature, p.n_tokens * n_groups, p.d_sae), W_dec
        )
        return parts.view(p.n_tokens, n_groups, -1).cumsum(1)


@dataclass(frozen=True, eq=False)
class DensePairs:
    """All pairs, as a matrix."""

    pre: Float[Tensor, "n d_sae"]

    def of_feature(self, vector: Float[Tensor, " d_sae"]) -> Float[Tensor, "n d_sae"]:
        return vector.expand_as(self.pre)

    def sum_by_feature(self, values: Float[Tensor, "n d_sae"]) -> Float[Tensor, " d_sae"]:
        return values.sum(0)

    def counts(self, acts: Float[Tensor, "n d_sae"]) -> Int[Tensor, " d_sae"]:
        return (acts.detach() != 0).sum(0)

    def decode(self, acts: Float[Tensor, "n d_sae"], W_dec: Float[Tensor, "d_sae d_out"]) -> Float[Tensor, "n d_out"]:
        return acts @ W_dec


Pairs = SparsePairs | DensePairs


def positive_pairs(
    sae: SAE, x: Float[Tensor, "n d_in"], chosen: Chosen, uniform: bool = False
) -> tuple[SparsePairs, Tensor]:
    """The chosen pairs that have a positive pre-activation, and their activations.

    A GPU keeps the others too, with an activation of 0: leaving them out would make the host wait for their number.
    `uniform` says that every token has as many.
    """
    if not kernels.on_gpu(x):
        pairs = SparsePairs.of(sae, x, *positive(*chosen))
        return pairs, pairs.pre
    pairs = SparsePairs.of(sae, x, *chosen, uniform=uniform)
    return pairs, pairs.pre.relu()


def pairs_above(sae: SAE, x: Float[Tensor, "n d_in"], threshold: Float[Tensor, " d_sae"]) -> Pairs:
    """The pairs whose pre-activation exceeds the feature's threshold, or all: the form that is faster.

    Which one it is, a few of the tokens say; on a GPU it is all, which needs no answer from there. In that form those
    below count too, so an architecture's equations must give 0 for them.
    """
    if kernels.on_gpu(x):
        return DensePairs(sae.pre_acts(x))
    encoder = sae.encoder
    with torch.no_grad():
        few = encoder.centred(x[:: -(-len(x) // SAMPLE_TOKENS)])
        fraction = (torch.addmm(encoder.b_enc, few, encoder.rows.T) > threshold).float().mean()
    if float(fraction) > SPARSE_BELOW:
        return DensePairs(sae.pre_acts(x))
    return SparsePairs.of(sae, x, *above(encoder, x, threshold))
