"""Histogram of feature densities, for a figure or one of its panels."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from .style import ORANGE, note, percent

if TYPE_CHECKING:
    pass


N_DENSITY_BINS = 40


def add_density(fig: go.Figure, density: np.ndarray, row: int | None = None, col: int | None = None) -> None:
    """Adds the histogram of the densities above zero to a figure or to one of its panels."""
    alive = np.log10(density[density > 0])
    axes = {"row": row, "col": col} if row is not None else {}
    fig.update_xaxes(title_text="density (fraction of tokens, log scale)", **axes)
    fig.update_yaxes(title_text="features", rangemode="tozero", **axes)
    if not len(alive):
        note(fig, "every feature is silent on this text")
        return
    first, last = math.floor(alive.min() * 2) / 2, min(math.ceil(alive.max() * 2) / 2, 0.0)
    counts, edges = np.histogram(alive, bins=N_DENSITY_BINS, range=(first, max(last, first + 0.5)))
    labels = [f"{percent(10**a)} to {percent(10**b)}" for a, b in pairwise(edges)]
    fig.add_trace(
        go.Bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=counts,
            width=np.diff(edges) * 0.92,
            customdata=labels,
            showlegend=False,
            marker={"color": ORANGE, "line": {"width": 0}},
            hovertemplate="fires on %{customdata} of tokens<br>%{y:,} features<extra></extra>",
        ),
        **axes,
    )
    ticks = np.arange(math.ceil(first), math.floor(edges[-1]) + 1)
    fig.update_xaxes(tickvals=ticks, ticktext=[percent(10.0**t) for t in ticks], **axes)
