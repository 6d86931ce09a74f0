"""The largest products of each row of one matrix with the rows of another, exact and without the cost of all of them.

A product of 8-bit integers costs a fifth of one in float32 on a CPU that has instructions for it, one in bfloat16 a
third, and how wrong they can be is known. So these say which few products can be among the largest, and these alone are
computed in float32.

In bfloat16 a product is wrong, by Cauchy and Schwarz, by no more than what rounding took from each of the two
directions times the length of the other. In 8 bits, such a bound would be too wide to be of use. There both are rounded
to whole steps after a dither is added that is later subtracted, as in sae/sparse/int8_bounds.py, so that errors are
independent of the data and between dimensions, and their sum is sub-Gaussian with a variance that is known: the bound
is N_SIGMA standard deviations, which a product exceeds with a chance of less than 1.2e-15, for data that were not made
with these dithers in mind.

What is shared with sae/sparse/int8_bounds.py is the quantisation and the width of its margin. The bounds themselves are
not: training needs one upper bound a pair, compared with a cut once, so all corrections ride along as columns of the
product; here both signs are asked for, one step holds for a group of directions of similar size, and the error is a
number for each row and group, so that groups are ruled out before their members are looked at.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..sae.sparse.int8_bounds import LARGEST, MARGIN, dithers, quantise, step_of, supported

_GROUP = 64  # directions in a group, of which first only the largest product is looked at
_LIKELY = 48  # groups that are looked into; a row of which more may hold one of the largest is computed in full
_CHUNK = 64  # groups that are rounded at a time
_SAMPLE = 4096  # rows and directions that say how uneven the dimensions are


class Ranked(NamedTuple):
    """The best columns of each row, best first."""

    column: Int[Tensor, "rows n"]
    value: Float[Tensor, "rows n"]


class _Approximation(NamedTuple):
    """Approximate products of rows with all directions: scale * (number + shift), in a unit of each row's own."""

    number: Tensor  # [rows, n_groups, _GROUP]
    shift: Tensor  # Float32 [rows, 1]
    scale: Tensor  # Float32 [n_groups]
    error: Tensor  # Float32 [rows, n_groups]; by how much a product can be wrong


class _ApproximateProducts(ABC):
    """Directions, rounded so that approximate products with them take little time.

    Groups are of directions of similar size: member j of group g is direction order[g * _GROUP + j].
    """

    def __init__(self, directions: Tensor, size: Tensor, dtype: torch.dtype, width: int, block: int) -> None:
        m = len(directions)
        self.exact = directions
        self.order = torch.cat([size.argsort(), torch.zeros(-m % _GROUP, dtype=torch.int64)])  # beyond m any
        self.place = self.order[:m].argsort()
        self.n_groups = len(self.order) // _GROUP
        self._rounded = torch.zeros(self.n_groups, _GROUP, width, dtype=dtype)
        self._memory = torch.empty(block, len(self.order), dtype=torch.int32 if dtype == torch.int8 else dtype)

    @abstractmethod
    def of_rows(self, x: Tensor) -> _Approximation:
        """Those of the rows `x` with all directions; `number` is the same storage each time."""

    def _chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """Slices of the groups, and their directions, [of the slice, _GROUP, d]."""
        for first in range(0, self.n_groups, _CHUNK):
            at = slice(first, min(first + _CHUNK, self.n_groups))
            yield at, self.exact[self.order.view(-1, _GROUP)[at]]

    def _multiply(self, x: Tensor) -> Tensor:
        multiply = torch._int_mm if x.dtype == torch.int8 else torch.mm
        out = self._memory[: len(x)]
        return multiply(x, self._rounded.flatten(0, 1).T, out=out).view(len(x), -1, _GROUP)


class _FloatProducts(_ApproximateProducts):
    """The product in bfloat16 or float32."""

    def __init__(self, directions: Tensor, dtype: torch.dtype, block: int) -> None:
        d, length = directions.shape[1], directions.norm(dim=1)
        super().__init__(directions, length, dtype, d, block)
        self._longest = length[self.order].view(-1, _GROUP).amax(1)
        self._lost = 0.0  # the largest fraction of a direction's length that rounding took
        for at, rows in self._chunks():
            self._rounded[at] = rows
            lost = (rows - self._rounded[at].float()).norm(dim=2) / rows.norm(dim=2).clamp_min(1e-30)
            self._lost = max(self._lost, float(lost.max()))
        self._lost += d * 2.0**-22  # and summing

    def of_rows(self, x: Tensor) -> _Approximation:
        rounded = x.to(self._rounded.dtype)
        error = (x - rounded.float()).norm(dim=1) + rounded.float().norm(dim=1) * self._lost
        scale = torch.ones(self.n_groups)
        return _Approximation(self._multiply(rounded), torch.zeros(len(x), 1), scale, error[:, None] * self._longest)


