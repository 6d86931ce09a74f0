"""The largest pre-activations of a whole batch, from the candidates of encode.py, without the host ever waiting.

The bound is the `count`-th largest number, found digit by digit: a histogram of the leading 11 bits says which digit
the bound begins with, one of the next 11 among those that begin so, one of the last 10 the rest. Integer additions
commute, so the histograms, though made with atomics, are the same in every run. Groups that may hide more are computed
again and the bound is found anew; then every token knows from prefix sums where its share of the output begins.
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

DIGITS = ((21, 11), (10, 11), (0, 10))  # shift and bits of each, from the top
BLOCK = 4096
PROGRAMS = 1024  # of a histogram: a few for each multiprocessor


@triton.jit
def _histogram(
    values_ptr, n_values_ptr, state_ptr, histogram_ptr,
    FIRST: tl.constexpr, SHIFT: tl.constexpr, BITS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Adds how often each digit follows the digits found so far."""
    n_values = tl.load(n_values_ptr)
    found = tl.load(state_ptr).to(tl.uint32)
    bins: tl.constexpr = 1 << BITS
    counts = tl.zeros([bins], tl.int32)
    for start in tl.range(tl.program_id(0).to(tl.int64) * BLOCK, n_values, tl.num_programs(0) * BLOCK):
        at = start + tl.arange(0, BLOCK)
        inside = at < n_values
        key = (ordered(tl.load(values_ptr + at, mask=inside, other=0.0)) ^ LOWEST).to(tl.uint32, bitcast=True)
        if not FIRST:
            inside = inside & ((key >> (SHIFT + BITS)) == (found >> (SHIFT + BITS)))
        counts += tl.histogram(((key >> SHIFT) & (bins - 1)).to(tl.int32), bins, mask=inside)
    digit = tl.arange(0, bins)
    tl.atomic_add(histogram_ptr + digit, counts, mask=counts > 0)


@triton.jit
def _descend(histogram_ptr, state_ptr, bound_ptr, SHIFT: tl.constexpr, BITS: tl.constexpr):
    """Finds the next digit of the bound; state holds the digits found and how many are wanted among what has them."""
    digit = tl.arange(0, 1 << BITS)
    counts = tl.load(histogram_ptr + digit).to(tl.int64)
    wanted = tl.load(state_ptr + 1)
    above = tl.sum(counts) - tl.cumsum(counts, 0)  # with a larger digit
    here = (above < wanted) & (above + counts >= wanted)
    found = tl.load(state_ptr) + (tl.sum(tl.where(here, digit, 0)).to(tl.int64) << SHIFT)
    tl.store(state_ptr, found)
    tl.store(state_ptr + 1, wanted - tl.sum(tl.where(here, above, 0)))
    tl.store(bound_ptr, (found - 2147483648).to(tl.int32))
    tl.store(histogram_ptr + digit, tl.zeros([1 << BITS], tl.int32))


