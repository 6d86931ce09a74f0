"""Weight gradients as sums over sorted pairs: every output has one writer and one order of adding, and no atomics.

A program has one chunk of one feature's pairs and one block of dimensions. Chunks of a feature that has several leave
their sums aside, and a second kernel adds these in order. Two runs give the same bits. Needs triton.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import cdiv, launch, power_of_two
from .segments import CHUNK, Segments

PAIRS = 16  # read at once


@triton.jit
def _sum_chunks(
    value_ptr,
    rows_ptr,
    token_ptr,
    order_ptr,
    start_ptr,
    chunk_end_ptr,
    chunk_feature_ptr,
    partial_start_ptr,
    out_ptr,
    partial_ptr,
    d_sae,
    d,
    CHUNK: tl.constexpr,
    PAIRS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    chunk = tl.program_id(0)
    feature = tl.load(chunk_feature_ptr + chunk)
    if feature >= d_sae:
        return
    begin, stop = tl.load(start_ptr + feature), tl.load(start_ptr + feature + 1)
    n_chunks = tl.maximum((stop - begin + CHUNK - 1) // CHUNK, 1)
    part = chunk - (tl.load(chunk_end_ptr + feature) - n_chunks)
    begin += part * CHUNK
    stop = tl.minimum(stop, begin + CHUNK)
    i = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = i < d
    total = tl.zeros([PAIRS, BLOCK_D], tl.float32)
    for first in tl.range(begin, stop, PAIRS):
        at = first + tl.arange(0, PAIRS)
        live = at < stop
        pair = tl.load(order_ptr + at, mask=live, other=0)
        value = tl.load(value_ptr + pair, mask=live, other=0.0)
        token = tl.load(token_ptr + pair, mask=live, other=0)
        rows = tl.load(rows_ptr + token[:, None] * d + i[None, :], mask=live[:, None] & inside[None, :], other=0.0)
        total += value[:, None] * rows.to(tl.float32)
    total = tl.sum(total, 0)
    if n_chunks == 1:
        tl.store(out_ptr + feature * d + i, total, mask=inside)
    else:
        tl.store(partial_ptr + (tl.load(partial_start_ptr + feature) + part) * d + i, total, mask=inside)


@triton.jit
def _add_partials(start_ptr, partial_start_ptr, out_ptr, partial_ptr, d, CHUNK: tl.constexpr, BLOCK_D: tl.constexpr):
    feature = tl.program_id(0).to(tl.int64)
    n_chunks = (tl.load(start_ptr + feature + 1) - tl.load(start_ptr + feature) + CHUNK - 1) // CHUNK
    if n_chunks <= 1:
        return
    first = tl.load(partial_start_ptr + feature)
    for block in tl.range(0, d, BLOCK_D):
        i = block + tl.arange(0, BLOCK_D)
        total = tl.zeros([BLOCK_D], tl.float32)
        for part in tl.range(first, first + n_chunks):
            total += tl.load(partial_ptr + part * d + i, mask=i < d, other=0.0)
        tl.store(out_ptr + feature * d + i, total, mask=i < d)


def weight_grad(value: Tensor, rows: Tensor, token: Tensor, d_sae: int, sorted_: Segments, out: Tensor) -> Tensor:
    """`reference.weight_grad` by kernels, into `out` [d_sae, d] in float32."""
    d = rows.shape[1]
    s = sorted_
    block_d = min(128, max(16, power_of_two(d)))
    partial = torch.empty(s.n_partials, d, dtype=torch.float32, device=rows.device)
    launch(
        _sum_chunks,
        (len(s.chunk_feature), cdiv(d, block_d)),
        value,
        rows,
        token,
        s.order,
        s.start,
        s.chunk_end,
        s.chunk_feature,
        s.partial_start,
        out,
        partial,
        d_sae,
        d,
        CHUNK,
        PAIRS,
        block_d,
        num_warps=2,
    )
    launch(_add_partials, (d_sae,), s.start, s.partial_start, out, partial, d, CHUNK, block_d, num_warps=1)
    return out
