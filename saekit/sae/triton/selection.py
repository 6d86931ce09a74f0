"""Parts of kernels: what choosing the largest of many pre-activations is made of, one program a token.

Pre-activations come as the two largest of every group of GROUP neighbouring features ("candidates"). A group that may
hide more of the chosen ones is "open" until its features were computed again; these then stand in `rows`, and the
group's candidates are at minus infinity. Floats are compared as integers of the same order, so that NaN is a number
like others: a batch that is not finite yields nonsense, but every index stays within bounds.

This module needs triton.
"""

from __future__ import annotations

import triton
import triton.language as tl

GROUP = tl.constexpr(16)  # neighbouring features that share two candidates; two indices fit one byte
LOWEST = tl.constexpr(-2147483648)  # below the integer of every float


@triton.jit
def ordered(value):
    """The integer whose order among its like is the float's; minus zero counts as zero."""
    bits = tl.where(value == 0.0, 0.0, value).to(tl.int32, bitcast=True)
    return tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


@triton.jit
def as_float(key):
    """The float an integer of `ordered` stands for."""
    return tl.where(key < 0, key ^ 0x7FFFFFFF, key).to(tl.float32, bitcast=True)


@triton.jit
def load_keys(first_ptr, second_ptr, token, n_groups, GROUPS: tl.constexpr):
    """The groups of a token and the keys of their two candidates."""
    group = tl.arange(0, GROUPS)
    at = token * n_groups + group
    real = group < n_groups
    first = tl.load(first_ptr + at, mask=real, other=0.0)
    second = tl.load(second_ptr + at, mask=real, other=0.0)
    key_1 = tl.where(real, ordered(first), LOWEST)
    key_2 = tl.where(real, ordered(second), LOWEST)
    return group, key_1, key_2


@triton.jit
def load_places(index_ptr, token, n_groups, GROUPS: tl.constexpr):
    """Where in its group each candidate stands."""
    group = tl.arange(0, GROUPS)
    places = tl.load(index_ptr + token * n_groups + group, mask=group < n_groups, other=0).to(tl.int32)
    return places & 15, places >> 4


@triton.jit
def load_row(rows_ptr, row):
    """Keys of the features of one open group, computed again."""
    return ordered(tl.load(rows_ptr + row * GROUP + tl.arange(0, GROUP)))


@triton.jit
def count_at_least(bound, key_1, key_2, rows_ptr, row_start, n_rows):
    """How many of a token's candidates and completed rows are at least the bound."""
    n = tl.sum((key_1 >= bound).to(tl.int32)) + tl.sum((key_2 >= bound).to(tl.int32))
    for row in tl.range(row_start, row_start + n_rows):
        n += tl.sum((load_row(rows_ptr, row) >= bound).to(tl.int32))
    return n


@triton.jit
def kth_largest(key_1, key_2, k, rows_ptr, row_start, n_rows):
    """The largest bound that at least k keys reach: their k-th largest, found bit by bit from the top."""
    bound = tl.full((), LOWEST, tl.int32)
    for bit in tl.range(0, 32):
        trial = bound ^ (tl.full((), 1, tl.int32) << (31 - bit))
        n = count_at_least(trial, key_1, key_2, rows_ptr, row_start, n_rows)
        bound = tl.where(n >= k, trial, bound)
    return bound


@triton.jit
def open_groups(key_2, bound, n_ties):
    """Groups that may hide a chosen feature behind their two candidates.

    What is hidden is at most the second candidate. So a group is open when that is above the bound, or one of the
    first n_ties groups where it equals the bound: equals are chosen from the left, and each has at least one.
    """
    tie = (key_2 == bound).to(tl.int32)
    return (key_2 > bound) | ((tie > 0) & (tl.cumsum(tie, 0) <= n_ties))


