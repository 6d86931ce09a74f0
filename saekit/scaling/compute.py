"""Loss by compute: what the best SAE of a budget costs and reaches, and how wide and how long trained it is.

Compute is that of the two matrices of an SAE, read densely:

    C = 6 * n_tokens * (2 * d_in * width) FLOP

two for each weight and token forward, four backward. Not counted: the language model that makes the activations, what
sparse kernels save in the decoder, biases, the auxiliary loss, and the optimiser. Under this account a budget fixes
width * n_tokens, and the surface L(n, tokens) has along each budget one minimum, in closed form.

The minima are also read from the runs, without the surface (minima.py). Where the two disagree the surface is not to be
trusted: it takes what too few features lose and what too few tokens lose to add up, and short runs do not always do so
(measured: 18 runs of 4 to 16 thousand tokens on the default model, k 16: with 1.4e10 FLOP the runs do best at width
139, the law predicts 77).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..arguments import checks_arguments
from ..errors import DataError
from ..statistics import Estimate
from .displays import best_html
from .fits import ScalingFit, described, fitted, read_row
from .flop import training_flop
from .forms import SURFACE, Doubles
from .minima import equal_compute, vertices
from .profiles import between

if TYPE_CHECKING:
    import plotly.graph_objects as go

MANY = 99
"""Curves of equal compute: all of them."""
N_KNOTS = 6
"""Computes at which the frontier's intervals are found; between them they are interpolated."""
WIDEST = {"width": (-5.0, 30.0), "n_tokens": (-5.0, 60.0), "loss": (-30.0, 30.0)}
"""Where the logarithms of the best width, tokens and loss are looked for."""
SMALLEST_POWER = 1e-6
"""Of width or tokens, below which loss does not fall with it."""


