"""Reconstruction, error and the gradient of the activations, from one reading of each chosen decoder row.

A program has one token and walks over the dimensions in blocks: it gathers the block of all k rows, sums them to the
reconstruction, and takes the error of that block at once into its products with the same k rows, which are still in
registers. So every row is read once for the forward and the backward pass. Needs triton.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import launch, power_of_two

ELEMENTS = 4096  # of the gathered block
MAX_K = 1024  # beyond it a block would be narrower than 16 dimensions or overflow the registers


@triton.jit
def _decode_error(
    feature_ptr, value_ptr, w_ptr, b_ptr, target_ptr, error_ptr, d_value_ptr, k, d,
    BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, BLOCK_K)
    live = j < k
    feature = tl.load(feature_ptr + token * k + j, mask=live, other=0)
    value = tl.load(value_ptr + token * k + j, mask=live, other=0.0)
    products = tl.zeros([BLOCK_K, BLOCK_D], tl.float32)
    for start in tl.range(0, d, BLOCK_D):
        i = start + tl.arange(0, BLOCK_D)
        inside = i < d
        at = feature[:, None] * d + i[None, :]
        rows = tl.load(w_ptr + at, mask=live[:, None] & inside[None, :], other=0.0).to(tl.float32)
        goal = tl.load(target_ptr + token * d + i, mask=inside, other=0.0)
        error = goal - tl.load(b_ptr + i, mask=inside, other=0.0) - tl.sum(rows * value[:, None], 0)
        tl.store(error_ptr + token * d + i, error, mask=inside)
        products += rows * error[None, :]
    tl.store(d_value_ptr + token * k + j, tl.sum(products, 1), mask=live)


def decode_error(feature: Tensor, value: Tensor, W_dec: Tensor, b_dec: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """`twins.decode_error` by a kernel: W_dec in the type to be read, all else in float32."""
    n, k = feature.shape
    d = W_dec.shape[1]
    block_k = power_of_two(k)
    block_d = max(16, min(64, ELEMENTS // block_k))
    error = torch.empty(n, d, dtype=torch.float32, device=W_dec.device)
    d_value = torch.empty(n, k, dtype=torch.float32, device=W_dec.device)
    warps = min(8, max(1, block_k * block_d // 1024))
    launch(
        _decode_error, (n,), feature, value, W_dec, b_dec, target, error, d_value, k, d, block_k, block_d,
        num_warps=warps,
    )  # fmt: skip
    return error, d_value
