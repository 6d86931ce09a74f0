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

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..arguments import checks_arguments
from ..errors import DataError
from ..statistics import Estimate
from .fits import ScalingFit, bounds, estimate, fitted
from .flop import training_flop
from .forms import SURFACE, Doubles
from .minima import equal_compute, vertices

if TYPE_CHECKING:
    import plotly.graph_objects as go

MANY = 99
"""Curves of equal compute: all of them."""


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
        """One row for each of width, n_tokens, n_steps and loss: value, low, high."""
        names = ("width", "n_tokens", "n_steps", "loss")
        return pd.DataFrame([getattr(self, n).row() for n in names], index=pd.Index(names, name="quantity"))

    def __repr__(self) -> str:
        def whole(e: Estimate) -> str:
            return f"{e.value:,.0f} [{e.low:,.0f}, {e.high:,.0f}]"

        return (
            f"With {self.compute:.3g} FLOP: width {whole(self.width)}, {whole(self.n_tokens)} tokens "
            f"({whole(self.n_steps)} steps), loss {self.loss:.3g}" + ("; extrapolated" if self.extrapolated else "")
        )

    __str__ = __repr__


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ComputeFit(ScalingFit):
    """The surface L(n, tokens) at one sparsity, and what follows from it by compute."""

    d_in: int
    batch_size: int
    sparsity: float

    @property
    def laws(self) -> pd.DataFrame:
        """Exponents of compute on the best path, and the irreducible loss: value, low, high.

        width ~ C^a, n_tokens ~ C^(1 - a), reducible loss ~ C^b. An infinite end means that in some resamples loss does
        not fall with width, or not with tokens, so that there is no best path.
        """
        value, draws = _exponents(self.parameters["value"].to_numpy()), _exponents(self.samples)
        rows = {n: estimate(value[i], draws[..., i]) for i, n in enumerate(_LAWS)}
        rows["irreducible loss"] = self.irreducible()
        return pd.DataFrame([e.row() for e in rows.values()], index=pd.Index(rows, name="law"))

    def frontier(self, compute: Doubles | float) -> pd.DataFrame:
        """The best loss L(C) = e + c C^b at each compute, with low and high, and the width and n_tokens that reach it.

        `measured` is False where that width, or that many tokens, lie outside what was measured: the law is then
        extrapolated. The intervals are of the law, without the scatter of single runs.
        """
        compute = np.atleast_1d(np.asarray(compute, float))
        product = compute / training_flop(1.0, 1.0, self.d_in)
        path = self._path(self.parameters["value"].to_numpy(), product)
        draws = [bounds(v) for v in self._path(self.samples, product)]
        out = {"compute": compute}
        for name, v, (low, high) in zip(("width", "n_tokens", "loss"), path, draws, strict=True):
            out |= {name: np.exp(v), f"{name}_low": np.exp(low), f"{name}_high": np.exp(high)}
        frame = pd.DataFrame(out)
        return frame.assign(measured=~self._outside(frame).any(axis=1))

    def best(self, compute: float, *, extrapolate: bool = False) -> BestChoice:
        """The width and number of steps with the least loss for a budget in FLOP.

        DataError when the budget, or the width or number of tokens it asks for, lies outside what was measured, unless
        `extrapolate` is True; and when no width is best because loss does not fall with width or with tokens.
        """
        if not (np.isfinite(compute) and compute > 0):
            raise DataError("not a budget", got=compute, accepted="a number of FLOP above 0")
        frontier = self.frontier(float(compute))
        row, outside = frontier.iloc[0], self._outside(frontier).iloc[0]
        if outside.any() and not extrapolate:
            name, measured = outside.index[outside][0], self._ranges
            raise DataError(
                f"the budget lies outside what was measured: {name}",
                got=f"{name} {row[name]:.4g} at {compute:.4g}",
                accepted=f"{name} from {measured[name][0]:.4g} to {measured[name][1]:.4g}",
                fix="train a grid that reaches it, or pass extrapolate=True",
            )
        estimates = {n: Estimate(row[n], row[f"{n}_low"], row[f"{n}_high"]) for n in ("width", "n_tokens", "loss")}
        steps = Estimate(*(row[f"n_tokens{end}"] / self.batch_size for end in ("", "_low", "_high")))
        return BestChoice(compute=float(compute), **estimates, n_steps=steps, extrapolated=bool(outside.any()))

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
            frame["fitted"] = self.predict(width=frame["width"], n_tokens=frame["n_tokens"])["loss"].to_numpy()
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
        law = self.frontier(frame["compute"].to_numpy())
        return frame.assign(fitted=law["width"], low=law["width_low"], high=law["width_high"])

    def plot(self) -> go.Figure:
        """Curves of equal compute with their minima, and loss over compute with the frontier."""
        from .plots import plot_compute_fit

        return plot_compute_fit(self)

    @property
    def has_best_path(self) -> bool:
        """Whether loss falls with width and with tokens, so that every budget has a best width."""
        value = self.parameters["value"]
        return bool(value["beta_n"] < 0 and value["beta_t"] < 0)

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

    def _path(self, theta: Doubles, product: Doubles) -> tuple[Doubles, Doubles, Doubles]:
        """Logarithms of width, tokens and loss [..., n] on the best path at width * n_tokens = product [n].

        Where loss does not fall with width the best width goes to 0, and where not with tokens to infinity.
        """
        if theta.ndim == 1 and not self.has_best_path:
            value = self.parameters["value"]
            raise DataError(
                "no width is best: loss does not fall with width, or not with tokens",
                got=f"powers {value['beta_n']:.3g} of width, {value['beta_t']:.3g} of tokens",
                accepted="negative powers",
                fix="look at .runs: too little text repeated too often, or a grid too small to show the minimum",
            )
        a, beta_n, d, beta_t, zeta = (theta[..., i, None] for i in range(5))
        p, q = -beta_n, -beta_t
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            log_n = (np.log(p) - np.log(q) + a - d + q * np.log(product)) / (p + q)
            log_n = np.where(p <= 0, -np.inf, np.where(q <= 0, np.inf, log_n))
            log_t = np.log(product) - log_n
            terms = np.stack(np.broadcast_arrays(a - p * log_n, d - q * log_t, zeta))
            log_loss = np.logaddexp.reduce(terms, axis=0)
        return log_n, log_t, np.nan_to_num(log_loss, nan=np.inf)

    def _lines(self) -> list[str]:
        lines = super()._lines()
        if not self.has_best_path:
            return [*lines, "  no best path: loss does not fall with width, or not with tokens"]
        e = {name: Estimate(*row) for name, row in zip(self.laws.index, self.laws.to_numpy(), strict=True)}
        w, t, b = (e[name] for name in _LAWS)
        lines.append(f"  on the best path width ~ C^{w:.3g}, tokens ~ C^{t:.3g}, reducible loss ~ C^{b:.3g}")
        return [*lines, *self._comparison()]

    def _comparison(self) -> list[str]:
        """How the best widths read from the runs agree with the law's, in words."""
        known = self.minima(MANY).dropna()
        if not len(known):
            return ["  the runs alone have no minimum at any compute to compare with"]
        inside = known["measured"].between(known["low"], known["high"])
        line = f"  best widths read off the runs lie in the law's interval at {inside.sum()} of {len(known)} computes"
        if len(known) > 2:
            power = np.polyfit(np.log(known["compute"].to_numpy()), np.log(known["measured"].to_numpy()), 1)[0]
            line += f", and go as C^{power:.2f}"
        return [line + ("" if inside.all() else ": do not trust the law's where they do not")]


_LAWS = ("width", "n_tokens", "reducible loss")


def _exponents(theta: Doubles) -> Doubles:
    """Powers of compute [..., 3] of width, tokens and reducible loss on the best path."""
    p, q = -theta[..., 1], -theta[..., 3]
    with np.errstate(invalid="ignore", divide="ignore"):
        a = np.where(p <= 0, -np.inf, np.where(q <= 0, np.inf, q / (p + q)))
        b = np.where((p <= 0) | (q <= 0), np.inf, -p * q / (p + q))
    return np.stack([a, 1 - a, b], axis=-1)


def fit_surface(
    runs: pd.DataFrame, *, d_in: int, batch_size: int, sparsity: float, n_bootstrap: int, seed: int, about: str
) -> ComputeFit:
    """The surface fitted to the runs of one sparsity: a table with width, n_tokens and loss."""
    return ComputeFit(
        **fitted(SURFACE, runs, n_bootstrap, seed), d_in=d_in, batch_size=batch_size, sparsity=sparsity, about=about
    )
