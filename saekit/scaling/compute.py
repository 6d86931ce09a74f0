"""Loss by compute: what the best SAE of a budget costs and reaches, and how wide and how long trained it is.

Compute is that of the two matrices of an SAE, read densely:

    C = 6 * n_tokens * (2 * d_in * width) FLOP

two for each weight and token forward, four backward. Not counted: the language model that makes the activations, what
sparse kernels save in the decoder, biases, the auxiliary loss, and the optimiser. Under this account a budget fixes
width * n_tokens, and the surface L(n, tokens) has along each budget one minimum, in closed form.

The minima are also read off the runs, without the surface: losses interpolated at equal compute, a parabola in the
logarithm of width through them (Hoffmann et al. 2022, approach 2). Where the two disagree the surface is not to be
trusted. Knows nothing of how runs were made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..errors import DataError
from .fits import Estimate, ScalingFit, bounds, fitted
from .forms import SURFACE, Doubles

if TYPE_CHECKING:
    import plotly.graph_objects as go

FLOP_PER_WEIGHT_AND_TOKEN = 6
ENOUGH_WIDTHS = 3
"""Widths a curve of equal compute needs for a parabola."""


def compute_of(width: Doubles | float, n_tokens: Doubles | float, d_in: int) -> Doubles:
    """FLOP of training an SAE: 6 * n_tokens * 2 * d_in * width.

    >>> from saekit.scaling.compute import compute_of
    >>> compute_of(4096, 1_000_000, d_in=512).item()
    25165824000000.0
    """
    weights = 2.0 * d_in * np.asarray(width, float)
    return np.asarray(FLOP_PER_WEIGHT_AND_TOKEN * weights * np.asarray(n_tokens, float), float)


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
        return pd.DataFrame([getattr(self, n)._asdict() for n in names], index=pd.Index(names, name="quantity"))

    def __repr__(self) -> str:
        def whole(e: Estimate) -> str:
            return f"{e.value:,.0f} [{e.low:,.0f}, {e.high:,.0f}]"

        return (
            f"With {self.compute:.3g} FLOP: width {whole(self.width)}, {whole(self.n_tokens)} tokens "
            f"({whole(self.n_steps)} steps), loss {self.loss}" + ("; extrapolated" if self.extrapolated else "")
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
        rows = {n: Estimate(float(value[i]), *map(float, bounds(draws[..., i]))) for i, n in enumerate(_LAWS)}
        rows["irreducible loss"] = self.irreducible()
        return pd.DataFrame([e._asdict() for e in rows.values()], index=pd.Index(rows, name="law"))

    def frontier(self, compute: Doubles | float) -> pd.DataFrame:
        """The best loss L(C) = e + c C^b at each compute, with low and high, and the width and n_tokens that reach it.

        The intervals are of the law, without the scatter of single runs. Nothing is checked against the measured range.
        """
        compute = np.atleast_1d(np.asarray(compute, float))
        product = compute / compute_of(1.0, 1.0, self.d_in)
        path = self._path(self.parameters["value"].to_numpy(), product)
        draws = [bounds(v) for v in self._path(self.samples, product)]
        out = {"compute": compute}
        for name, v, (low, high) in zip(("width", "n_tokens", "loss"), path, draws, strict=True):
            out |= {name: np.exp(v), f"{name}_low": np.exp(low), f"{name}_high": np.exp(high)}
        return pd.DataFrame(out)

    def best(self, compute: float, *, extrapolate: bool = False) -> BestChoice:
        """The width and number of steps with the least loss for a budget in FLOP.

        DataError when the budget, or the width or number of tokens it asks for, lies outside what was measured, unless
        `extrapolate` is True; and when no width is best because loss does not fall with width or with tokens.
        """
        if not (np.isfinite(compute) and compute > 0):
            raise DataError("not a budget", got=compute, accepted="a number of FLOP above 0")
        row = self.frontier(float(compute)).iloc[0]
        measured = {**self._ranges, "compute": (self.compute.min(), self.compute.max())}
        outside = [n for n, (low, high) in measured.items() if not low * 0.999 <= row[n] <= high * 1.001]
        if outside and not extrapolate:
            name = outside[-1]
            raise DataError(
                f"the budget lies outside what was measured: {name}", got=f"{name} {row[name]:.4g} at {compute:.4g}",
                accepted=f"{name} from {measured[name][0]:.4g} to {measured[name][1]:.4g}",
                fix="train a grid that reaches it, or pass extrapolate=True",
            )  # fmt: skip
        estimates = {n: Estimate(row[n], row[f"{n}_low"], row[f"{n}_high"]) for n in ("width", "n_tokens", "loss")}
        steps = Estimate(*(v / self.batch_size for v in estimates["n_tokens"]))
        return BestChoice(compute=float(compute), **estimates, n_steps=steps, extrapolated=bool(outside))

    def iso_compute(self, n_curves: int = 5) -> pd.DataFrame:
        """Losses at equal compute: compute, width, n_tokens, loss, and what the law says, fitted.

        The computes are among those measured, as many widths at each as there are runs to interpolate between: in the
        logarithms, between the runs of one width, never beyond them.
        """
        from scipy.interpolate import PchipInterpolator

        by_width = {
            float(w): self.runs[self.runs["width"] == w].sort_values("n_tokens") for w in self.runs["width"].unique()
        }
        rows = []
        for C in np.unique(np.round(np.log(self.compute), 9)):
            here = []
            for width, g in by_width.items():
                log_t = C - float(np.log(compute_of(width, 1.0, self.d_in)))
                known = np.log(g["n_tokens"].to_numpy())
                if len(g) > 1 and known[0] - 1e-6 <= log_t <= known[-1] + 1e-6:
                    log_loss = PchipInterpolator(known, np.log(g["loss"].to_numpy()))(
                        np.clip(log_t, known[0], known[-1])
                    )
                    here.append({
                        "compute": np.exp(C), "width": width, "n_tokens": np.exp(log_t), "loss": np.exp(log_loss)
                    })  # fmt: skip
            if len(here) >= ENOUGH_WIDTHS:
                rows.append(here)
        chosen = (
            [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, n_curves).round().astype(int))] if rows else []
        )
        frame = pd.DataFrame([r for here in chosen for r in here], columns=["compute", "width", "n_tokens", "loss"])
        if len(frame):
            frame["fitted"] = self.predict(width=frame["width"], n_tokens=frame["n_tokens"])["loss"].to_numpy()
        return frame

    def minima(self, n_curves: int = 5) -> pd.DataFrame:
        """The best width at each compute of `iso_compute`: from the runs by a parabola, and from the law.

        Columns compute, measured (nan where the parabola has no minimum within the widths of the curve), fitted, low,
        high.
        """
        curves = self.iso_compute(n_curves)
        rows = []
        for C, g in curves.groupby("compute"):
            x = np.log(g["width"].to_numpy())
            bend, slope, _ = np.polyfit(x - x.mean(), np.log(g["loss"].to_numpy()), 2)
            vertex = x.mean() - slope / (2 * bend) if bend > 0 else np.nan
            rows.append({"compute": C, "measured": np.exp(vertex) if x.min() <= vertex <= x.max() else np.nan})
        if not rows:
            return pd.DataFrame(columns=["compute", "measured", "fitted", "low", "high"])
        frame = pd.DataFrame(rows)
        law = self.frontier(frame["compute"].to_numpy())
        return frame.assign(fitted=law["width"], low=law["width_low"], high=law["width_high"])

    def plot(self) -> go.Figure:
        """Curves of equal compute with their minima, and loss over compute with the frontier."""
        from .. import plots

        return plots.compute_fit(self)

    @property
    def has_best_path(self) -> bool:
        """Whether loss falls with width and with tokens, so that every budget has a best width."""
        value = self.parameters["value"]
        return bool(value["beta_n"] < 0 and value["beta_t"] < 0)

    @property
    def compute(self) -> Doubles:
        """FLOP of each run, in the order of `runs`."""
        return compute_of(self.runs["width"].to_numpy(), self.runs["n_tokens"].to_numpy(), self.d_in)

    @property
    def _ranges(self) -> dict[str, tuple[float, float]]:
        return {n: (float(self.runs[n].min()), float(self.runs[n].max())) for n in ("width", "n_tokens")}

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
                fix="look at .runs: too little text gone through too often, or a grid too small to tell",
            )  # fmt: skip
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
        return [*lines, f"  on the best path width ~ C^{w}, tokens ~ C^{t}, reducible loss ~ C^{b}"]


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
