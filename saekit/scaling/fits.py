"""A law fitted to runs: parameters with intervals, a band for further runs, and residuals that show a bad fit.

Intervals are profile likelihood intervals with small-sample quantiles (profiles.py). What they cover is the scatter of
runs about the law, taken to be normal in log loss and alike for all; not an error that all runs share, such as that of
the held-out tokens, and not a law of the wrong form: look at the residuals for that. A quantity whose profile doesn't
close is not identified by the runs: it has no value, and a limit on one side where there is one. The irreducible loss
is often such a quantity: it is not identified unless the losses visibly bend.

`benchmarks/coverage_scaling.py` measures how often the intervals hold the truth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..errors import DataError
from ..statistics import Estimate
from .displays import fit_html
from .forms import Columns, Doubles, Form, check_enough, first_guesses, log_terms
from .least_squares import LeastSquares, Quantity
from .profiles import Limits, Profile

if TYPE_CHECKING:
    import plotly.graph_objects as go


WIDEST_POWER = (-8.0, 8.0)
"""Where powers are looked for: a term that falls as the width to the minus eighth is of one width only."""
WIDEST = {"alpha": (-100.0, 100.0), "delta": (-100.0, 100.0), "zeta": (-100.0, 100.0)}
"""The same for logarithms of a term's size, at width, tokens and sparsity 1."""
WIDEST_LOSS = (-30.0, 30.0)
"""The same for logarithms of losses."""
NO_LOSS = 10.0
"""An irreducible loss of exp(-10) of the smallest loss is none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ScalingFit:
    """A law and how well it fits. Prints its parameters with 95 % intervals and residuals."""

    form: Form
    """The law: `form.formula` in words."""
    parameters: pd.DataFrame
    """One row for each parameter: value, low, high, n_units (runs), and where it is not identified the reason, without
    a value."""
    runs: pd.DataFrame
    """What was fitted: the inputs, loss, fitted, and residual = log(loss / fitted); asked, the sparsity that was asked
    for where `sparsity` is the measured one."""
    theta: Doubles
    """The parameters with the least squares, those that are not identified included: what the law is drawn from."""
    profile: Profile
    """How far a quantity of the law may lie from its fitted value."""
    about: str = ""
    """Which runs, in words."""

    def to_frame(self) -> pd.DataFrame:
        """One row for each parameter: value, the ends of its 95 % interval low and high, n_units (runs), and the reason
        where there is none."""
        return self.parameters.copy()

    def predict(self, **inputs: Any) -> pd.DataFrame:
        """The inputs, the law's loss there, and the 95 % band in which a further run's loss is expected.

        `inputs` are those of the law, numbers or lists of them: width and sparsity, or width and n_tokens. The band is
        that of one more run, scatter included, if the law holds there; an end is nan where the runs don't limit it.

        >>> import numpy as np, pandas as pd
        >>> from saekit.scaling.fits import fit
        >>> from saekit.scaling.forms import LN
        >>> n = np.array([64, 128, 256, 512, 1024, 2048])
        >>> law = fit(LN, pd.DataFrame({"width": n, "loss": 3 * n ** -0.5 + 0.2}))
        >>> law.predict(width=4096)["loss"].round(3).item()
        0.247
        """
        at = self._columns(inputs)
        points, inverse = np.unique(np.stack(list(at.values())), axis=1, return_inverse=True)
        ends = np.empty((2, points.shape[1]))
        for i, point in enumerate(points.T):
            here = {name: point[j : j + 1] for j, name in enumerate(self.form.inputs)}
            ends[:, i] = self.profile.limits(log_loss_at(self.form, here), *WIDEST_LOSS, of_a_run=True)
        low, high = np.exp(ends)[:, inverse.reshape(-1)]
        return pd.DataFrame({**at, "loss": self.loss(**at), "low": low, "high": high})

    def loss(self, **inputs: Any) -> Doubles:
        """The law's loss at each of the inputs, as in `predict`, without a band."""
        with np.errstate(over="ignore"):
            terms = log_terms(self.form, self._columns(inputs), self.theta)
            out: Doubles = np.exp(np.logaddexp.reduce(terms, axis=-2))
        return out

    def irreducible(self, sparsity: float | None = None) -> Estimate:
        """The loss that no width or number of tokens takes away; `sparsity` for the laws that depend on it.

        Where the losses fit as well without one it is not identified: the value is nan, `reason` says so, and `high` is
        what it is at most.

        >>> import numpy as np, pandas as pd
        >>> from saekit.scaling.fits import fit
        >>> from saekit.scaling.forms import LN
        >>> n = np.array([64, 128, 256, 512, 1024, 2048])
        >>> law = fit(LN, pd.DataFrame({"width": n, "loss": 3 * n ** -0.5 + 0.2}))
        >>> round(law.irreducible().value, 3)
        0.2
        """
        at = {name: np.ones(1) for name in self.form.inputs}
        if "sparsity" in at:
            if sparsity is None:
                raise DataError(
                    "the irreducible loss depends on the sparsity",
                    got="sparsity=None",
                    accepted="a number",
                    fix=f"pass, for example, sparsity={self.runs['sparsity'].median():g}",
                )
            at["sparsity"] = np.array([float(sparsity)])
        least = float(np.log(self.runs["loss"].min()))
        none = least - NO_LOSS
        found = self.estimate(lambda theta: log_terms(self.form, at, theta)[..., -1, 0], none, least + 2, exp=True)
        if np.isnan(found.low) and np.isfinite(found.high):
            reason = f"not identified: the runs fit as well with none; at most {found.high:.3g}"
            return replace(found, reason=reason)
        return found

    def estimate(self, quantity: Quantity, low: float, high: float, *, exp: bool = False) -> Estimate:
        """A quantity of the law with its profile interval, looked for between two limits; `exp`: of its exponential."""
        return estimate(self.profile, quantity, low, high, exp=exp)

    @property
    def rms_residual(self) -> float:
        """Root mean square of the residuals, as a fraction of the loss."""
        return float(np.sqrt(np.mean(self.runs["residual"] ** 2)))

    @property
    def r_squared(self) -> float:
        """Fraction of the variance of log loss that the law accounts for."""
        log_loss = np.log(self.runs["loss"])
        return float(1 - (self.runs["residual"] ** 2).sum() / ((log_loss - log_loss.mean()) ** 2).sum())

    def plot(self) -> go.Figure:
        """The law over the runs with the band of further runs, and the residuals beside it."""
        from .plots import plot_scaling_fit

        return plot_scaling_fit(self)

    def _columns(self, inputs: Mapping[str, Any]) -> dict[str, Doubles]:
        if set(inputs) != set(self.form.inputs):
            raise DataError(
                "the law has other inputs", got=", ".join(inputs) or "none", accepted=" and ".join(self.form.inputs)
            )
        arrays = np.broadcast_arrays(*(np.atleast_1d(np.asarray(inputs[n], float)) for n in self.form.inputs))
        if any((a <= 0).any() for a in arrays):
            raise DataError("the law is of positive inputs", got=dict(inputs), accepted="numbers above 0")
        return dict(zip(self.form.inputs, arrays, strict=True))

    def _lines(self) -> list[str]:
        worst = self.runs.iloc[int(self.runs["residual"].abs().to_numpy().argmax())]
        where = ", ".join(f"{name} {worst[name]:g}" for name in self.form.inputs)
        names = max(len(name) for name in self.form.parameters)
        known = [read_row(row) for _, row in self.parameters.iterrows()]
        table = [f"{name:<{names}}  {described(e)}" for name, e in zip(self.form.parameters, known, strict=True)]
        return [
            self.form.formula,
            f"  {len(self.runs)} runs{', ' * bool(self.about)}{self.about}",
            f"  residuals {self.rms_residual:.2%} of the loss, at most {abs(worst['residual']):.2%} ({where}); "
            f"R² of log loss {self.r_squared:.4f}",
            f"  95 % profile likelihood intervals, {self.profile.df} degrees of freedom",
            *("  " + line for line in table),
        ]

    def __repr__(self) -> str:
        lines = self._lines()
        ks = sorted(self.runs["sparsity"].unique()) if "sparsity" in self.form.inputs else [None]
        shown = dict.fromkeys([ks[0], ks[-1]])
        floors = [described(self.irreducible(k)) + (f" at sparsity {k:g}" if k else "") for k in shown]
        return "\n".join([*lines, f"  irreducible loss {', '.join(floors)}"])

    __str__ = __repr__
    _repr_html_ = fit_html


