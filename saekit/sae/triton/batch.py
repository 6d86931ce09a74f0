"""The largest pre-activations of a whole batch, from the candidates of encode.py, without the host ever waiting.

1. The `count`-th largest candidate is a bound, found digit by digit: a histogram of the leading 8 bits says how the
   bound begins, one of the next 8 among the numbers that begin so how it continues. Integer additions commute, so the
   histograms, though made with atomics, are the same in every run.
2. Groups that may hide a third number above the bound are computed again, and everything above it is listed in order
   of position: prefix sums over tokens say where each token's part begins.
3. The list is hardly longer than `count`; the bound is found again among its numbers, and what falls below it is left
   out. The list has room for the worst case and its length is known to the device alone.

Needs triton.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .encode import candidates, complete, inner_block, row_options
from .launch import cdiv, launch
from .plan import Plan
from .selection import GROUP, LOWEST, count_at_least, emit, load_keys, load_places, ordered

DIGITS = (24, 16, 8, 0)  # shifts, from the top
BLOCK = 4096
PROGRAMS = 1024  # of a histogram: a few for each multiprocessor
LISTED = 8  # numbers above the bound, in multiples of count: half as many open groups, and 14 more from each


@triton.jit
def _histogram(values_ptr, n_values_ptr, state_ptr, histogram_ptr, SHIFT: tl.constexpr, BLOCK: tl.constexpr):
    """Adds how often each digit follows the digits found so far."""
    n_values = tl.load(n_values_ptr)
    found = tl.load(state_ptr).to(tl.uint32)
    counts = tl.zeros([256], tl.int32)
    for start in tl.range(tl.program_id(0).to(tl.int64) * BLOCK, n_values, tl.num_programs(0) * BLOCK):
        at = start + tl.arange(0, BLOCK)
        inside = at < n_values
        key = (ordered(tl.load(values_ptr + at, mask=inside, other=0.0)) ^ LOWEST).to(tl.uint32, bitcast=True)
        if SHIFT < 24:
            inside = inside & ((key >> (SHIFT + 8)) == (found >> (SHIFT + 8)))
        counts += tl.histogram(((key >> SHIFT) & 255).to(tl.int32), 256, mask=inside)
    tl.atomic_add(histogram_ptr + tl.arange(0, 256), counts, mask=counts > 0)


@triton.jit
def _descend(histogram_ptr, state_ptr, bound_ptr, SHIFT: tl.constexpr):
    """Finds the next digit of the bound; state holds the digits found and how many are wanted among what has them."""
    digit = tl.arange(0, 256)
    counts = tl.load(histogram_ptr + digit).to(tl.int64)
    wanted = tl.load(state_ptr + 1)
    above = tl.sum(counts) - tl.cumsum(counts, 0)  # with a larger digit
    here = (above < wanted) & (above + counts >= wanted)
    found = tl.load(state_ptr) + (tl.sum(tl.where(here, digit, 0)).to(tl.int64) << SHIFT)
    tl.store(state_ptr, found)
    tl.store(state_ptr + 1, wanted - tl.sum(tl.where(here, above, 0)))
    tl.store(bound_ptr, (found - 2147483648).to(tl.int32))
    tl.store(histogram_ptr + digit, tl.zeros([256], tl.int32))


@triton.jit
def _count(
    first_ptr,
    second_ptr,
    bound_ptr,
    n_open_ptr,
    row_start_ptr,
    rows_ptr,
    above_ptr,
    equal_ptr,
    n_groups,
    OF_GROUPS: tl.constexpr,
    GROUPS: tl.constexpr,
):
    """Per token, how many numbers are above the bound and how many equal it; of second candidates with OF_GROUPS."""
    token = tl.program_id(0).to(tl.int64)
    _, key_1, key_2 = load_keys(first_ptr, second_ptr, token, n_groups, GROUPS)
    bound = tl.load(bound_ptr)
    if OF_GROUPS:
        above = tl.sum((key_2 > bound).to(tl.int32))
        equal = tl.sum((key_2 == bound).to(tl.int32))
    else:
        row_start, n_open = tl.load(row_start_ptr + token), tl.load(n_open_ptr + token)
        above = count_at_least(bound + 1, key_1, key_2, rows_ptr, row_start, n_open)
        equal = count_at_least(bound, key_1, key_2, rows_ptr, row_start, n_open) - above
    tl.store(above_ptr + token, above)
    tl.store(equal_ptr + token, equal)


@triton.jit
def _list(
    first_ptr,
    second_ptr,
    index_ptr,
    bound_ptr,
    n_ties_ptr,
    n_open_ptr,
    row_start_ptr,
    rows_ptr,
    row_group_ptr,
    out_start_ptr,
    value_ptr,
    position_ptr,
    room,
    d_sae,
    n_groups,
    GROUPS: tl.constexpr,
):
    """Writes a token's numbers above the bound, and its part of those that equal it, into the list."""
    token = tl.program_id(0).to(tl.int64)
    group, key_1, key_2 = load_keys(first_ptr, second_ptr, token, n_groups, GROUPS)
    place_1, place_2 = load_places(index_ptr, token, n_groups, GROUPS)
    emit(
        value_ptr,
        position_ptr,
        tl.load(out_start_ptr + token),
        room,
        token * d_sae,
        d_sae - 1,
        group,
        key_1,
        key_2,
        place_1,
        place_2,
        tl.load(bound_ptr),
        tl.load(n_ties_ptr + token),
        rows_ptr,
        row_group_ptr,
        tl.load(row_start_ptr + token),
        tl.load(n_open_ptr + token),
    )


