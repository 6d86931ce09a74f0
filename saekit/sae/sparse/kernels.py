"""Sparse arithmetic of an autoencoder, forwards and backwards, at the cost of the active features only.

A batch of n tokens with a few active features each is a list of (token, feature) pairs. Decoding, the gradient of the
decoder, of the encoder and of the activations are all sums over rows picked by that list: torch's embedding bag does
each in one call, by token for activations; by feature, for weights, the list is the sparse matrix of a product. No
[n, d_sae] matrix is touched.
Sources: Gao et al. 2024 (arXiv:2406.04093), appendix D.2.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .. import triton as triton_kernels
from ..displays import sparse_acts_html


def on_gpu(tensor: Tensor) -> bool:
    """Whether the host should not wait for this tensor's device."""
    return tensor.device.type != "cpu"


@dataclass(frozen=True, eq=False)
class Pattern:
    """Which features are active on which tokens: pairs in ascending order of token."""

    token: Int[Tensor, " nnz"]
    feature: Int[Tensor, " nnz"]
    n_tokens: int
    d_sae: int
    uniform: bool = False
    """Whether every token has as many pairs."""

    @cached_property
    def by_token(self) -> Int[Tensor, " n_plus_1"]:
        """Where each token's pairs begin, and the end of the last."""
        if on_gpu(self.token):  # where counting would make the host wait
            return torch.searchsorted(self.token, torch.arange(self.n_tokens + 1, device=self.token.device))
        return _starts(torch.bincount(self.token, minlength=self.n_tokens))

    @cached_property
    def counts(self) -> Int[Tensor, " d_sae"]:
        """Number of pairs of each feature."""
        if on_gpu(self.feature):
            return self.segments.start.diff()
        return torch.bincount(self.feature, minlength=self.d_sae)

    @cached_property
    def segments(self) -> triton_kernels.Segments:
        """The pairs sorted by feature, for a GPU's kernels."""
        return triton_kernels.segments(self.feature, self.d_sae)

    @cached_property
    def by_feature(self) -> tuple[Int[Tensor, " nnz"], Int[Tensor, " d_sae_plus_1"]]:
        """The order that sorts the pairs by feature, and where each feature's pairs begin."""
        if on_gpu(self.feature):
            return self.segments.order, self.segments.start
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

    _repr_html_ = sparse_acts_html

    @property
    def pattern(self) -> Pattern:
        """The pairs without their values."""
        return Pattern(self.token, self.feature, self.n_tokens, self.d_sae)

    def to_dense(self) -> Float[Tensor, "n d_sae"]:
        """The same numbers with their zeros."""
        out = self.value.new_zeros(self.n_tokens, self.d_sae)
        out[self.token, self.feature] = self.value
        return out


def decode(
    value: Float[Tensor, " nnz"], pattern: Pattern, W_dec: Float[Tensor, "d_sae d_in"]
) -> Float[Tensor, "n d_in"]:
    """Per token, the sum of its active features' decoder rows times their values. Differentiable in value and W_dec."""
    out: Tensor = _Decode.apply(value, W_dec, pattern)  # type: ignore[no-untyped-call]
    return out


def squared_error(
    value: Float[Tensor, " nnz"],
    pattern: Pattern,
    W_dec: Float[Tensor, "d_sae d"],
    base: Float[Tensor, "*n d"],
    target: Float[Tensor, "n d"],
    matmul_dtype: torch.dtype = torch.float32,
) -> tuple[Float[Tensor, "n d"], Float[Tensor, ""]]:
    """The error target - base - decode(value), and its sum of squares; differentiable in all but the target.

    Its own gradient needs no matrix beside the error. On a GPU one kernel forms the error and its products with the
    decoder's rows, in the type `matmul_dtype`.
    """
    error, squared = _SquaredError.apply(value, W_dec, base, target, pattern, matmul_dtype)  # type: ignore[no-untyped-call]
    return error, squared


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


def bag_sum(
    rows: Float[Tensor, "r d"],
    index: Int[Tensor, " nnz"],
    starts: Int[Tensor, " bags_plus_1"],
    weight: Float[Tensor, " nnz"],
) -> Float[Tensor, "bags d"]:
    """Per bag, the sum of weight * rows[index] over the bag's entries."""
    out: Tensor = torch.embedding_bag(rows, index, starts, False, 0, False, weight, True)[0]
    return out