def fit(form: Form, runs: pd.DataFrame, *, about: str = "") -> ScalingFit:
    """The form fitted to a table of runs with its inputs and `loss`."""
    return ScalingFit(**fitted(form, runs), about=about)


def fitted(form: Form, runs: pd.DataFrame) -> dict[str, Any]:
    """What a ScalingFit is made of. DataError for too few runs, or losses that are not positive."""
    columns: Columns = {name: runs[name].to_numpy(float) for name in form.inputs}
    loss = runs["loss"].to_numpy(float)
    values = np.stack([*columns.values(), loss])
    if not (np.isfinite(values) & (values > 0)).all():
        raise DataError(
            "runs hold numbers that cannot be fitted",
            got=f"loss {loss.min():g} to {loss.max():g}",
            accepted="finite numbers above 0",
            fix="leave such runs out of the frame",
        )
    check_enough(form, columns)
    log_loss = np.log(loss)
    losses = LeastSquares(form, columns, log_loss)
    starts = list(first_guesses(form, columns, log_loss))
    theta = losses.solve(starts)
    profile = Profile(losses, theta, starts)
    table = runs[[*form.inputs, "loss", *(["asked"] if "asked" in runs else [])]].reset_index(drop=True).astype(float)
    residual = -losses.residuals(theta)
    return {
        "form": form,
        "parameters": _parameters(form, profile, float(log_loss.min())),
        "theta": theta,
        "profile": profile,
        "runs": table.assign(fitted=np.exp(log_loss - residual), residual=residual),
    }


