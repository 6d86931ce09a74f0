"""Sparse arithmetic of an autoencoder, forwards and backwards, at the cost of the active features only.

A batch of n tokens with a few active features each is a list of (token, feature) pairs. Decoding, the gradient of the
decoder, of the encoder and of the activations are all sums over rows picked by that list: torch's embedding bag does
each in one call on CPU and CUDA, by token for activations and by feature for weights. No [n, d_sae] matrix is touched.
Knows nothing of activation rules, losses or files. Sources: Gao et al. 2024 (arXiv:2406.04093), appendix D.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Pattern:
    """Which features are active on which tokens: pairs in ascending order of token."""

    token: Int[Tensor, " nnz"]
    feature: Int[Tensor, " nnz"]
    n_tokens: int
    d_sae: int

    @cached_property
    def by_token(self) -> Int[Tensor, " n_plus_1"]:
        """Where each token's pairs begin, and the end of the last."""
        return _starts(torch.bincount(self.token, minlength=self.n_tokens))

    @cached_property
    def counts(self) -> Int[Tensor, " d_sae"]:
        """Number of tokens each feature is active on."""
        return torch.bincount(self.feature, minlength=self.d_sae)

    @cached_property
    def by_feature(self) -> tuple[Int[Tensor, " nnz"], Int[Tensor, " d_sae_plus_1"]]:
        """The order that sorts the pairs by feature, and where each feature's pairs begin."""
        return torch.sort(self.feature, stable=True).indices, _starts(self.counts)


@dataclass(frozen=True, eq=False)
class SparseActs:
    """Feature activations of n tokens, non-zero ones only: token ascending, and features ascending within a token."""

    token: Int[Tensor, " nnz"]
    feature: Int[Tensor, " nnz"]
    value: Float[Tensor, " nnz"]
    n_tokens: int
    d_sae: int

    def __repr__(self) -> str:
        l0 = self.value.numel() / max(1, self.n_tokens)
        return (
            f"SparseActs of {self.n_tokens} tokens, {self.d_sae} features: {self.value.numel()} non-zero, l0 {l0:.1f}"
        )

    @property
    def pattern(self) -> Pattern:
        """The pairs without their values."""
        return Pattern(self.token, self.feature, self.n_tokens, self.d_sae)

    def to_dense(self) -> Float[Tensor, "n d_sae"]:
        """The same numbers with their zeros."""
        out = self.value.new_zeros(self.n_tokens, self.d_sae)
        out[self.token, self.feature] = self.value
        return out

    @staticmethod
    def cat(parts: list[SparseActs]) -> SparseActs:
        """Several blocks of tokens, one after the other."""
        starts = [sum(p.n_tokens for p in parts[:i]) for i in range(len(parts))]
        return SparseActs(
            token=torch.cat([p.token + start for p, start in zip(parts, starts, strict=True)]),
            feature=torch.cat([p.feature for p in parts]),
            value=torch.cat([p.value for p in parts]),
            n_tokens=sum(p.n_tokens for p in parts),
            d_sae=parts[0].d_sae,
        )


def decode(
    value: Float[Tensor, " nnz"], pattern: Pattern, W_dec: Float[Tensor, "d_sae d_in"]
) -> Float[Tensor, "n d_in"]:
    """Per token, the sum of its active features' decoder rows times their values. Differentiable in value and W_dec."""
    out: Tensor = _Decode.apply(value, W_dec, pattern)  # type: ignore[no-untyped-call]
    return out


def pre_acts(
    selected: Float[Tensor, " nnz"],
    pattern: Pattern,
    x: Float[Tensor, "n d_in"],
    W_enc: Float[Tensor, "d_in d_sae"],
    b_enc: Float[Tensor, " d_sae"],
    b_dec: Float[Tensor, " d_in"] | None = None,
) -> Float[Tensor, " nnz"]:
    """`selected`, the pre-activations (x - b_dec) @ W_enc + b_enc at the pattern's pairs, made differentiable.

    The caller has computed them already, on the way to choosing the pattern. Gradients reach W_enc, b_enc and b_dec
    (None when it was not subtracted); x takes part as a constant.
    """
    out: Tensor = _PreActs.apply(selected, x, W_enc, b_enc, b_dec, pattern)  # type: ignore[no-untyped-call]
    return out


def largest(values: Float[Tensor, "n d_sae"], count: int) -> Int[Tensor, " count"]:
    """Flat positions of the `count` largest of all values, ascending; all of them when there are fewer.

    Sorting a whole batch of pre-activations costs more than computing it. A cut taken from a sample leaves a few times
    `count` candidates, among which the choice is exact; should the cut prove too high, everything is looked at.
    """
    flat = values.reshape(-1)
    if count >= flat.numel():
        return torch.arange(flat.numel(), device=flat.device)
    sample = flat[:: max(1, flat.numel() // 2**18)]
    wanted = int(1.5 * count * sample.numel() / flat.numel()) + 16
    candidates = None
    if wanted < sample.numel() // 2:
        cut = sample.topk(wanted, sorted=False).values.min()
        candidates = (flat > cut).nonzero().squeeze(1)
    if candidates is None or candidates.numel() < count:
        return flat.topk(count, sorted=False).indices.sort().values
    return candidates[flat[candidates].topk(count, sorted=False).indices].sort().values


def bag_sum(
    rows: Float[Tensor, "r d"],
    index: Int[Tensor, " nnz"],
    starts: Int[Tensor, " bags_plus_1"],
    weight: Float[Tensor, " nnz"],
) -> Float[Tensor, "bags d"]:
    """Per bag, the sum of weight * rows[index] over the bag's entries."""
    out: Tensor = torch.embedding_bag(rows, index, starts, False, 0, False, weight, True)[0]
    return out


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, W_dec: Tensor, pattern: Pattern) -> Tensor:
        ctx.save_for_backward(value, W_dec)
        ctx.pattern = pattern
        return bag_sum(W_dec, pattern.feature, pattern.by_token, value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        value, W_dec = ctx.saved_tensors
        pattern: Pattern = ctx.pattern
        grad = grad.contiguous()
        d_value = d_W_dec = None
        if ctx.needs_input_grad[0]:
            d_value = torch.ops.aten._embedding_bag_per_sample_weights_backward(
                grad, W_dec, pattern.feature, pattern.by_token[:-1], pattern.token, 0
            )
        if ctx.needs_input_grad[1]:
            order, starts = pattern.by_feature
            d_W_dec = bag_sum(grad, pattern.token[order], starts, value[order])
        return d_value, d_W_dec, None


class _PreActs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, selected: Tensor, x: Tensor, W_enc: Tensor, b_enc: Tensor, b_dec: Tensor | None, pattern: Pattern
    ) -> Tensor:
        ctx.save_for_backward(x, W_enc, b_dec)
        ctx.pattern = pattern
        return selected.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, W_enc, b_dec = ctx.saved_tensors
        pattern: Pattern = ctx.pattern
        order, starts = pattern.by_feature
        d_b_enc = grad.new_zeros(pattern.d_sae).index_add_(0, pattern.feature, grad)
        d_W_enc = bag_sum(x, pattern.token[order], starts, grad[order])
        d_b_dec = None
        if b_dec is not None:
            d_W_enc -= torch.outer(d_b_enc, b_dec)
            d_b_dec = -(W_enc @ d_b_enc)
        return None, None, d_W_enc.T, d_b_enc, d_b_dec, None


def _starts(counts: Tensor) -> Tensor:
    starts = counts.new_zeros(counts.numel() + 1)
    torch.cumsum(counts, 0, out=starts[1:])
    return starts