@dataclass(frozen=True, kw_only=True)
class BestChoice:
    """The SAE to train with a budget, with 95 % intervals. Prints as a sentence."""

    compute: float
    """The budget, in FLOP."""
    width: Estimate
    n_tokens: Estimate
    n_steps: Estimate
    """At the batch size of the study."""
    loss: Estimate
    """Held-out loss; the interval is of the law's, without the scatter of single runs."""
    extrapolated: bool
    """Whether the budget, the width or the number of tokens lies outside what was measured."""

    def to_frame(self) -> pd.DataFrame:
        """One row for each of width, n_tokens, n_steps and loss: value, low, high, n_units (runs), reason."""
        names = ("width", "n_tokens", "n_steps", "loss")
        return _table({name: getattr(self, name) for name in names}, "quantity")

    def __repr__(self) -> str:
        def whole(e: Estimate) -> str:
            return f"{e.value:,.0f} [{e.low:,.0f}, {e.high:,.0f}]" if np.isfinite(e.value) else e.reason

        return (
            f"With {self.compute:.3g} FLOP: width {whole(self.width)}, {whole(self.n_tokens)} tokens "
            f"({whole(self.n_steps)} steps), loss {described(self.loss)}" + "; extrapolated" * self.extrapolated
        )

    __str__ = __repr__
    _repr_html_ = best_html


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ComputeFit(ScalingFit):
    """The surface L(n, tokens) at one sparsity, and what follows from it by compute."""

    d_in: int
    batch_size: int
    sparsity: float

    @property
    def laws(self) -> pd.DataFrame:
        """Exponents of compute on the best path, and the irreducible loss: value, low, high, n_units (runs), reason.

        width ~ C^a, n_tokens ~ C^(1 - a), reducible loss ~ C^b. Where the runs leave open whether loss falls with
        width, or with tokens, an exponent is not identified: nan, with the reason.
        """
        rows = {n: self.estimate(partial(_exponent, i), *ends) for i, (n, ends) in _EXPONENTS}
        return _table({**rows, "irreducible loss": self.irreducible()}, "law")

    def frontier(self, compute: Doubles | float) -> pd.DataFrame:
        """The best loss L(C) = e + c C^b at each compute, with low and high, and the width and n_tokens that reach it.

        `measured` is False where that width, or that many tokens, lie outside what was measured: the law is then
        extrapolated. The intervals are of the law, without the scatter of single runs. Where a profile does not close
        the value and that end are nan. Of more than six computes the intervals are interpolated between six.
        """
        compute = np.atleast_1d(np.asarray(compute, float))
        path = self._best_path(compute)
        knots = compute if len(compute) <= N_KNOTS else np.geomspace(compute.min(), compute.max(), N_KNOTS)
        at = {name: [self._on_path(name, C) for C in knots] for name in WIDEST}
        out = {"compute": compute}
        for name, found in at.items():
            ends = [between(compute, knots, np.array([getattr(e, end) for e in found])) for end in ("low", "high")]
            known = np.isfinite(ends).all(axis=0)
            out |= {name: np.where(known, path[name], np.nan), f"{name}_low": ends[0], f"{name}_high": ends[1]}
        return pd.DataFrame(out).assign(measured=~self._outside(path).any(axis=1))

    def best(self, compute: float, *, extrapolate: bool = False) -> BestChoice:
        """The width and number of steps with the least loss for a budget in FLOP.

        DataError when the budget, or the width or number of tokens it asks for, lies outside what was measured, unless
        `extrapolate` is True; and when no width is best because loss does not fall with width or with tokens.
        """
        if not (np.isfinite(compute) and compute > 0):
            raise DataError("not a budget", got=compute, accepted="a number of FLOP above 0")
        path = self._best_path(np.array([float(compute)]))
        row, outside = path.iloc[0], self._outside(path).iloc[0]
        if outside.any() and not extrapolate:
            name, measured = outside.index[outside][0], self._ranges
            raise DataError(
                f"the budget lies outside what was measured: {name}",
                got=f"{name} {row[name]:.4g} at {compute:.4g}",
                accepted=f"{name} from {measured[name][0]:.4g} to {measured[name][1]:.4g}",
                fix="train a grid that reaches it, or pass extrapolate=True",
            )
        found = {name: self._on_path(name, float(compute)) for name in WIDEST}
        tokens = found["n_tokens"]
        found["n_steps"] = replace(
            tokens,
            value=tokens.value / self.batch_size,
            low=tokens.low / self.batch_size,
            high=tokens.high / self.batch_size,
        )
        return BestChoice(compute=float(compute), **found, extrapolated=bool(outside.any()))

    @checks_arguments
    def iso_compute(self, n_curves: int = 5) -> pd.DataFrame:
        """Losses at equal compute: compute, width, n_tokens, loss, and what the law predicts, fitted.

        The computes are among those measured, as many widths at each as there are runs to interpolate between: in the
        logarithms, between the runs of one width, never beyond them.
        """
        product = np.unique(np.round(self.runs["width"].to_numpy() * self.runs["n_tokens"].to_numpy()))
        curves = equal_compute(self.runs, product)
        there = curves["product"].unique()
        chosen = there[np.unique(np.linspace(0, len(there) - 1, n_curves).round().astype(int))] if len(there) else there
        frame = curves[curves["product"].isin(chosen)].reset_index(drop=True)
        frame.insert(0, "compute", frame.pop("product") * training_flop(1.0, 1.0, self.d_in))
        if len(frame):
            frame["fitted"] = self.loss(width=frame["width"], n_tokens=frame["n_tokens"])
        return frame

    @checks_arguments
    def minima(self, n_curves: int = 5) -> pd.DataFrame:
        """The best width at each compute of `iso_compute`: from the runs by a parabola, and from the law.

        Columns compute, measured (nan where the parabola has no minimum within the widths of the curve), and the law's
        fitted, low, high. Where `measured` lies outside low to high the surface does not have the form of the runs.
        """
        curves = self.iso_compute(n_curves)
        best = vertices(curves.rename(columns={"compute": "product"}))
        frame = pd.DataFrame({"compute": best.index.to_numpy(float), "measured": best.to_numpy(float)})
        if not (len(frame) and self.has_best_path):
            return frame.assign(fitted=np.nan, low=np.nan, high=np.nan)
        law = pd.DataFrame([self._on_path("width", C).row() for C in frame["compute"]])
        return frame.assign(fitted=law["value"], low=law["low"], high=law["high"])

    def plot(self) -> go.Figure:
        """Curves of equal compute with their minima, and loss over compute with the frontier."""
        from .plots import plot_compute_fit

        return plot_compute_fit(self)

    @property
    def has_best_path(self) -> bool:
        """Whether loss falls with width and with tokens, so that every budget has a best width."""
        return bool(self.theta[1] < 0 and self.theta[3] < 0)

    @property
    def compute(self) -> Doubles:
        """FLOP of each run, in the order of `runs`."""
        width, n_tokens = (self.runs[name].to_numpy(float) for name in ("width", "n_tokens"))
        return training_flop(width, n_tokens, self.d_in)

    @property
    def _ranges(self) -> dict[str, tuple[float, float]]:
        known = {"compute": self.compute, **{n: self.runs[n].to_numpy() for n in ("width", "n_tokens")}}
        return {name: (float(v.min()), float(v.max())) for name, v in known.items()}

    def _outside(self, frontier: pd.DataFrame) -> pd.DataFrame:
        """For compute, width and n_tokens whether they lie outside what was measured, give or take rounding."""
        return pd.DataFrame(
            {n: ~frontier[n].between(0.999 * low, 1.001 * high) for n, (low, high) in self._ranges.items()}
        )

    def _best_path(self, compute: Doubles) -> pd.DataFrame:
        """compute, width, n_tokens and loss on the fitted law's best path, identified or not."""
        if not self.has_best_path:
            raise DataError(
                "no width is best: loss does not fall with width, or not with tokens",
                got=f"powers {self.theta[1]:.3g} of width, {self.theta[3]:.3g} of tokens",
                accepted="negative powers",
                fix="look at .runs: too little text repeated too often, or a grid too small to show the minimum",
            )
        path = _path(self.theta, self._product(compute))
        return pd.DataFrame({"compute": compute, **{n: np.exp(v) for n, v in zip(WIDEST, path, strict=True)}})

    def _on_path(self, name: str, compute: float) -> Estimate:
        """The best width, n_tokens or loss at one compute, with its interval."""
        i, product = list(WIDEST).index(name), self._product(np.array([compute]))
        return self.estimate(lambda theta: _path(theta, product)[i][..., 0], *WIDEST[name], exp=True)

    def _product(self, compute: Doubles) -> Doubles:
        """width * n_tokens that a compute buys."""
        return compute / training_flop(1.0, 1.0, self.d_in)

    def _lines(self) -> list[str]:
        lines = super()._lines()
        if not self.has_best_path:
            return [*lines, "  no best path: loss does not fall with width, or not with tokens"]
        laws = self.laws
        for i, (name, _) in _EXPONENTS:
            found = described(read_row(laws.loc[[name]].iloc[0]))
            lines.append(f"  on the best path {_OF_COMPUTE[i]} as a power of compute: {found}")
        return [*lines, *self._comparison()]

    def _comparison(self) -> list[str]:
        """How the best widths read from the runs agree with the law's, in words."""
        known = self.minima(MANY)
        known = known[known["measured"].notna()]
        if not len(known):
            return ["  the runs alone have no minimum at any compute to compare with"]
        known = known[known[["low", "high"]].notna().all(axis=1)]
        if not len(known):
            return ["  best widths read off the runs have no interval of the law to be compared with"]
        inside = known["measured"].between(known["low"], known["high"])
        line = f"  best widths read off the runs lie in the law's interval at {inside.sum()} of {len(known)} computes"
        if len(known) > 2:
            power = np.polyfit(np.log(known["compute"].to_numpy()), np.log(known["measured"].to_numpy()), 1)[0]
            line += f", and go as C^{power:.2f}"
        return [line + ("" if inside.all() else ": do not trust the law's where they do not")]