@triton.jit
def group_pre_acts(x_ptr, w_ptr, b_ptr, token, group, d_in, d_sae, BLOCK_K: tl.constexpr):
    """The pre-activations of one group on one token; minus infinity beyond the last feature."""
    feature = group * GROUP + tl.arange(0, GROUP)
    row = tl.minimum(feature, d_sae - 1).to(tl.int64)
    total = tl.zeros([GROUP, BLOCK_K], tl.float32)
    for start in tl.range(0, d_in, BLOCK_K):
        i = start + tl.arange(0, BLOCK_K)
        x = tl.load(x_ptr + token * d_in + i, mask=i < d_in, other=0.0).to(tl.float32)
        w = tl.load(w_ptr + row[:, None] * d_in + i[None, :], mask=(i < d_in)[None, :], other=0.0).to(tl.float32)
        total += w * x[None, :]
    pre = tl.sum(total, 1) + tl.load(b_ptr + row)
    return tl.where(feature < d_sae, pre, float("-inf"))


@triton.jit
def pick(group, at, values):
    """The number that belongs to one group."""
    return tl.sum(tl.where(group == at, values, 0))


@triton.jit
def chosen_of_row(keys, bound, ties_before, n_ties):
    """Which features of a completed row are chosen: above the bound, or equal to it and among the first n_ties."""
    tie = (keys == bound).to(tl.int32)
    return (keys > bound) | ((tie > 0) & (ties_before + tl.cumsum(tie, 0) - tie < n_ties))


@triton.jit
def emit(
    value_ptr,
    place_ptr,
    out_start,
    out_end,
    offset,
    last,
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
    n_rows,
):
    """Writes value and offset + feature of everything above the bound and of the first n_ties equal to it.

    Features ascend; the first goes to out_start, nothing to out_end or beyond, and no feature is above `last`.
    """
    tie_1, tie_2 = (key_1 == bound).to(tl.int32), (key_2 == bound).to(tl.int32)
    ties = tie_1 + tie_2
    for row in tl.range(row_start, row_start + n_rows):
        equal = tl.sum((load_row(rows_ptr, row) == bound).to(tl.int32))
        ties = tl.where(group == tl.load(row_group_ptr + row), equal, ties)
    ties_before = tl.cumsum(ties, 0) - ties
    left_1, left_2 = (place_1 < place_2).to(tl.int32), (place_2 < place_1).to(tl.int32)
    take_1 = ((key_1 > bound) | ((tie_1 > 0) & (ties_before + tie_2 * left_2 < n_ties))).to(tl.int32)
    take_2 = ((key_2 > bound) | ((tie_2 > 0) & (ties_before + tie_1 * left_1 < n_ties))).to(tl.int32)
    taken = take_1 + take_2
    for row in tl.range(row_start, row_start + n_rows):
        at = tl.load(row_group_ptr + row)
        chosen = chosen_of_row(load_row(rows_ptr, row), bound, pick(group, at, ties_before), n_ties)
        taken = tl.where(group == at, tl.sum(chosen.to(tl.int32)), taken)
    before = tl.cumsum(taken, 0) - taken
    slot_1 = out_start + before + take_2 * left_2
    slot_2 = out_start + before + take_1 * left_1
    write(value_ptr, place_ptr, slot_1, out_end, take_1 > 0, key_1, group * GROUP + place_1, offset, last)
    write(value_ptr, place_ptr, slot_2, out_end, take_2 > 0, key_2, group * GROUP + place_2, offset, last)
    for row in tl.range(row_start, row_start + n_rows):
        at = tl.load(row_group_ptr + row)
        keys = load_row(rows_ptr, row)
        chosen = chosen_of_row(keys, bound, pick(group, at, ties_before), n_ties)
        slot = out_start + pick(group, at, before) + tl.cumsum(chosen.to(tl.int32), 0) - 1
        write(value_ptr, place_ptr, slot, out_end, chosen, keys, at * GROUP + tl.arange(0, GROUP), offset, last)


@triton.jit
def write(value_ptr, place_ptr, slot, out_end, chosen, keys, feature, offset, last):
    """Stores what was chosen, in its slots."""
    inside = chosen & (slot < out_end)
    tl.store(value_ptr + slot, as_float(keys), mask=inside)
    tl.store(place_ptr + slot, offset + tl.minimum(feature, last), mask=inside)
