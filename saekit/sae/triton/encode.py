"""The encoder product with selection inside it: the pre-activations of a batch are never in memory.

Each program multiplies a tile of tokens with a tile of features and leaves the two largest of every 16 features. That
is 9 bytes for 16 pre-activations instead of 64. A second kernel, one program a token, finds the k-th largest candidate
and with it the few groups that may hide more than two; these are computed again, exactly, and the choice is made again
for their tokens. Needs triton; plan.py says when this wins.

The product's columns are permuted within 64 features, so that the 16 of a group lie in one thread's registers in the
layout of Hopper's and Ampere's matrix instructions (a thread has columns 8 a + 2 q + b for one q): the two largest
need no exchange between threads. On other hardware the result is the same.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import cdiv, launch, power_of_two
from .plan import Plan
from .selection import GROUP, count_at_least, emit, group_pre_acts, kth_largest, load_keys, load_places, open_groups


@triton.jit
def _candidates(
    x_ptr,
    w_ptr,
    b_ptr,
    first_ptr,
    second_ptr,
    index_ptr,
    n,
    d_in,
    d_sae,
    n_groups,
    TILE_N: tl.constexpr,
    TILE_F: tl.constexpr,
    TILE_K: tl.constexpr,
    STRIP: tl.constexpr,
    EVEN: tl.constexpr,
    PRECISION: tl.constexpr,
):
    # Programs walk through STRIP tiles of tokens before the next features: both stay in the L2 cache.
    program = tl.program_id(0)
    n_token_tiles, n_feature_tiles = tl.cdiv(n, TILE_N), tl.cdiv(d_sae, TILE_F)
    per_strip = STRIP * n_feature_tiles
    strip_start = program // per_strip * STRIP
    strip_height = tl.minimum(n_token_tiles - strip_start, STRIP)
    token_tile = strip_start + program % per_strip % strip_height
    feature_tile = program % per_strip // strip_height

    token = token_tile * TILE_N + tl.arange(0, TILE_N)
    column = tl.arange(0, TILE_F)
    within = column % 8 // 2 * 16 + column % 64 // 8 * 2 + column % 2
    feature = feature_tile * TILE_F + column // 64 * 64 + within
    x_row = x_ptr + tl.minimum(token, n - 1).to(tl.int64) * d_in
    w_row = w_ptr + tl.minimum(feature, d_sae - 1).to(tl.int64) * d_in
    total = tl.zeros([TILE_N, TILE_F], tl.float32)
    for start in tl.range(0, d_in, TILE_K):
        i = start + tl.arange(0, TILE_K)
        if EVEN:
            x = tl.load(x_row[:, None] + i[None, :])
            w = tl.load(w_row[None, :] + i[:, None])
        else:
            x = tl.load(x_row[:, None] + i[None, :], mask=(i < d_in)[None, :], other=0.0)
            w = tl.load(w_row[None, :] + i[:, None], mask=(i < d_in)[:, None], other=0.0)
        total = tl.dot(x, w, total, input_precision=PRECISION)
    pre = total + tl.load(b_ptr + tl.minimum(feature, d_sae - 1))[None, :]
    pre = tl.where((feature < d_sae)[None, :], pre, float("-inf"))

    pre = tl.reshape(pre, [TILE_N, TILE_F // 64, 8, 4, 2])
    pre = tl.reshape(tl.permute(pre, [0, 1, 3, 2, 4]), [TILE_N, TILE_F // GROUP, GROUP])
    place = tl.arange(0, GROUP)[None, None, :]
    first = tl.max(pre, 2)
    place_1 = tl.min(tl.where(pre == first[:, :, None], place, GROUP - 1), 2)
    pre = tl.where(place == place_1[:, :, None], float("-inf"), pre)
    second = tl.max(pre, 2)
    place_2 = tl.min(tl.where(pre == second[:, :, None], place, GROUP - 1), 2)

    group = feature_tile * (TILE_F // GROUP) + tl.arange(0, TILE_F // GROUP)
    at = token.to(tl.int64)[:, None] * n_groups + group[None, :]
    inside = (token < n)[:, None] & (group < n_groups)[None, :]
    tl.store(first_ptr + at, first, mask=inside)
    tl.store(second_ptr + at, second, mask=inside)
    tl.store(index_ptr + at, (place_1 | (place_2 << 4)).to(tl.uint8), mask=inside)


@triton.jit
def _choose(
    first_ptr,
    second_ptr,
    index_ptr,
    bound_ptr,
    n_ties_ptr,
    n_open_ptr,
    value_ptr,
    feature_ptr,
    k,
    d_sae,
    n_groups,
    GROUPS: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    group, key_1, key_2 = load_keys(first_ptr, second_ptr, token, n_groups, GROUPS)
    place_1, place_2 = load_places(index_ptr, token, n_groups, GROUPS)
    bound = kth_largest(key_1, key_2, k, first_ptr, 0, 0)
    n_ties = k - count_at_least(bound + 1, key_1, key_2, first_ptr, 0, 0)
    tl.store(bound_ptr + token, bound)
    tl.store(n_ties_ptr + token, n_ties)
    tl.store(n_open_ptr + token, tl.sum(open_groups(key_2, bound, n_ties).to(tl.int32)))
    emit(
        value_ptr,
        feature_ptr,
        token * k,
        token * k + k,
        0,
        d_sae - 1,
        group,
        key_1,
        key_2,
        place_1,
        place_2,
        bound,
        n_ties,
        first_ptr,
        index_ptr,
        0,
        0,
    )


@triton.jit
def complete(
    x_ptr,
    w_ptr,
    b_ptr,
    first_ptr,
    second_ptr,
    bound_ptr,
    n_ties_ptr,
    n_open_ptr,
    row_start_ptr,
    rows_ptr,
    row_group_ptr,
    d_in,
    d_sae,
    n_groups,
    ONE_BOUND: tl.constexpr,
    GROUPS: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Computes a token's open groups again, into its rows, and takes their candidates away."""
    token = tl.program_id(0).to(tl.int64)
    n_open = tl.load(n_open_ptr + token)
    if n_open == 0:
        return
    group, _, key_2 = load_keys(first_ptr, second_ptr, token, n_groups, GROUPS)
    bound = tl.load(bound_ptr) if ONE_BOUND else tl.load(bound_ptr + token)
    is_open = open_groups(key_2, bound, tl.load(n_ties_ptr + token))
    number = tl.cumsum(is_open.to(tl.int32), 0) - 1
    row_start = tl.load(row_start_ptr + token)
    for c in tl.range(0, n_open):
        at = tl.sum(tl.where(is_open & (number == c), group, 0))
        pre = group_pre_acts(x_ptr, w_ptr, b_ptr, token, at, d_in, d_sae, BLOCK_K)
        tl.store(rows_ptr + (row_start + c) * GROUP + tl.arange(0, GROUP), pre)
        tl.store(row_group_ptr + row_start + c, at)
    gone = tl.full([GROUPS], float("-inf"), tl.float32)
    tl.store(first_ptr + token * n_groups + group, gone, mask=is_open)
    tl.store(second_ptr + token * n_groups + group, gone, mask=is_open)