def sum_by_feature(
    value: Float[Tensor, " nnz"], rows: Float[Tensor, "n d"], pattern: Pattern, out: Float[Tensor, "d_sae d"] | None
) -> Float[Tensor, "d_sae d"]:
    """Per feature, the sum over its tokens of value * rows[token]: the gradient of a weight. `out` is written to."""
    if on_gpu(rows) and rows.dtype == torch.float32:
        return triton_kernels.weight_grad(
            pattern.feature, value, rows, pattern.token, pattern.d_sae, out, sorted_=pattern.segments
        )
    order, starts = pattern.by_feature
    token, value = pattern.token[order], value[order]
    if rows.device.type != "cpu" or rows.dtype != torch.float32 or not torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        return bag_sum(rows, token, starts, value)
    if out is None:
        out = rows.new_empty(pattern.d_sae, rows.shape[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch calls its sparse rows a beta, once a process
        sparse = torch.sparse_csr_tensor(
            starts.int(), token.int(), value, size=(pattern.d_sae, pattern.n_tokens), check_invariants=False
        )
        return torch.addmm(out, sparse, rows, beta=0, out=out)


def spare(weight: Tensor) -> Tensor | None:
    """Memory of the weight's last gradient, where its owner has left it as `weight.spare`; taken, so given once.

    A gradient of 40 MB costs as much to allocate again, page by page, as to compute.
    """
    memory: Tensor | None = getattr(weight, "spare", None)
    if memory is not None:
        weight.spare = None  # type: ignore[attr-defined]
    return memory


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
            d_value = dots(W_dec, grad, pattern)
        if ctx.needs_input_grad[1]:
            d_W_dec = sum_by_feature(value, grad, pattern, spare(W_dec))
        return d_value, d_W_dec, None


class _SquaredError(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        value: Tensor,
        W_dec: Tensor,
        base: Tensor,
        target: Tensor,
        pattern: Pattern,
        matmul_dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        along = None
        if on_gpu(value) and value.dtype == torch.float32:
            b_dec, goal = (base, target) if base.ndim == 1 else (base.new_zeros(base.shape[-1]), target - base)
            if pattern.uniform:
                feature, acts = pattern.feature.view(pattern.n_tokens, -1), value.view(pattern.n_tokens, -1)
                error, along = triton_kernels.decode_error(feature, acts, W_dec, b_dec, goal, dtype=matmul_dtype)
            else:
                error, along = triton_kernels.decode_error_of_pairs(
                    pattern.by_token, pattern.feature, value, W_dec, b_dec, goal, dtype=matmul_dtype
                )
        else:
            error = (target - base).sub_(bag_sum(W_dec, pattern.feature, pattern.by_token, value))
        ctx.save_for_backward(value, W_dec, error, along)
        ctx.pattern, ctx.base_ndim = pattern, base.ndim
        return error, error.square().sum()

    @staticmethod
    def backward(ctx: Any, d_error: Tensor | None, d_squared: Tensor | None) -> tuple[Tensor | None, ...]:
        value, W_dec, error, along = ctx.saved_tensors
        pattern: Pattern = ctx.pattern
        rows, factor = error, -2.0 * d_squared if d_squared is not None else error.new_zeros(())
        if d_error is not None:
            rows, factor, along = factor * error - d_error, error.new_ones(()), None
        d_value = d_W_dec = d_base = None
        if ctx.needs_input_grad[0]:
            d_value = factor * (dots(W_dec, rows, pattern) if along is None else along.reshape(-1))
        if ctx.needs_input_grad[1]:
            d_W_dec = sum_by_feature(factor * value, rows, pattern, spare(W_dec))
        if ctx.needs_input_grad[2]:
            d_base = factor * (rows.sum(0) if ctx.base_ndim == 1 else rows)
        return d_value, d_W_dec, d_base, None, None, None


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
        d_b_enc = grad.new_zeros(pattern.d_sae).index_add_(0, pattern.feature, grad)
        memory = spare(W_enc)
        z = x if b_dec is None else x - b_dec
        d_W_enc = sum_by_feature(grad, z, pattern, None if memory is None else memory.T)
        d_b_dec = None if b_dec is None else -(W_enc @ d_b_enc)
        return None, None, d_W_enc.T, d_b_enc, d_b_dec, None


def dots(rows: Float[Tensor, "d_sae d"], of: Float[Tensor, "n d"], pattern: Pattern) -> Float[Tensor, " nnz"]:
    """For every pair, the dot product of its feature's row and its token's.

    Feature by feature, so that each of the rows is read from memory once.
    """
    order, _ = pattern.by_feature
    token, feature = pattern.token[order], pattern.feature[order]
    sums: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(rows, of, token, order[:1], feature, 0)
    return torch.empty_like(sums).index_copy_(0, order, sums)


def _starts(counts: Tensor) -> Tensor:
    starts = counts.new_zeros(counts.numel() + 1)
    torch.cumsum(counts, 0, out=starts[1:])
    return starts
