"""Reconstruction, error and the gradient of the activations, from one reading of each chosen decoder row.

A program has one token and walks over the dimensions in blocks: it gathers the block of all its rows, sums them to the
reconstruction, and takes the error of that block at once into its products with the same rows, which are still in
registers. So every row is read once for the forward and the backward pass. Tokens with more pairs than a block holds
read them twice, the second time in a kernel of their own. Needs triton.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import launch, power_of_two

ELEMENTS = 4096  # of the gathered block
MOST_PAIRS = 256  # of a token in one block; at 16 dimensions


@triton.jit
def _pairs_of(start_ptr, token, k, LISTED: tl.constexpr):
    """Where a token's pairs begin and end: in the list where start says so, else k for each."""
    if LISTED:
        begin, end = tl.load(start_ptr + token), tl.load(start_ptr + token + 1)
    else:
        begin, end = token * k, token * k + k
    return begin, end


@triton.jit
def _gather(feature_ptr, w_ptr, pair, end, i, d):
    """The dimensions i of the decoder rows of some pairs, in float32; 0 beyond the ends."""
    feature = tl.load(feature_ptr + pair, mask=pair < end, other=0)
    at = feature[:, None] * d + i[None, :]
    return tl.load(w_ptr + at, mask=(pair < end)[:, None] & (i < d)[None, :], other=0.0).to(tl.float32)


@triton.jit
def _decode_error(
    start_ptr,
    feature_ptr,
    value_ptr,
    w_ptr,
    b_ptr,
    target_ptr,
    error_ptr,
    d_value_ptr,
    k,
    d,
    LISTED: tl.constexpr,
    LONG: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    begin, end = _pairs_of(start_ptr, token, k, LISTED)
    pair = begin + tl.arange(0, BLOCK_K)
    value = tl.load(value_ptr + pair, mask=pair < end, other=0.0)
    products = tl.zeros([BLOCK_K, BLOCK_D], tl.float32)
    for first in tl.range(0, d, BLOCK_D):
        i = first + tl.arange(0, BLOCK_D)
        rows = _gather(feature_ptr, w_ptr, pair, end, i, d)
        x_hat = tl.load(b_ptr + i, mask=i < d, other=0.0) + tl.sum(rows * value[:, None], 0)
        if LONG:
            for next_pair in tl.range(begin + BLOCK_K, end, BLOCK_K):
                more = next_pair + tl.arange(0, BLOCK_K)
                weight = tl.load(value_ptr + more, mask=more < end, other=0.0)
                x_hat += tl.sum(_gather(feature_ptr, w_ptr, more, end, i, d) * weight[:, None], 0)
        error = tl.load(target_ptr + token * d + i, mask=i < d, other=0.0) - x_hat
        tl.store(error_ptr + token * d + i, error, mask=i < d)
        products += rows * error[None, :]
    tl.store(d_value_ptr + pair, tl.sum(products, 1), mask=pair < end)


@triton.jit
def _remaining_products(
    start_ptr,
    feature_ptr,
    w_ptr,
    error_ptr,
    d_value_ptr,
    k,
    d,
    LISTED: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """The products of the error with the rows beyond a token's first block of pairs."""
    token = tl.program_id(0).to(tl.int64)
    begin, end = _pairs_of(start_ptr, token, k, LISTED)
    for next_pair in tl.range(begin + BLOCK_K, end, BLOCK_K):
        pair = next_pair + tl.arange(0, BLOCK_K)
        products = tl.zeros([BLOCK_K, BLOCK_D], tl.float32)
        for first in tl.range(0, d, BLOCK_D):
            i = first + tl.arange(0, BLOCK_D)
            error = tl.load(error_ptr + token * d + i, mask=i < d, other=0.0)
            products += _gather(feature_ptr, w_ptr, pair, end, i, d) * error[None, :]
        tl.store(d_value_ptr + pair, tl.sum(products, 1), mask=pair < end)


def decode_error(
    start: Tensor | None, feature: Tensor, value: Tensor, W_dec: Tensor, b_dec: Tensor, target: Tensor
) -> tuple[Tensor, Tensor]:
    """`reference.decode_error` by kernels, or `reference.decode_error_of_pairs` where `start` says where pairs begin.

    W_dec is in the type to be read, all else in float32.
    """
    n, d = target.shape
    if start is None:
        k, usual = feature.shape[1], feature.shape[1]
    else:
        k, usual = 0, 2 * feature.numel() // max(1, n)  # room for twice the mean
    block_k = min(MOST_PAIRS, max(16, power_of_two(usual)))
    block_d = max(16, min(64, ELEMENTS // block_k))
    long = start is not None or k > block_k
    error = torch.empty(n, d, dtype=torch.float32, device=W_dec.device)
    d_value = torch.empty(feature.shape, dtype=torch.float32, device=W_dec.device)
    begins = feature if start is None else start
    warps = max(1, block_k * block_d // 1024)
    launch(
        _decode_error,
        (n,),
        begins,
        feature,
        value,
        W_dec,
        b_dec,
        target,
        error,
        d_value,
        k,
        d,
        start is not None,
        long,
        block_k,
        block_d,
        num_warps=warps,
    )
    if long:
        launch(
            _remaining_products,
            (n,),
            begins,
            feature,
            W_dec,
            error,
            d_value,
            k,
            d,
            start is not None,
            block_k,
            block_d,
            num_warps=warps,
        )
    return error, d_value