@triton.jit
def _choose_again(
    first_ptr,
    second_ptr,
    index_ptr,
    n_open_ptr,
    row_start_ptr,
    rows_ptr,
    row_group_ptr,
    value_ptr,
    feature_ptr,
    k,
    d_sae,
    n_groups,
    GROUPS: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    n_open = tl.load(n_open_ptr + token)
    if n_open == 0:
        return
    group, key_1, key_2 = load_keys(first_ptr, second_ptr, token, n_groups, GROUPS)
    place_1, place_2 = load_places(index_ptr, token, n_groups, GROUPS)
    row_start = tl.load(row_start_ptr + token)
    bound = kth_largest(key_1, key_2, k, rows_ptr, row_start, n_open)
    n_ties = k - count_at_least(bound + 1, key_1, key_2, rows_ptr, row_start, n_open)
    emit(
        value_ptr,
        feature_ptr,
        token * k,
        token * k + k,
        0,
        d_sae - 1,
        group,
        key_1,
        key_2,
        place_1,
        place_2,
        bound,
        n_ties,
        rows_ptr,
        row_group_ptr,
        row_start,
        n_open,
    )


def candidates(x: Tensor, W_rows: Tensor, b_enc: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
    """The two largest pre-activations of every 16 features [2, n, groups], and their places packed in a byte."""
    n, d_in = x.shape
    d_sae = len(W_rows)
    if (
        x.device.type == "cpu"
    ):  # triton 3.7's interpreter multiplies the bits of bfloat16; float32 has the same products
        x, W_rows = x.float(), W_rows.float()
    n_groups = cdiv(d_sae, GROUP.value)
    top = torch.empty(2, n, n_groups, dtype=torch.float32, device=x.device)
    index = torch.empty(n, n_groups, dtype=torch.uint8, device=x.device)
    grid = (cdiv(n, plan.tile_n) * cdiv(d_sae, plan.tile_f),)
    launch(
        _candidates,
        grid,
        x,
        W_rows,
        b_enc,
        top[0],
        top[1],
        index,
        n,
        d_in,
        d_sae,
        n_groups,
        plan.tile_n,
        plan.tile_f,
        plan.tile_k,
        plan.strip,
        d_in % plan.tile_k == 0,
        "ieee",
        num_warps=plan.warps,
        num_stages=plan.stages,
    )
    return top, index


def row_options(n_groups: int) -> dict[str, int]:
    """How a program for one token is laid out: all groups in registers, eight to a thread where threads suffice."""
    groups = max(16, power_of_two(n_groups))
    return {"GROUPS": groups, "num_warps": min(16, max(1, groups // 256))}


def inner_block(d_in: int) -> int:
    """How many dimensions `complete` reads at once."""
    return min(128, max(16, power_of_two(d_in)))


def top_k(x: Tensor, W_rows: Tensor, b_enc: Tensor, k: int, plan: Plan) -> tuple[Tensor, Tensor]:
    """`reference.top_k` by kernels: x and W_rows in the type of the product, b_enc in float32."""
    n, d_in = x.shape
    d_sae = len(W_rows)
    top, index = candidates(x, W_rows, b_enc, plan)
    n_groups = index.shape[1]
    options = row_options(n_groups)
    value = x.new_zeros(n, k, dtype=torch.float32)
    feature = torch.zeros(n, k, dtype=torch.int64, device=x.device)
    bound, n_ties, n_open = torch.empty(3, n, dtype=torch.int32, device=x.device)
    launch(_choose, (n,), top[0], top[1], index, bound, n_ties, n_open, value, feature, k, d_sae, n_groups, **options)
    # At most k groups of a token are open: those above the bound hold two of fewer than k, the others one of the rest.
    row_start = torch.arange(n, device=x.device) * k
    rows = torch.empty(n * k, GROUP.value, dtype=torch.float32, device=x.device)
    row_group = torch.empty(n * k, dtype=torch.int32, device=x.device)
    launch(
        complete,
        (n,),
        x,
        W_rows,
        b_enc,
        top[0],
        top[1],
        bound,
        n_ties,
        n_open,
        row_start,
        rows,
        row_group,
        d_in,
        d_sae,
        n_groups,
        ONE_BOUND=False,
        BLOCK_K=inner_block(d_in),
        **options,
    )
    launch(
        _choose_again,
        (n,),
        top[0],
        top[1],
        index,
        n_open,
        row_start,
        rows,
        row_group,
        value,
        feature,
        k,
        d_sae,
        n_groups,
        **options,
    )
    return value, feature
