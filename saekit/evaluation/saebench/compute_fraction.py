"""Downstream loss as a fraction of pre-training compute: how small a model would do as badly as this one with its SAE?

The loss with the SAE in place means little by itself. A reference table of models of the same family (or of checkpoints
of one run) gives loss by compute; on its curve L = E + A C^-b, fitted to the table, the compute at which a plain model
reaches ce_sae over that at which it reaches ce_clean is the fraction. Because the reference is read at both losses the
family's own offset on the text cancels.

Source: Gao et al. 2024 (arXiv:2406.04093), section 4.1, who put a 16M-latent SAE in GPT-4 at a tenth of its compute;
the form of the curve is that of Hoffmann et al. 2022 with one term. The fit is least squares on log loss (scipy).

Nothing is made up here: the table is the caller's, measured on the same text as the evaluation. For the default model,
SmolLM2-135M-Instruct, no training curve is published, so saekit reports no such fraction for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...arguments import checks_arguments
from ...errors import ConfigError, DataError, unknown_name
from ...statistics import Estimate, jackknife_estimate
from .displays import compute_fraction_html

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from .. import Evaluation

Method = Literal["fit", "interpolate"]
Doubles = npt.NDArray[np.float64]
UNITS = {"compute": "FLOP", "tokens": "tokens", "parameters": "parameters"}
"""What a table may measure compute by, and its unit."""
FEWEST = {"fit": 4, "interpolate": 2}
"""Rows each method needs."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ComputeFraction:
    """How much of its pre-training compute a model is worth with an SAE in place. Prints as a sentence."""

    fraction: float
    low: float
    """95 % interval: jackknife t over the reference's rows on the log scale; nan below five rows and for
    interpolation."""
    high: float
    reason: str
    """Why there is no interval; empty where there is one."""
    compute_sae: float
    """Where the reference reaches ce_sae."""
    compute_clean: float
    ce_sae: float
    ce_clean: float
    unit: str
    """FLOP, tokens (of one model size) or parameters (of models trained on as many tokens)."""
    method: str
    parameters: dict[str, float]
    """E, A and b of L = E + A C^-b; empty for interpolation."""
    reference: pd.DataFrame
    """The table, ascending: compute and loss."""
    extrapolated: bool
    """Whether a loss lies outside the table."""

    def to_frame(self) -> pd.DataFrame:
        """One row."""
        names = ("fraction", "low", "high", "reason", "compute_sae", "compute_clean", "ce_sae", "ce_clean")
        return pd.DataFrame([{name: getattr(self, name) for name in names}])

    def curve(self, compute: Doubles) -> Doubles:
        """The reference's loss at some compute."""
        if self.parameters:
            p = self.parameters
            return np.asarray(p["E"] + p["A"] * compute ** -p["b"], dtype=np.float64)
        c, loss = (self.reference[name].to_numpy() for name in ("compute", "loss"))
        return np.asarray(np.interp(np.log(compute), np.log(c), loss))

    def plot(self) -> go.Figure:
        """The reference's curve with both losses marked, as a plotly figure."""
        from .plots import plot_compute_fraction

        return plot_compute_fraction(self)

    def __repr__(self) -> str:
        bounds = f" ({self.reason})"
        if not np.isnan(self.low):
            bounds = f" [{self.low:.1%}, {self.high:.1%}], {len(self.reference)} reference rows,"
        how = "interpolated" if not self.parameters else "L = {E:.3f} + {A:.3g} C^-{b:.3f}".format(**self.parameters)
        return "\n".join(
            [
                f"With the SAE the model is as good as one of {self.fraction:.1%}{bounds} of its compute",
                f"  loss {self.ce_sae:.3f} is reached at {self.compute_sae:.3g} {self.unit}, {self.ce_clean:.3f} at "
                f"{self.compute_clean:.3g}",
                f"  {len(self.reference)} reference rows, {how}" + (", extrapolated" if self.extrapolated else ""),
            ]
        )

    __str__ = __repr__
    _repr_html_ = compute_fraction_html


