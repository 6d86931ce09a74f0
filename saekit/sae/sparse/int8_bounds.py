"""Upper bounds of pre-activations from a product of 8-bit integers, at a quarter of the time of the float32 product.

Choosing the active features takes all pre-activations (x - b_dec) @ W_enc + b_enc, but only to find out which few are
large. Here that is found out in 8 bits: what comes back is, for every pair of token and feature, a number that the
pre-activation does not exceed. Few pairs have a bound above the cut that matters; those are computed again in float32
(selection.py), so what is chosen and its values are the same as without the bounds.

With u = z / c and v = w * c (c evens out the dimensions), a step s per token and r per feature, and dithers p, q in
[-1/2, 1/2) per dimension, drawn once:

    a = round(u / s + p)     g = round(v / r + q)     u . v  ~  s r (a - p) . (g - q)

A rounding error is then uniform in half a step either way, whatever the data (subtractive dither, Schuchman 1964), and
independent between dimensions, so the error of the product, e . v^ + u . f, is sub-Gaussian with the variance
s^2 r^2 (F^2 + T^2) / 12, where F = ||v^|| / r and T = ||u|| / s. N_SIGMA standard deviations are added, which makes the
chance that a pair exceeds its bound less than 1.2e-15, for data that were not made with these dithers in mind.
Corrections and margins of a feature and of a token are whole multiples of s r and ride along as extra columns of the
integer product; for that, the root of F^2 + T^2 is replaced by its tangent (F^2 + T^2) / 2m + m / 2, which is never
less, and equal at the usual m.

The quantisation (`dithers`, `step_of`, `quantise`) is also that of index/exact_topk.py, which needs another bound of
its product: one on both sides, for groups of directions. Needs a CPU with 8-bit dot products (VNNI): elsewhere the
integer product is slow or saturates.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

GROUPS = 1024  # feature i is in group i % GROUPS: groups are looked at before their members
ELEMENTS = 2**21  # of an integer product: its 8 MB stay in the cache while bounds are made of them and compared
TOKENS = 1024  # quantised at once
ROWS = (128, 512)  # tokens to a product, at least and at most: each reads all weights
N_SIGMA = 8.3  # exp(-8.3^2 / 2) = 1.1e-15
MARGIN = N_SIGMA / 12**0.5
LARGEST = 126  # of a quantised number before its dither
SAMPLE = 512  # tokens and features from which c and the usual m are taken
ROUNDING = 4  # steps of s r: the corrections' own rounding, twice over


@cache
def supported() -> bool:
    """Whether this CPU multiplies 8-bit integers into 32 bits without saturation."""
    has = torch.cpu.get_capabilities()
    return any(has.get(name, False) for name in ("avx512_vnni", "avx_vnni", "amx_int8"))


class Int8Bounds:
    """The quantised encoder of one SAE: rows of W_enc [d_sae, d_in], b_enc, and what `z`, the tokens, look like."""

    def __init__(
        self, rows: Float[Tensor, "d_sae d_in"], b_enc: Float[Tensor, " d_sae"], z: Float[Tensor, "n d_in"]
    ) -> None:
        self.d_sae, d_in = rows.shape
        self.width = -(-self.d_sae // GROUPS) * GROUPS
        self._p, q = dithers(d_in)
        some_z = z[:: -(-len(z) // SAMPLE)]
        rms = some_z.square().mean(0).sqrt_()
        self._c = (rms.clamp_(min=1e-3 * float(rms.max()) + torch.finfo(rms.dtype).tiny)).sqrt_()
        self._q, self._norm_q, self._p_q = q, float(q.norm()), float(self._p @ q)
        some_z, some_rows = some_z / self._c, rows[:: -(-self.d_sae // SAMPLE)] * self._c
        lengths = [float((m.norm(dim=1) / step_of(m)).square().mean()) for m in (some_z, some_rows)]
        self._usual = max(1.0, sum(lengths) ** 0.5)
        longest = (LARGEST + 2) * d_in**0.5  # a row of quantised numbers, whatever the data
        most = MARGIN / 2 * (longest**2 / self._usual + self._usual) + longest * float(self._p.norm() + q.norm())
        self._n_digits = int(most) // 127**2 + 2  # columns that hold a correction
        self._rounding = ROUNDING + longest**2 / 2**23  # the last is float32's
        self._g = torch.zeros(self.width, d_in + 2 * self._n_digits, dtype=torch.int8)
        self._r = torch.ones(self.width)
        self._b = torch.full((self.width,), -torch.inf)
        self._b[: self.d_sae] = b_enc.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
        for start in range(0, self.d_sae, 1024):
            self._quantise(rows[start : start + 1024], slice(start, min(start + 1024, self.d_sae)))

    def _quantise(self, rows: Tensor, at: slice) -> None:
        v = rows * self._c
        r = step_of(v)
        g = quantise(v, r[:, None], self._q)
        correction = g.norm(dim=1).add_(self._norm_q).square_().mul_(MARGIN / 2 / self._usual).sub_(g @ self._p)
        if not torch.isfinite(r.sum()):  # features that are not finite: let whoever computes them find out
            bad = ~torch.isfinite(r)
            r, g = r.masked_fill(bad, 1.0), g.masked_fill(bad[:, None], 0.0)
            correction = correction.masked_fill(bad, 0.0)
            self._b[at][bad] = torch.inf
        self._r[at] = r
        self._g[at, : g.shape[1]] = g.to(torch.int8)
        self._g[at, g.shape[1] :] = self._digits(correction, of_features=True)

    def _digits(self, number: Float[Tensor, " m"], *, of_features: bool) -> Tensor:
        """Columns whose product with the other side's constant ones adds `number`, rounded up."""
        whole = number.ceil()
        high = torch.div(whole, 127, rounding_mode="floor")
        digits = [whole - 127 * high]
        for _ in range(self._n_digits - 1):
            digits.append(high.clamp(-127, 127))
            high = high - digits[-1]
        ones = torch.full((len(number), self._n_digits), 127.0)
        ones[:, 0] = 1.0
        pair = [torch.stack(digits, dim=1), ones]
        return torch.cat(pair if of_features else pair[::-1], dim=1).to(torch.int8)

    def bounds(self, z: Float[Tensor, "n d_in"], above: Tensor | None = None) -> Iterator[tuple[slice, Tensor]]:
        """Slices of the tokens `z` (b_dec subtracted) and the bounds of their pre-activations, [rows, width].

        `above`, [d_sae], is subtracted from them. The matrix is the same storage each time; columns from d_sae on
        are -inf.
        """
        b = self._b
        if above is not None:
            b = b.clone()
            b[: self.d_sae] -= above
        n_rows = min(max(ROWS[0], ELEMENTS // self.width), ROWS[1])
        total = torch.empty(min(n_rows, len(z)), self.width, dtype=torch.int32)
        for first in range(0, len(z), TOKENS):
            some = z[first : first + TOKENS]
            u = some / self._c
            s = step_of(u)
            length = u.norm(dim=1).div_(s)
            a = quantise(u, s[:, None], self._p)
            margin = length.square_().div_(2 * self._usual).add_(self._usual / 2).mul_(MARGIN)
            correction = margin.sub_(a @ self._q).add_(self._p_q + self._rounding)
            a = torch.cat([a.to(torch.int8), self._digits(correction, of_features=False)], dim=1)
            for start in range(0, len(a), n_rows):
                part = slice(start, min(start + n_rows, len(a)))
                whole = torch._int_mm(a[part], self._g.T, out=total[: part.stop - start])
                bound = whole.view(torch.float32).copy_(whole).mul_(s[part, None])  # in the same memory
                yield slice(first + start, first + part.stop), torch.addcmul(b, bound, self._r, out=bound)


def dithers(d: int) -> Float[Tensor, "2 d"]:
    """The dithers p and q of d dimensions, in [-1/2, 1/2); the same on every call."""
    return torch.rand(2, d, generator=torch.Generator().manual_seed(0)).sub_(0.5)


def step_of(matrix: Float[Tensor, "m d_in"]) -> Float[Tensor, " m"]:
    """The step of each row: its largest number is LARGEST steps."""
    return matrix.abs().amax(1).div_(LARGEST).clamp_(min=torch.finfo(matrix.dtype).tiny)


def quantise(matrix: Tensor, step: Tensor, dither: Tensor) -> Tensor:
    """The matrix as whole numbers of steps after the dither is added, in its own memory and dtype."""
    return matrix.div_(step).add_(dither).round_()