class _Int8Products(_ApproximateProducts):
    """The product in 8 bits: of rows x / c in steps s of their own, and directions w * c in steps r of their group.

    With dithers p, q and whole numbers a = round(x / c / s + p), g = round(w * c / r + q), the product x . w is about
    s r (a - p) . (g - q). Of it, -a . q is the row's shift, and -p . (g - q) rides along as one more column, in whole
    units. The error is s r (e . (g - q) + x / c / s . f), where e and f are uniform in [-1/2, 1/2).
    """

    def __init__(self, directions: Tensor, rows: Tensor, block: int) -> None:
        d = directions.shape[1]
        self._p, self._q = dithers(d)
        even = []
        for matrix in (rows, directions):
            rms = matrix[:: 1 + len(matrix) // _SAMPLE].norm(dim=0)
            even.append((rms / rms.max()).nan_to_num_(1.0).clamp_(min=1e-3))
        self._c = (even[0] / even[1]).sqrt_()  # makes the dimensions of both as uneven as those of the other
        size = torch.cat([(part * self._c).abs_().amax(1) for part in torch.split(directions, _CHUNK * _GROUP)])
        super().__init__(directions, size, torch.int8, d + 1, block)
        self._scale = size[self.order].view(-1, _GROUP).amax(1).div_(LARGEST).clamp_(min=1e-30)
        self._square, beside = torch.empty(self.n_groups), torch.empty(self.n_groups, _GROUP)
        for at, part in self._chunks():
            g = quantise(part.mul_(self._c), self._scale[at, None, None], self._q)
            self._rounded[at, :, :d] = g
            g.sub_(self._q)
            self._square[at], beside[at] = g.norm(dim=2).amax(1).square_(), g @ self._p
        self._unit = float((beside.abs().max() / 127).ceil().clamp(1, 127))
        whole = beside.div(-self._unit).round_().clamp_(-127, 127)
        self._rounded[:, :, d] = whole
        # What the column cannot say, and what float32's own rounding takes before and after the product.
        self._rest = beside.add_(whole, alpha=self._unit).abs_().amax(1).add_(1 + d / 64)

    def of_rows(self, x: Tensor) -> _Approximation:
        u = x / self._c
        u /= step_of(u)[:, None]
        error = u.square().sum(1, keepdim=True) + self._square
        error = error.sqrt_().mul_(MARGIN).add_(self._rest).mul_(self._scale)
        a = u.add_(self._p).round_()
        shift = -(a @ self._q)[:, None]
        a = torch.nn.functional.pad(a, (0, 1), value=self._unit).to(torch.int8)
        return _Approximation(self._multiply(a), shift, self._scale, error)


@torch.inference_mode()
def largest_products(
    rows: Float[Tensor, "rows d"],
    directions: Float[Tensor, "m d"],
    n: int,
    *,
    block: int,
    signs: Sequence[int] = (1,),
    itself: bool = False,
    approximate_dtype: torch.dtype | None = None,
    report: Callable[[int], object] = lambda n_rows: None,
) -> list[Ranked]:
    """The n largest products of each row with the directions, `block` rows at a time: for each of `signs` those of
    sign times the product, so that (1, -1) gives the largest and the smallest.

    itself=True leaves out the product of row i with direction i. `approximate_dtype` is that of the product that finds
    the candidates (int8, bfloat16, float32), None the one that is fast here; the values are float32 products whatever
    it is. Few directions, and those on another device than the CPU, are multiplied in full. `report` is called with the
    number of rows done.

    >>> high, low = sk.index.exact_topk.largest_products(torch.eye(2), torch.eye(2) * 3, 1, block=8, signs=(1, -1))
    >>> high.column.flatten().tolist(), high.value.flatten().tolist()
    ([0, 1], [3.0, 3.0])
    """
    small = len(directions) < _GROUP * _LIKELY or n > _LIKELY // 2
    approximate = (
        None
        if small or rows.device.type != "cpu"
        else _approximate(rows, directions, block, approximate_dtype or _fast_dtype())
    )
    found: list[list[Ranked]] = []
    for first in range(0, len(rows), block):
        x = rows[first : first + block]
        own = first + torch.arange(len(x), device=x.device) if itself else None
        found.append(
            _in_full(x, directions, n, signs, own)
            if approximate is None
            else _from_candidates(x, approximate, n, signs, own)
        )
        report(first + len(x))
    return [
        Ranked(*(torch.cat(part).cpu() for part in zip(*blocks, strict=True))) for blocks in zip(*found, strict=True)
    ]


def _approximate(rows: Tensor, directions: Tensor, block: int, dtype: torch.dtype) -> _ApproximateProducts:
    block = min(block, len(rows))
    return _Int8Products(directions, rows, block) if dtype == torch.int8 else _FloatProducts(directions, dtype, block)


def _fast_dtype() -> torch.dtype:
    if supported():
        return torch.int8
    known = torch.cpu.get_capabilities()
    return torch.bfloat16 if known.get("avx512_bf16") or known.get("amx_bf16") else torch.float32


def _in_full(x: Tensor, directions: Tensor, n: int, signs: Sequence[int], own: Tensor | None) -> list[Ranked]:
    product, out = x @ directions.T, []
    for sign in signs:
        if own is not None:
            product[torch.arange(len(x), device=x.device), own] = -sign * torch.inf
        value, column = product.topk(n, largest=sign > 0)
        out.append(Ranked(column, value))
    return out


def _from_candidates(
    x: Tensor, approximate: _ApproximateProducts, n: int, signs: Sequence[int], own: Tensor | None
) -> list[Ranked]:
    products = approximate.of_rows(x)
    number = products.number.flatten(1)
    never = torch.inf if number.is_floating_point() else torch.iinfo(number.dtype).max
    out, doubtful = [], torch.zeros(len(x), dtype=torch.bool)
    for sign in signs:
        number[:, len(approximate.exact) :] = -sign * never
        if own is not None:
            number[torch.arange(len(x)), approximate.place[own]] = -sign * never
        found, certain = _largest(x, products, sign, approximate, n)
        out.append(found)
        doubtful |= ~certain
    if bool(doubtful.any()):
        exact = _in_full(x[doubtful], approximate.exact, n, signs, None if own is None else own[doubtful])
        for found, full in zip(out, exact, strict=True):
            found.column[doubtful], found.value[doubtful] = full
    return out


def _largest(
    x: Tensor, products: _Approximation, sign: int, approximate: _ApproximateProducts, n: int
) -> tuple[Ranked, Tensor]:
    """The n largest of sign * (x @ directions.T), and for which rows they are certain to be."""
    number, shift, scale, error = products
    eps = torch.finfo(number.dtype if number.is_floating_point() else torch.float32).eps
    best = ((number.amax(2) if sign > 0 else number.amin(2)).float() + shift) * (sign * scale)
    slack = error + eps * (best.abs() + error)
    reach = (best - slack).topk(n).values[:, -1:]  # n products, of different groups, are at least this
    upper = best + slack
    near = upper >= reach  # groups that can hold one of the n largest
    certain = (near.sum(1) <= _LIKELY) & upper.amax(1).isfinite()
    of, group = (near & certain[:, None]).nonzero(as_tuple=True)
    cut = reach[of, 0] - error[of, group] * (1 + eps)
    cut = (cut - 2 * eps * cut.abs()) / scale[group] - sign * shift[of, 0]
    inside = sign * number.flatten(0, 1)[of * approximate.n_groups + group]
    place, member = (inside >= cut[:, None]).nonzero(as_tuple=True)  # these can be among the n largest
    row, column = of[place], approximate.order[group[place] * _GROUP + member]

    starts = torch.searchsorted(row, torch.arange(len(x)))
    dot = torch.ops.aten._embedding_bag_per_sample_weights_backward(x, approximate.exact, column, starts, row, 0)
    place = torch.arange(len(row)) - starts[row]
    width = max(n, int(place.max()) + 1 if len(place) else 0)
    exact, columns = torch.full((len(x), width), -torch.inf), torch.zeros(len(x), width, dtype=torch.int64)
    exact[row, place], columns[row, place] = sign * dot, column
    value, chosen = exact.topk(n)
    return Ranked(columns.gather(1, chosen), sign * value), certain