@triton.jit
def _count_listed(value_ptr, length_ptr, bound_ptr, above_ptr, equal_ptr, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    key = ordered(tl.load(value_ptr + at, mask=at < tl.load(length_ptr), other=float("-inf")))
    bound = tl.load(bound_ptr)
    tl.store(above_ptr + tl.program_id(0), tl.sum((key > bound).to(tl.int32)))
    tl.store(equal_ptr + tl.program_id(0), tl.sum((key == bound).to(tl.int32)))


@triton.jit
def _keep(
    value_ptr,
    position_ptr,
    length_ptr,
    bound_ptr,
    n_ties_ptr,
    out_start_ptr,
    out_value_ptr,
    out_position_ptr,
    count,
    last,
    BLOCK: tl.constexpr,
):
    """Copies what is above the bound, and a block's part of what equals it; no position is outside the batch."""
    block = tl.program_id(0).to(tl.int64)
    length = tl.load(length_ptr)
    if block * BLOCK >= length:
        return
    at = block * BLOCK + tl.arange(0, BLOCK)
    inside = at < length
    value = tl.load(value_ptr + at, mask=inside, other=float("-inf"))
    key, bound = ordered(value), tl.load(bound_ptr)
    tie = (inside & (key == bound)).to(tl.int32)
    taken = (inside & (key > bound)) | ((tie > 0) & (tl.cumsum(tie, 0) <= tl.load(n_ties_ptr + block)))
    slot = tl.load(out_start_ptr + block) + tl.cumsum(taken.to(tl.int32), 0) - 1
    taken = taken & (slot < count)
    tl.store(out_value_ptr + slot, value, mask=taken)
    position = tl.minimum(tl.maximum(tl.load(position_ptr + at, mask=inside, other=0), 0), last)
    tl.store(out_position_ptr + slot, position, mask=taken)


def bound_of(values: Tensor, n_values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count`-th largest of the first n_values, as an integer of `ordered`, and how many equal to it are wanted."""
    device = values.device
    state = torch.zeros(2, dtype=torch.int64, device=device)
    state[1] = count
    histogram = torch.zeros(256, dtype=torch.int32, device=device)
    bound = torch.empty(1, dtype=torch.int32, device=device)
    programs = min(PROGRAMS, cdiv(values.numel(), BLOCK))
    for shift in DIGITS:
        launch(_histogram, (programs,), values, n_values, state, histogram, shift, BLOCK, num_warps=8)
        launch(_descend, (1,), histogram, state, bound, shift)
    return bound, state[1]


def shares(above: Tensor, equal: Tensor, n_ties: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How many of the first n_ties equals belong to each part, where its output begins, and the length of it all."""
    equal = equal.long()
    ties = torch.minimum(equal, (n_ties - (equal.cumsum(0) - equal)).clamp(min=0))
    taken = above + ties
    end = taken.cumsum(0)
    return ties, end - taken, end[-1:]


def top_of_batch(x: Tensor, W_rows: Tensor, b_enc: Tensor, count: int, plan: Plan) -> tuple[Tensor, Tensor]:
    """`reference.top_of_batch` by kernels: x and W_rows in the type of the product, b_enc in float32."""
    n, d_in = x.shape
    d_sae = len(W_rows)
    top, index = candidates(x, W_rows, b_enc, plan)
    n_groups = index.shape[1]
    options = row_options(n_groups)
    n_candidates = torch.full((1,), top.numel(), dtype=torch.int64, device=x.device)
    bound, n_ties = bound_of(top.reshape(-1), n_candidates, count)

    # Groups above the bound hold two of fewer than count numbers, and of those equal to it the first n_ties are enough.
    rows = torch.empty(count, GROUP.value, dtype=torch.float32, device=x.device)
    row_group = torch.empty(count, dtype=torch.int32, device=x.device)
    above, equal = torch.empty(2, n, dtype=torch.int32, device=x.device)
    launch(_count, (n,), top[0], top[1], bound, bound, bound, rows, above, equal, n_groups, OF_GROUPS=True, **options)
    ties, row_start, _ = shares(above, equal, n_ties)
    n_open = above + ties
    launch(
        complete,
        (n,),
        x,
        W_rows,
        b_enc,
        top[0],
        top[1],
        bound,
        ties,
        n_open,
        row_start,
        rows,
        row_group,
        d_in,
        d_sae,
        n_groups,
        ONE_BOUND=True,
        BLOCK_K=inner_block(d_in),
        **options,
    )

    launch(
        _count, (n,), top[0], top[1], bound, n_open, row_start, rows, above, equal, n_groups, OF_GROUPS=False, **options
    )
    ties, out_start, length = shares(above, equal, n_ties)
    room = min(LISTED * count, n * d_sae)
    listed = torch.empty(room, dtype=torch.float32, device=x.device)
    places = torch.empty(room, dtype=torch.int64, device=x.device)
    launch(
        _list,
        (n,),
        top[0],
        top[1],
        index,
        bound,
        ties,
        n_open,
        row_start,
        rows,
        row_group,
        out_start,
        listed,
        places,
        room,
        d_sae,
        n_groups,
        **options,
    )

    bound, n_ties = bound_of(listed, length, count)
    blocks = cdiv(room, BLOCK)
    above, equal = torch.empty(2, blocks, dtype=torch.int32, device=x.device)
    launch(_count_listed, (blocks,), listed, length, bound, above, equal, BLOCK, num_warps=8)
    ties, out_start, _ = shares(above, equal, n_ties)
    value = torch.zeros(count, dtype=torch.float32, device=x.device)
    position = torch.zeros(count, dtype=torch.int64, device=x.device)
    launch(
        _keep,
        (blocks,),
        listed,
        places,
        length,
        bound,
        ties,
        out_start,
        value,
        position,
        count,
        n * d_sae - 1,
        BLOCK,
        num_warps=8,
    )
    return value, position