@triton.jit
def _count(
    first_ptr, second_ptr, bound_ptr, n_open_ptr, row_start_ptr, rows_ptr, above_ptr, equal_ptr, n_groups,
    OF_GROUPS: tl.constexpr, GROUPS: tl.constexpr,
):  # fmt: skip
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
def _emit_token(
    first_ptr, second_ptr, index_ptr, bound_ptr, n_ties_ptr, n_open_ptr, row_start_ptr, rows_ptr, row_group_ptr,
    out_start_ptr, value_ptr, position_ptr, count, d_sae, n_groups, GROUPS: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    group, key_1, key_2 = load_keys(first_ptr, second_ptr, token, n_groups, GROUPS)
    place_1, place_2 = load_places(index_ptr, token, n_groups, GROUPS)
    emit(
        value_ptr, position_ptr, tl.load(out_start_ptr + token), count, token * d_sae, d_sae - 1, group, key_1, key_2,
        place_1, place_2, tl.load(bound_ptr), tl.load(n_ties_ptr + token), rows_ptr, row_group_ptr,
        tl.load(row_start_ptr + token), tl.load(n_open_ptr + token),
    )  # fmt: skip


def bound_of(parts: list[tuple[Tensor, Tensor]], count: int) -> tuple[Tensor, Tensor]:
    """The `count`-th largest of some arrays, as an integer of `ordered`, and how many that equal it belong to these.

    An array comes with its length, a number on the device: what lies beyond is not looked at.
    """
    device = parts[0][0].device
    state = torch.zeros(2, dtype=torch.int64, device=device)
    state[1] = count
    histogram = torch.zeros(2048, dtype=torch.int32, device=device)
    bound = torch.empty(1, dtype=torch.int32, device=device)
    for step, (shift, bits) in enumerate(DIGITS):
        for values, n_values in parts:
            programs = min(PROGRAMS, cdiv(values.numel(), BLOCK))
            launch(_histogram, (programs,), values, n_values, state, histogram, step == 0, shift, bits, BLOCK)
        launch(_descend, (1,), histogram, state, bound, shift, bits)
    return bound, state[1]


def top_of_batch(x: Tensor, W_rows: Tensor, b_enc: Tensor, count: int, plan: Plan) -> tuple[Tensor, Tensor]:
    """`twins.top_of_batch` by kernels: x and W_rows in the type of the product, b_enc in float32."""
    n, d_in = x.shape
    d_sae = len(W_rows)
    top, index = candidates(x, W_rows, b_enc, plan)
    n_groups = index.shape[1]
    options = row_options(n_groups)
    stored = top.reshape(-1), torch.full((1,), top.numel(), dtype=torch.int64, device=x.device)
    bound, n_ties = bound_of([stored], count)

    # Groups above the bound hold two of fewer than count numbers, and of those equal to it the first n_ties are enough.
    above, equal = torch.empty(2, n, dtype=torch.int32, device=x.device)
    nothing = torch.zeros(1, dtype=torch.int64, device=x.device)
    rows = torch.empty(count, GROUP.value, dtype=torch.float32, device=x.device)
    row_group = torch.empty(count, dtype=torch.int32, device=x.device)
    launch(
        _count, (n,), top[0], top[1], bound, nothing, nothing, rows, above, equal, n_groups, OF_GROUPS=True,
        **options,
    )  # fmt: skip
    n_ties_here = share(equal, n_ties)
    n_open = above.long() + n_ties_here
    row_end = n_open.cumsum(0)
    row_start = row_end - n_open
    launch(
        complete, (n,), x, W_rows, b_enc, top[0], top[1], bound, n_ties_here, n_open, row_start, rows, row_group,
        d_in, d_sae, n_groups, ONE_BOUND=True, BLOCK_K=inner_block(d_in), **options,
    )  # fmt: skip

    bound, n_ties = bound_of([stored, (rows.reshape(-1), row_end[-1:] * GROUP.value)], count)
    launch(
        _count, (n,), top[0], top[1], bound, n_open, row_start, rows, above, equal, n_groups, OF_GROUPS=False,
        **options,
    )  # fmt: skip
    n_ties_here = share(equal, n_ties)
    n_out = above.long() + n_ties_here
    value = x.new_zeros(count, dtype=torch.float32)
    position = torch.zeros(count, dtype=torch.int64, device=x.device)
    launch(
        _emit_token, (n,), top[0], top[1], index, bound, n_ties_here, n_open, row_start, rows, row_group,
        n_out.cumsum(0) - n_out, value, position, count, d_sae, n_groups, **options,
    )  # fmt: skip
    return value, position


def share(equal: Tensor, n_ties: Tensor) -> Tensor:
    """How many of the first n_ties of all numbers equal to the bound each token has."""
    equal = equal.long()
    return torch.minimum(equal, (n_ties - (equal.cumsum(0) - equal)).clamp(min=0))