def _parameters(form: Form, profile: Profile, least: float) -> pd.DataFrame:
    """value, low, high and reason of each parameter."""
    rows = {}
    for i, name in enumerate(form.parameters):
        low, high = WIDEST.get(name, WIDEST_POWER)
        if name == "zeta" and "eta" not in form.parameters:  # the logarithm of the irreducible loss
            low, high = least - NO_LOSS, least + 2
        found = estimate(profile, lambda theta, i=i: theta[..., i], low, high)  # type: ignore[misc]
        rows[name] = {**found.row(), "reason": found.reason}
    return pd.DataFrame(rows.values(), index=pd.Index(rows, name="parameter"))


def estimate(profile: Profile, quantity: Quantity, low: float, high: float, *, exp: bool = False) -> Estimate:
    """A quantity with its profile interval; where that doesn't close a reason in place of the value."""
    value, limits = float(quantity(profile.theta)), profile.limits(quantity, low, high)
    if exp:
        value, limits = math.exp(value), Limits(*np.exp(limits))
    reason = ""
    if not limits.closed:
        value, reason = math.nan, "not identified by these runs"
        if np.isfinite(limits.low):
            reason += f"; at least {limits.low:.3g}"
        if np.isfinite(limits.high):
            reason += f"; at most {limits.high:.3g}"
    n_runs = len(profile.losses.log_loss)
    return Estimate(value, limits.low, limits.high, reason=reason, n_units=n_runs, unit="runs")


def read_row(row: pd.Series) -> Estimate:
    """The estimate of a row of `parameters` or `laws`."""
    value, low, high, n_units = (float(row[name]) for name in ("value", "low", "high", "n_units"))
    return Estimate(value, low, high, reason=str(row["reason"]), n_units=int(n_units), unit="runs")


def described(estimate: Estimate) -> str:
    """An estimate as text: the number with its interval, or why there is none."""
    return estimate.reason if math.isnan(estimate.value) else f"{estimate:.3g}"


def log_loss_at(form: Form, at: Columns) -> Quantity:
    """The law's log loss at one point, as a quantity of its parameters."""
    blocks = form.terms(at)
    design, first = np.zeros((len(blocks), len(form.parameters))), 0
    for i, X in enumerate(blocks):
        design[i, first : first + X.shape[1]] = X[0]
        first += X.shape[1]
    return lambda theta: np.logaddexp.reduce(theta @ design.T, axis=-1)
