"""The largest products of each row of one matrix with the rows of another, exact and without the cost of all of them.

A product in bfloat16 costs a third of one in float32 on a CPU that has instructions for it, and how wrong it can be is
known: by Cauchy and Schwarz by no more than what rounding took from each of the two directions times the length of the
other. So it says which few products can be among the largest, and these alone are computed in float32. Knows nothing of
features or tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

_GROUP = 64  # directions in a group, of which first only the largest product is looked at
_LIKELY = 48  # groups that are looked into; a row of which more may hold one of the largest is computed in full


class Ranked(NamedTuple):
    """The best columns of each row, best first."""

    column: Int[Tensor, "rows n"]
    value: Float[Tensor, "rows n"]


class _Screen(NamedTuple):
    """Directions, and what says in little time which of their products can be large.

    Groups are of directions of like length: member j of group g is direction order[g * _GROUP + j], and row
    j * n_groups + g of `rounded`.
    """

    exact: Tensor  # Float32 [m, d]
    rounded: Tensor  # [n_groups * _GROUP, d]
    order: Tensor  # Int64 [n_groups * _GROUP]; beyond m any
    longest: Tensor  # Float32 [n_groups]; the greatest length in a group
    lost: float  # the largest share of a direction's length that rounding and summing can take

    @classmethod
    def of(cls, directions: Tensor, dtype: torch.dtype) -> _Screen:
        m, d = directions.shape
        length, lost = directions.norm(dim=1), 0.0
        for rows, norms in zip(torch.split(directions, 4096), torch.split(length, 4096), strict=True):
            shares = (rows - rows.to(dtype).float()).norm(dim=1) / norms.clamp_min(1e-30)
            lost = max(lost, float(shares.max()))
        order = torch.cat([length.argsort(), torch.zeros(-m % _GROUP, dtype=torch.int64)])
        groups = order.view(-1, _GROUP)
        rounded = directions.to(dtype)[groups.T.flatten()]
        return cls(directions, rounded, order, length[groups].amax(1), lost + d * 2.0**-22)


@torch.inference_mode()
def largest_products(
    rows: Float[Tensor, "rows d"],
    directions: Float[Tensor, "m d"],
    n: int,
    *,
    block: int,
    signs: Sequence[int] = (1,),
    itself: bool = False,
    screen: torch.dtype | None = None,
    report: Callable[[int], object] = lambda n_rows: None,
) -> list[Ranked]:
    """The n largest products of each row with the directions, `block` rows at a time: for each of `signs` those of
    sign times the product, so that (1, -1) gives the largest and the smallest.

    itself=True leaves out the product of row i with direction i. `screen` is the dtype of the product that finds the
    candidates, None the one that is fast here; the values are float32 products whatever it is. Few directions, and
    those on another device than the CPU, are multiplied in full. `report` is called with the number of rows done.

    >>> high, low = sk.index.products.largest_products(torch.eye(2), torch.eye(2) * 3, 1, block=8, signs=(1, -1))
    >>> high.column.flatten().tolist(), high.value.flatten().tolist()
    ([0, 1], [3.0, 3.0])
    """
    small = len(directions) < _GROUP * _LIKELY or n > _LIKELY // 2
    table = None if small or rows.device.type != "cpu" else _Screen.of(directions, screen or _fast_dtype())
    found: list[list[Ranked]] = []
    for first in range(0, len(rows), block):
        x = rows[first : first + block]
        own = first + torch.arange(len(x), device=x.device) if itself else None
        found.append(_in_full(x, directions, n, signs, own) if table is None else _screened(x, table, n, signs, own))
        report(first + len(x))
    return [
        Ranked(*(torch.cat(part).cpu() for part in zip(*blocks, strict=True))) for blocks in zip(*found, strict=True)
    ]


def _fast_dtype() -> torch.dtype:
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return torch.bfloat16 if known.get("avx512_bf16") or known.get("amx_bf16") else torch.float32


def _in_full(x: Tensor, directions: Tensor, n: int, signs: Sequence[int], own: Tensor | None) -> list[Ranked]:
    product, out = x @ directions.T, []
    for sign in signs:
        if own is not None:
            product[torch.arange(len(x), device=x.device), own] = -sign * torch.inf
        value, column = product.topk(n, largest=sign > 0)
        out.append(Ranked(column, value))
    return out


def _screened(x: Tensor, table: _Screen, n: int, signs: Sequence[int], own: Tensor | None) -> list[Ranked]:
    rounded = x.to(table.rounded.dtype)
    groups = (rounded @ table.rounded.T).view(len(x), _GROUP, -1)
    error = (x - rounded.float()).norm(dim=1) + rounded.float().norm(dim=1) * table.lost  # times a direction's length
    mine = None if own is None else table.order[: len(table.exact)].argsort()[own]
    out, doubtful = [], torch.zeros(len(x), dtype=torch.bool)
    for sign in signs:
        groups[:, _GROUP - (-len(table.exact) % _GROUP) :, -1] = -sign * torch.inf
        if mine is not None:
            groups[torch.arange(len(x)), mine % _GROUP, mine // _GROUP] = -sign * torch.inf
        found, certain = _largest(x, groups, sign, error, table, n)
        out.append(found)
        doubtful |= ~certain
    if bool(doubtful.any()):
        exact = _in_full(x[doubtful], table.exact, n, signs, None if own is None else own[doubtful])
        for found, full in zip(out, exact, strict=True):
            found.column[doubtful], found.value[doubtful] = full
    return out


def _largest(x: Tensor, groups: Tensor, sign: int, error: Tensor, table: _Screen, n: int) -> tuple[Ranked, Tensor]:
    """The n largest of sign * (x @ directions.T), and for which rows they are certain to be."""
    eps = torch.finfo(groups.dtype).eps
    best = (groups.amax(1) if sign > 0 else -groups.amin(1)).float()
    spread = error[:, None] * table.longest
    slack = spread + eps * (best.abs() + spread)
    reach = (best - slack).topk(n).values[:, -1:]  # n products, of different groups, are at least this
    upper, group = (best + slack).topk(_LIKELY)
    certain = upper[:, -1:] < reach
    cut = reach - spread.gather(1, group) * (1 + eps)
    cut = torch.where(certain, cut - 2 * eps * cut.abs(), torch.inf)
    inside = sign * groups.gather(2, group[:, None].expand(-1, _GROUP, -1))
    row, member, which = (inside >= cut[:, None]).nonzero(as_tuple=True)  # these can be among the n largest
    column = table.order[group[row, which] * _GROUP + member]

    starts = torch.searchsorted(row, torch.arange(len(x)))
    dot = torch.ops.aten._embedding_bag_per_sample_weights_backward(x, table.exact, column, starts, row, 0)
    place = torch.arange(len(row)) - starts[row]
    width = max(n, int(place.max()) + 1 if len(place) else 0)
    exact, columns = torch.full((len(x), width), -torch.inf), torch.zeros(len(x), width, dtype=torch.int64)
    exact[row, place], columns[row, place] = sign * dot, column
    value, chosen = exact.topk(n)
    return Ranked(columns.gather(1, chosen), sign * value), certain[:, 0]