@checks_arguments
def compute_fraction(
    evaluation: Evaluation | tuple[float, float],
    reference: pd.DataFrame | Mapping[str, Any],
    *,
    method: Method = "fit",
    extrapolate: bool = False,
) -> ComputeFraction:
    """The fraction of pre-training compute that is left with the SAE in place.

    `evaluation` is what `sk.evaluate` returned, or (ce_clean, ce_sae) in nats per token. `reference` has a row for each
    plain model or checkpoint: `loss` on the same text, and `compute` in FLOP, or `parameters` and `tokens` (compute is
    then 6 N D, Kaplan et al. 2020), or one of those two where the other is the same for all. method="fit" takes the
    power law and needs four rows; "interpolate" joins the rows in log compute and needs two.

    Raises UnknownNameError or DataError for a table that cannot be used, and DataError for a loss outside the table
    unless `extrapolate` is True; a loss below the fitted E is an error in any case.

    >>> reference = {"compute": [1e18, 1e19, 1e20, 1e21], "loss": [4.3, 3.6, 3.2, 2.97]}
    >>> found = sk.compute_fraction((3.0, 3.3), reference)
    >>> 0.03 < found.fraction < 0.1
    True
    """
    if not isinstance(evaluation, tuple) and not hasattr(evaluation, "ce_clean"):
        raise ConfigError(
            "this is not an evaluation",
            got=f"{evaluation!r:.80}",
            accepted="what sk.evaluate returned, or two losses: (of the model, with the SAE)",
        )
    clean, spliced = evaluation if isinstance(evaluation, tuple) else (evaluation.ce_clean, evaluation.ce_sae)
    if method not in FEWEST:
        raise unknown_name("method", method, FEWEST)
    table, unit = _table(reference, FEWEST[method])
    c, loss = table["compute"].to_numpy(), table["loss"].to_numpy()
    least, most = float(loss.min()), float(loss.max())
    outside = [v for v in (clean, spliced) if not least <= v <= most]
    if outside and not (extrapolate and method == "fit"):
        raise DataError(
            "a loss lies outside what the reference measured",
            got=", ".join(f"{v:.3f}" for v in outside),
            accepted=f"{least:.3f} to {most:.3f}",
            fix="add reference models that reach it"
            + (", or pass extrapolate=True" if method == "fit" else ', or pass method="fit" and extrapolate=True'),
        )
    if method == "fit":
        E, A, b = _fit(c, loss)
        at = [_inverse(v, E, A, b) for v in (spliced, clean)]
        interval = jackknife_estimate(at[0] / at[1], _left_out(c, loss, clean, spliced), scale="log", unit="rows")
        parameters = {"E": E, "A": A, "b": b}
    else:
        if (np.diff(loss) >= 0).any():
            raise DataError(
                "the reference's loss does not fall with every step of compute",
                got=[round(float(v), 3) for v in loss],
                accepted="falling losses",
                fix='pass method="fit", which allows for noise',
            )
        at, parameters = [_between(v, c, loss) for v in (spliced, clean)], {}
        interval = Estimate(at[0] / at[1], reason='no interval: method="interpolate" takes the rows as exact')
    return ComputeFraction(
        fraction=at[0] / at[1],
        low=interval.low,
        high=interval.high,
        reason=interval.reason,
        compute_sae=at[0],
        compute_clean=at[1],
        ce_sae=float(spliced),
        ce_clean=float(clean),
        unit=unit,
        method=method,
        parameters=parameters,
        reference=table,
        extrapolated=bool(outside),
    )


def _table(reference: Any, fewest: int) -> tuple[pd.DataFrame, str]:
    frame = pd.DataFrame(reference)
    if "loss" not in frame:
        raise unknown_name("column of the reference:", "loss", frame.columns, fix="name the column of losses 'loss'")
    given = [name for name in UNITS if name in frame]
    if not given:
        raise DataError(
            "the reference does not give the compute of each row",
            got=", ".join(map(str, frame.columns)),
            accepted="a column compute, tokens or parameters",
        )
    both = "compute" not in given and len(given) == 2
    compute = 6 * frame["parameters"] * frame["tokens"] if both else frame[given[0]]
    try:
        table = pd.DataFrame({"compute": compute, "loss": frame["loss"]}).astype(float).sort_values("compute")
    except (TypeError, ValueError) as e:
        raise DataError(
            "the reference holds what is no number", got=str(e), accepted="finite numbers above 0"
        ) from None
    values = table.to_numpy()
    if not np.isfinite(values).all() or (values <= 0).any():
        raise DataError("the reference holds numbers that cannot be used", accepted="finite numbers above 0")
    if len(table) < fewest or table["compute"].nunique() < len(table):
        raise DataError(
            "the reference has too few rows",
            got=f"{table['compute'].nunique()} distinct",
            accepted=f"at least {fewest}, each of another compute",
            fix="measure more models or checkpoints",
        )
    return table.reset_index(drop=True), "FLOP" if both else UNITS[given[0]]


def _fit(c: Doubles, loss: Doubles, starts: Sequence[float] = (0.02, 0.5, 0.9)) -> tuple[float, float, float]:
    """E, A and b of E + A C^-b, least squares on log loss; E lies between 0 and the smallest loss, b above 0.

    `starts` are the fractions of the smallest loss at which E begins; the best end is taken.
    """
    from scipy.optimize import least_squares
    from scipy.special import expit, logit

    middle, floor, log_loss = float(np.exp(np.log(c).mean())), float(loss.min()), np.log(loss)
    log_c = np.log(c / middle)

    def residual(p: Doubles) -> Doubles:
        return np.asarray(np.log(floor * expit(p[0]) + np.exp(p[1] - np.exp(p[2]) * log_c)) - log_loss)

    best = None
    for fraction in starts:
        slope, level = np.polyfit(log_c, np.log(loss - fraction * floor), 1)
        start = [logit(fraction), level, np.log(max(-slope, 1e-3))]
        found = least_squares(residual, start, method="lm", max_nfev=400)
        best = found if best is None or found.cost < best.cost else best
    assert best is not None
    E, level, b = floor * float(expit(best.x[0])), float(best.x[1]), float(np.exp(best.x[2]))
    return E, float(np.exp(level) * middle**b), b


def _inverse(loss: float, E: float, A: float, b: float) -> float:
    if loss <= E:
        raise DataError(
            "the fitted curve never reaches this loss",
            got=f"{loss:.3f}",
            accepted=f"above its floor E = {E:.3f}",
            fix="add reference models that reach it",
        )
    return float(((loss - E) / A) ** (-1 / b))


def _between(loss: float, c: Doubles, losses: Doubles) -> float:
    return float(np.exp(np.interp(-loss, -losses, np.log(c))))


def _left_out(c: Doubles, losses: Doubles, clean: float, spliced: float) -> Doubles:
    """The fraction of a fit without each row; nan where that never reaches a loss or has too few rows."""
    out = np.full(len(c), np.nan)
    for i in range(len(c)) if len(c) > FEWEST["fit"] else ():
        keep = np.arange(len(c)) != i
        E, A, b = _fit(c[keep], losses[keep])
        if min(clean, spliced) > E:
            out[i] = _inverse(spliced, E, A, b) / _inverse(clean, E, A, b)
    return out
