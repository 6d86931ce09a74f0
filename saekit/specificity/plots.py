"""Figure of how specific a feature is: precision against recall, and by activation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from ..plotting.figures import subplots
from ..plotting.style import GREY, ORANGE, band, faded, figure, literal, note, percent

if TYPE_CHECKING:
    from . import SpecificityResult


def plot_specificity(result: SpecificityResult) -> go.Figure:
    """Precision against recall, and the fraction on the concept in each activation bin, with matched features.

    >>> from saekit.specificity.plots import plot_specificity
    >>> index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)
    >>> result = sk.specificity(index, 3, sk.Concept.regex("bridge"), n_permutations=0, n_controls=2)
    >>> plot_specificity(result).layout.xaxis2.title.text
    'activation'
    """
    fig = subplots(cols=2, column_widths=[0.52, 0.48], horizontal_spacing=0.11)
    figure(f"Feature {result.called} for “{result.concept.name}”", result.summary, height=420, fig=fig)
    fig.update_layout(legend={"y": -0.2, "yanchor": "top"}, margin={"b": 92})
    fig.update_xaxes(title_text=f"recall: fraction of the concept's {result.unit}s", range=[-0.02, 1.02], col=1)
    fig.update_yaxes(title_text="precision", range=[-0.02, 1.05], tickformat=".0%", col=1)
    fig.update_xaxes(tickformat=".0%", col=1)
    fig.update_xaxes(title_text="activation", col=2)
    fig.update_yaxes(title_text="fraction on the concept", range=[-0.02, 1.05], tickformat=".0%", col=2)
    if not result.n_firings:
        note(fig, "the feature never fires", xref="paper", yref="paper")
        return fig
    _precision_recall(fig, result)
    _by_bin(fig, result)
    return fig


def _precision_recall(fig: go.Figure, result: SpecificityResult) -> None:
    curve, base = result.curve, float(result.base_rate)
    for n, (feature, control) in enumerate(result.control_curves.groupby("feature", sort=False)):
        fig.add_scatter(
            x=control["recall"],
            y=control["precision"],
            mode="lines",
            line={"color": faded(GREY, 0.7), "width": 1.2},
            name="matched features",
            legendgroup="controls",
            showlegend=n == 0,
            row=1,
            col=1,
            hovertemplate=f"matched feature {feature}<br>precision %{{y:.1%}}, recall %{{x:.1%}}<extra></extra>",
        )
    fig.add_scatter(
        x=[0, 1],
        y=[base, base],
        mode="lines",
        line={"color": GREY, "width": 1.2, "dash": "dot"},
        row=1,
        col=1,
        name="base rate",
        hovertemplate=f"base rate {percent(base)}<extra></extra>",
    )
    known = curve.dropna(subset=["precision_low", "precision_high"])
    if len(known):
        fig.add_trace(band(known["recall"], known["precision_low"], known["precision_high"], ORANGE, "interval"), 1, 1)
    fig.add_scatter(
        x=curve["recall"],
        y=curve["precision"],
        mode="lines",
        line={"color": ORANGE, "width": 2.5},
        row=1,
        col=1,
        name=f"feature {literal(result.called)}"
        + (f", {result.level:.0%} interval over documents" if len(known) else ""),
        customdata=curve[["threshold", "n_firings", "n_documents"]].to_numpy(),
        hovertemplate="activation ≥ %{customdata[0]:.2f}: %{customdata[1]:,} firings "
        "in %{customdata[2]:,} documents<br>"
        "precision %{y:.1%}, recall %{x:.1%}<extra></extra>",
    )
    last = curve.iloc[[-1]]
    fig.add_scatter(
        x=last["recall"],
        y=last["precision"],
        mode="markers",
        marker={"color": ORANGE, "size": 9},
        showlegend=False,
        row=1,
        col=1,
        name="wherever it fires",
        hovertemplate="wherever it fires<br>precision %{y:.1%}, recall %{x:.1%}<extra></extra>",
    )


def _by_bin(fig: go.Figure, result: SpecificityResult) -> None:
    table = result.bins
    middle, width = (table["low"] + table["high"]) / 2, float(table["high"].iloc[0])
    custom = table[["low", "high", "n_firings", "n_matches", "n_documents"]].to_numpy()
    up, down = table["fraction_high"] - table["fraction"], table["fraction"] - table["fraction_low"]
    errors: dict[str, Any] = {
        "type": "data",
        "array": up,
        "arrayminus": down,
        "color": GREY,
        "thickness": 1.3,
        "width": 3,
    }
    fig.add_bar(
        x=middle,
        y=table["fraction"],
        width=width * 0.9,
        customdata=custom,
        showlegend=False,
        row=1,
        col=2,
        error_y=errors,
        marker={"color": [faded(ORANGE, 0.4 + 0.06 * n) for n in range(len(table))], "line": {"width": 0}},
        hovertemplate="activation %{customdata[0]:.2f} to %{customdata[1]:.2f}<br>%{customdata[3]:,} of "
        "%{customdata[2]:,} firings on the concept (%{y:.1%})<br>in %{customdata[4]:,} documents<extra></extra>",
    )
    if len(result.controls):
        ends = np.stack([middle - 0.45 * width, middle + 0.45 * width, np.full(len(table), np.nan)], axis=1)
        fig.add_scatter(
            x=ends.reshape(-1),
            y=np.repeat(table["controls_fraction"], 3),
            mode="lines",
            row=1,
            col=2,
            showlegend=False,
            line={"color": GREY, "width": 2.5},
            name="matched features",
            legendgroup="controls",
            hovertemplate="matched features, same tenth of their range: %{y:.1%}<extra></extra>",
        )
    empty = table[table["n_firings"] == 0]
    fig.add_scatter(
        x=middle[empty.index],
        y=np.zeros(len(empty)),
        mode="text",
        text=["no firing"] * len(empty),
        row=1,
        col=2,
        textposition="top center",
        textfont={"size": 9},
        hoverinfo="skip",
        showlegend=False,
    )
    fig.update_xaxes(range=[0, float(table["high"].iloc[-1]) * 1.01], col=2)
