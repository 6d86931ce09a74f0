"""Figures of scaling laws: runs as points, laws as lines with their bands, and their residuals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from ..errors import DataError
from ..plotting.figures import subplots
from ..plotting.style import BLUE, GREY, ORANGE, PALETTE, SYMBOLS, band, faded, figure, literal, note
from .flop import training_flop
from .profiles import between

if TYPE_CHECKING:
    from . import ComputeFit, ScalingFit, ScalingStudy

LOSS = "1 − explained variance"
TITLES = (
    "loss by width",
    "residuals",
    "equal compute: best width ★ law ☆ runs",
    "loss by compute (dotted: extrapolated)",
)
SHADES = ("#C08A2B", ORANGE, "#C2479B", "#7B61D6", BLUE)
"""From the smallest compute to the largest."""
N_POINTS = 60
"""Points of a drawn law."""
N_KNOTS = 6
"""Points at which its band is found; between them it is interpolated."""
Place = dict[str, int]


def plot_scaling_fit(fit: ScalingFit) -> go.Figure:
    """The law over the runs, a line for each sparsity, and the residuals. See ScalingFit.plot.

    >>> import pandas as pd
    >>> from saekit.scaling.plots import plot_scaling_fit
    >>> from saekit.scaling.fits import fit
    >>> from saekit.scaling.forms import LN
    >>> runs = pd.DataFrame({"width": [64, 128, 256, 512, 1024], "loss": [0.6, 0.5, 0.42, 0.36, 0.31]})
    >>> plot_scaling_fit(fit(LN, runs)).layout.xaxis.title.text
    'width (features)'
    """
    fig = _panels(TITLES[:2], "Loss by width" + " and sparsity" * ("sparsity" in fit.form.inputs), fit.about)
    _curves(fig, fit, {"row": 1, "col": 1})
    _residuals(fig, [fit], {"row": 1, "col": 2})
    return fig


def plot_compute_fit(fit: ComputeFit) -> go.Figure:
    """Curves of equal compute with their minima, and loss over compute with the frontier. See ComputeFit.plot.

    >>> from saekit.scaling.plots import plot_compute_fit
    >>> import pandas as pd
    >>> runs = pd.DataFrame([(n, 8, t) for n in (64, 128, 256, 512) for t in (4096, 8192, 16384)],
    ...                     columns=["width", "sparsity", "n_tokens"])
    >>> runs["loss"] = 2 * runs.width ** -0.4 + 20 * runs.n_tokens ** -0.5
    >>> fit = sk.ScalingStudy(frame=runs, d_in=32, batch_size=64).fit_compute()
    >>> plot_compute_fit(fit).layout.xaxis2.title.text
    'compute (FLOP)'
    """
    fig = _panels(TITLES[2:], "Loss by compute", fit.about)
    _equal_compute(fig, fit, {"row": 1, "col": 1})
    _frontier(fig, fit, {"row": 1, "col": 2})
    return fig


def plot_scaling_study(study: ScalingStudy) -> go.Figure:
    """Both laws of a study, as far as it has runs for them, and their residuals. See ScalingStudy.plot."""
    fig = _panels(TITLES, f"Scaling of {study.activation} SAEs", f"{len(study.frame)} runs; on {study.measured_on}")
    fits: list[ScalingFit] = []
    try:
        fits.append(study.fit_lnk())
        _curves(fig, fits[-1], {"row": 1, "col": 1})
    except DataError as error:
        last = study.frame[study.frame["n_tokens"] == study.frame["n_tokens"].max()]
        for i, (k, here) in enumerate(last.groupby("sparsity")):
            _points(fig, here["width"], here["loss"], i, _name(k), {"row": 1, "col": 1})
        _by_width(fig, last, {"row": 1, "col": 1})
        _reason(fig, error, "")
    try:
        surface = study.fit_compute()
        fits.append(surface)
        _equal_compute(fig, surface, {"row": 2, "col": 1})
        _frontier(fig, surface, {"row": 2, "col": 2})
    except DataError as error:
        _reason(fig, error, "3")
        _reason(fig, error, "4")
    _residuals(fig, fits, {"row": 1, "col": 2})
    return fig


def _panels(titles: tuple[str, ...], title: str, subtitle: str) -> go.Figure:
    rows = len(titles) // 2
    fig = subplots(rows=rows, cols=2, horizontal_spacing=0.13, vertical_spacing=0.2, subplot_titles=titles)
    figure(title, subtitle, height=120 + 310 * rows, fig=fig)
    for i, heading in enumerate(fig.layout.annotations):
        panel = fig.get_subplot(i // 2 + 1, i % 2 + 1)
        heading.update(x=panel.xaxis.domain[0], xanchor="left", font={"size": 13})
    fig.update_layout(margin={"t": 110}, showlegend=False)
    return fig


def _curves(fig: go.Figure, fit: ScalingFit, where: Place) -> None:
    """A line, a band and points for each sparsity, named at its right end."""
    runs, by = fit.runs, "asked" if "asked" in fit.runs else "sparsity"
    widths, knots = (np.geomspace(runs["width"].min(), runs["width"].max(), n) for n in (N_POINTS, N_KNOTS))
    groups: list[tuple[Any, pd.DataFrame]] = [(None, runs)]
    if "sparsity" in fit.form.inputs:
        groups = list(runs.groupby(by))
    for i, (k, here) in enumerate(groups):
        at = {} if k is None else {"sparsity": float(np.exp(np.log(here["sparsity"]).mean()))}
        name, colour = _name(k), PALETTE[i % 6]
        law = fit.predict(width=knots, **at)
        low, high = (between(widths, knots, law[end].to_numpy()) for end in ("low", "high"))
        known = np.isfinite(low) & np.isfinite(high)
        fig.add_trace(band(widths[known], low[known], high[known], colour, name), **where)
        fig.add_scatter(
            x=widths,
            y=fit.loss(width=widths, **at),
            mode="lines+text",
            name=name,
            line={"color": colour, "width": 2},
            text=[""] * (N_POINTS - 1) + [f" {name}"],
            textposition="middle right",
            textfont={"color": colour},
            hoverinfo="skip",
            cliponaxis=False,
            **where,
        )
        _points(fig, here["width"], here["loss"], i, name, where)
    _by_width(fig, runs, where)


def _points(fig: go.Figure, x: pd.Series, y: pd.Series, i: int, name: str, where: Place) -> None:
    fig.add_scatter(
        x=x,
        y=y,
        mode="markers",
        name=name,
        marker={"color": PALETTE[i % 6], "symbol": SYMBOLS[i % 6], "size": 8},
        hovertemplate=f"{name}<br>width %{{x:,}}<br>loss %{{y:.4f}}<extra></extra>",
        **where,
    )


def _residuals(fig: go.Figure, fits: list[ScalingFit], where: Place) -> None:
    """The residuals of each law, by the loss it predicts."""
    for fit, colour, symbol in zip(fits, (ORANGE, BLUE), SYMBOLS, strict=False):
        name = literal(fit.form.formula.split(" = ")[0])
        hover = [", ".join(f"{literal(n)} {row[n]:,.6g}" for n in fit.form.inputs) for _, row in fit.runs.iterrows()]
        fig.add_scatter(
            x=fit.runs["fitted"],
            y=fit.runs["residual"],
            mode="markers",
            name=name,
            customdata=hover,
            showlegend=True,
            marker={"color": colour, "symbol": symbol, "size": 7},
            **where,
            hovertemplate=f"{name}<br>%{{customdata}}<br>loss off by %{{y:.2%}}<extra></extra>",
        )
    if not fits:
        note(fig, "no law was fitted", xref="x2 domain", yref="y2 domain")
    others = [trace for trace in fig.data if trace.showlegend is None]
    for trace in others:  # they are named where they are drawn
        trace.showlegend = False
    fig.update_layout(showlegend=len(fits) > 1, legend={"x": 1, "xanchor": "right", "y": 1.0})
    fig.add_hline(y=0, line={"color": GREY, "width": 1.2}, **where)
    fig.update_xaxes(title_text="loss by the law", **where)
    fig.update_yaxes(title_text="log(loss / law)", tickformat=".1%", **where)


def _equal_compute(fig: go.Figure, fit: ComputeFit, where: Place) -> None:
    """Loss over width at a few computes: the runs, interpolated, the law, and its minimum where that is in range."""
    curves = fit.iso_compute()
    axis = "" if where["row"] == 1 else "3"
    if not len(curves):
        note(fig, "fewer than three widths share a compute", xref=f"x{axis} domain", yref=f"y{axis} domain")
    for i, (C, here) in enumerate(curves.groupby("compute")):
        colour, name = SHADES[i % 5], f"{C:.1e} FLOP"
        widths = np.geomspace(here["width"].min(), here["width"].max(), N_POINTS)
        product = here["width"].iloc[0] * here["n_tokens"].iloc[0]
        fig.add_scatter(
            x=widths,
            y=fit.loss(width=widths, n_tokens=product / widths),
            mode="lines+text",
            name=name,
            line={"color": colour, "width": 2},
            **where,
            text=[""] * (N_POINTS - 1) + [f"{C:.1e}"],
            textposition="top center",
            textfont={"color": colour},
            hoverinfo="skip",
            cliponaxis=False,
        )
        fig.add_scatter(
            x=here["width"],
            y=here["loss"],
            mode="markers",
            name=name,
            marker={"color": colour, "size": 7},
            **where,
            customdata=here["n_tokens"],
            hovertemplate=f"{name}<br>width %{{x:,}}<br>%{{customdata:.3s}} tokens<br>loss %{{y:.4f}}<extra></extra>",
        )
    if len(curves) and fit.has_best_path:
        best = fit.frontier(np.unique(curves["compute"]))
        here = best[best["measured"] & best["width"].notna()]
        ends = here[["width_low", "width_high"]].clip(curves["width"].min(), curves["width"].max())
        fig.add_scatter(
            x=here["width"],
            y=here["loss"],
            mode="markers",
            name="best width",
            **where,
            marker={"color": GREY, "symbol": "star", "size": 13},
            customdata=here[["width_low", "width_high"]],
            error_x={
                "type": "data",
                "array": ends["width_high"] - here["width"],
                "color": GREY,
                "thickness": 1.3,
                "arrayminus": here["width"] - ends["width_low"],
            },
            hovertemplate="best width %{x:,.0f} [%{customdata[0]:,.0f}, %{customdata[1]:,.0f}]<extra></extra>",
        )
        runs = fit.minima()
        runs = runs[runs["measured"].notna()]
        tokens = runs["compute"] / training_flop(runs["measured"].to_numpy(), 1.0, fit.d_in)
        fig.add_scatter(
            x=runs["measured"],
            y=fit.loss(width=runs["measured"], n_tokens=tokens),
            mode="markers",
            name="best of the runs",
            marker={"color": GREY, "symbol": "star-open", "size": 13},
            **where,
            hovertemplate="best width of the runs alone, by a parabola: %{x:,.0f}<extra></extra>",
        )
    _by_width(fig, fit.runs, where)


def _frontier(fig: go.Figure, fit: ComputeFit, where: Place) -> None:
    """Every run by its compute, and the least loss that the law has for a compute, with its band."""
    compute = fit.compute
    fig.add_scatter(
        x=compute,
        y=fit.runs["loss"],
        mode="markers",
        name="runs",
        marker={"color": faded(GREY, 0.8), "size": 7},
        customdata=fit.runs[["width", "n_tokens"]],
        **where,
        hovertemplate="width %{customdata[0]:,}, %{customdata[1]:.3s} tokens<br>%{x:.2e} FLOP<br>loss %{y:.4f}"
        "<extra></extra>",
    )
    if fit.has_best_path:
        law = fit.frontier(np.geomspace(compute.min(), compute.max(), N_POINTS))
        low, high = (
            law[n].clip(0.5 * fit.runs["loss"].min(), 2 * fit.runs["loss"].max()) for n in ("loss_low", "loss_high")
        )
        known = low.notna() & high.notna()
        fig.add_trace(band(law["compute"][known], low[known], high[known], ORANGE, "best"), **where)
        for dash, inside in (("dot", law["loss"] > 0), ("solid", law["measured"] & law["loss"].notna())):
            fig.add_scatter(
                x=law["compute"],
                y=law["loss"].where(inside),
                mode="lines",
                name="best",
                **where,
                line={"color": ORANGE, "width": 2, "dash": dash},
                customdata=law[["width", "n_tokens"]],
                hovertemplate="best for %{x:.2e} FLOP: loss %{y:.4f}<br>width %{customdata[0]:,.0f}, "
                "%{customdata[1]:.3s} tokens<extra></extra>",
            )
    else:
        axis = "2" if where["row"] == 1 else "4"
        note(
            fig,
            "loss does not fall with width, or not with tokens",
            xref=f"x{axis} domain",
            yref=f"y{axis} domain",
            y=1,
        )
    fig.update_xaxes(
        title_text="compute (FLOP)", type="log", exponentformat="power", dtick=1, tickfont={"size": 12}, **where
    )
    fig.update_yaxes(title_text=LOSS, **where)


def _by_width(fig: go.Figure, runs: pd.DataFrame, where: Place) -> None:
    widths = sorted(runs["width"].unique())
    ticks = widths[:: -(-len(widths) // 6)]
    fig.update_xaxes(
        title_text="width (features)", type="log", tickvals=ticks, ticktext=[f"{w:,g}" for w in ticks], **where
    )
    fig.update_yaxes(title_text=LOSS, **where)


def _reason(fig: go.Figure, error: DataError, axis: str) -> None:
    note(fig, f"no law: {error.got}", xref=f"x{axis} domain", yref=f"y{axis} domain", y=0.98)


def _name(sparsity: float | None) -> str:
    return "loss" if sparsity is None else f"k {sparsity:g}"
