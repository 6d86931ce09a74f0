"""Figure of what an SAE has recovered of known features: how well by how often they fire, and how strongly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from ..plotting.figures import subplots
from ..plotting.style import BLUE, GREY, ORANGE, faded, figure, note

if TYPE_CHECKING:
    from . import Recovery


def plot_recovery(recovery: Recovery) -> go.Figure:
    """Best cosine of each true feature by its firing rate, and activations against true magnitudes.

    >>> from saekit.synthetic.plots import plot_recovery
    >>> truth = sk.synthetic.independent(d_model=16, n_features=64, n_active=3)
    >>> found = sk.recovery(sk.SAE(sk.SAEConfig(d_in=16, d_sae=64, k=3)), truth, n_tokens=500)
    >>> len(plot_recovery(found).data[0].x)
    64
    """
    r, f = recovery, recovery.features
    bounds = {name: f" [{low:.3f}, {high:.3f}]" for name, (low, high) in r.intervals.items()}
    subtitle = (
        f"mean maximum cosine {r.mean_max_cosine:.3f}{bounds.get('mean_max_cosine', '')}, "
        f"F1 {r.f1:.3f}{bounds.get('f1', '')}, uniqueness {r.uniqueness:.2f}, shrinkage {r.shrinkage:.3f}"
    )
    fig = subplots(cols=2, horizontal_spacing=0.12)
    figure(f"Recovery of {len(f):,} known features", subtitle, height=420, fig=fig)
    fig.update_layout(margin={"t": 104})
    child = f["parent"].to_numpy() >= 0
    trees = bool(child.any())
    for part, name, colour in ((~child, "roots" if trees else "features", ORANGE), (child, "children", BLUE)):
        if part.any():
            here = f[part]
            fig.add_scatter(
                x=here["firing_rate"],
                y=here["best_cosine"],
                mode="markers",
                name=name,
                showlegend=trees,
                row=1,
                col=1,
                marker={"size": 5, "color": faded(colour, 0.6)},
                customdata=here.index,
                hovertemplate="true feature %{customdata}<br>fires on %{x:.3~g} of tokens<br>"
                "best cosine %{y:.3f}<extra></extra>",
            )
    fig.update_xaxes(title_text="firing rate", type="log", row=1, col=1)
    fig.update_yaxes(title_text="best cosine of a decoder row", range=[min(0.0, f["best_cosine"].min()), 1.04], col=1)
    _strength(fig, r)
    return fig


def _strength(fig: go.Figure, r: Recovery) -> None:
    """Activation of the paired feature against the true magnitude, with the line where they are equal."""
    where = {"row": 1, "col": 2}
    points = r.firings
    fig.update_xaxes(title_text="true magnitude", rangemode="tozero", **where)
    fig.update_yaxes(title_text="activation × decoder norm", rangemode="tozero", **where)
    if not len(points):
        note(fig, "no true feature fired", xref="x2 domain", yref="y2 domain")
        return
    silent = float((points["activation"] == 0).mean())
    end = float(points["magnitude"].max())
    fig.add_scatter(
        x=[0.0, end],
        y=[0.0, end],
        mode="lines",
        name="equal",
        showlegend=False,
        hoverinfo="skip",
        line={"color": GREY, "width": 1.6, "dash": "dot"},
        **where,
    )
    fig.add_scatter(
        x=np.round(points["magnitude"], 3),
        y=np.round(points["activation"], 3),
        mode="markers",
        name="firings",
        marker={"size": 4, "color": faded(ORANGE, 0.35)},
        showlegend=False,
        customdata=points["true_feature"],
        hovertemplate="true feature %{customdata}<br>magnitude %{x:.2f}<br>activation %{y:.2f}<extra></extra>",
        **where,
    )
    fig.add_annotation(
        text=f"silent on {silent:.0%} of true firings",
        showarrow=False,
        xref="x2 domain",
        yref="paper",
        x=0,
        y=1.01,
        xanchor="left",
        yanchor="bottom",
    )