_EXPONENTS = tuple(
    enumerate({"width": (1e-3, 0.999), "n_tokens": (1e-3, 0.999), "reducible loss": (-8.0, -1e-3)}.items())
)
"""Powers of compute and where they are looked for."""
_OF_COMPUTE = ("width", "tokens", "reducible loss")


def _falls(theta: Doubles) -> tuple[Doubles, Doubles]:
    """Powers by which loss falls with width and with tokens, at least a little, so that there is a best path."""
    return np.maximum(-theta[..., 1], SMALLEST_POWER), np.maximum(-theta[..., 3], SMALLEST_POWER)


def _exponents(theta: Doubles) -> Doubles:
    """Powers of compute [..., 3] of width, tokens and reducible loss on the best path."""
    p, q = _falls(theta)
    return np.stack([q / (p + q), p / (p + q), -p * q / (p + q)], axis=-1)


def _exponent(i: int, theta: Doubles) -> Doubles:
    out: Doubles = _exponents(theta)[..., i]
    return out


def _path(theta: Doubles, product: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Logarithms of width, tokens and loss [..., n] on the best path at width * n_tokens = product [n]."""
    p, q = (v[..., None] for v in _falls(theta))
    a, d, zeta = (theta[..., i, None] for i in (0, 2, 4))
    log_n = (np.log(p) - np.log(q) + a - d + q * np.log(product)) / (p + q)
    log_t = np.log(product) - log_n
    terms = np.stack(np.broadcast_arrays(a - p * log_n, d - q * log_t, zeta))
    return log_n, log_t, np.logaddexp.reduce(terms, axis=0)


def _table(rows: dict[str, Estimate], name: str) -> pd.DataFrame:
    """value, low, high and reason of each."""
    return pd.DataFrame([{**e.row(), "reason": e.reason} for e in rows.values()], index=pd.Index(rows, name=name))


def fit_surface(runs: pd.DataFrame, *, d_in: int, batch_size: int, sparsity: float, about: str) -> ComputeFit:
    """The surface fitted to the runs of one sparsity: a table with width, n_tokens and loss."""
    return ComputeFit(**fitted(SURFACE, runs), d_in=d_in, batch_size=batch_size, sparsity=sparsity, about=about)
