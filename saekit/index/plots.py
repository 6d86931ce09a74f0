"""Figures of an index: how strongly one feature fires, and how often all do."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from ..plotting.density import add_density
from ..plotting.style import ORANGE, faded, figure, note, percent

if TYPE_CHECKING:
    from . import FeatureIndex, FeatureRecord


def activation_histogram(record: FeatureRecord) -> go.Figure:
    """How often a feature fires at each strength, on a log scale; stronger activations in stronger orange.

    >>> from saekit.index.plots import activation_histogram
    >>> index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)
    >>> record = index.feature(3)
    >>> int(activation_histogram(record).data[0].y.sum()) == record.stats["n_firings"]
    True
    """
    s, counts, edges = record.stats, np.asarray(record.histogram.counts), np.asarray(record.histogram.edges)
    subtitle = (
        "never fires on this corpus"
        if record.silent
        else (f"{s['n_firings']:,} firings on {percent(s['density'])} of tokens, in {s['n_documents']:,} documents")
    )
    fig = figure(f"Feature {record.feature}", subtitle)
    fig.update_layout(xaxis_title="activation", yaxis_title="firings (log scale)")
    if record.silent:
        note(fig, "no activations to show")
        return fig
    low, high = edges[:-1], edges[1:]
    strength = (low + high) / 2 / edges[-1]
    fig.add_bar(
        x=(low + high) / 2,
        y=counts,
        width=(high - low) * 0.92,
        customdata=np.stack([low, high], axis=1),
        marker={"color": [faded(ORANGE, 0.35 + 0.65 * float(v)) for v in strength], "line": {"width": 0}},
        hovertemplate="%{customdata[0]:.2f} to %{customdata[1]:.2f}<br>%{y:,} firings<extra></extra>",
    )
    fig.update_yaxes(type="log", range=[math.log10(0.6), math.log10(max(counts.max(), 1) * 1.6)], dtick=1)
    fig.update_xaxes(range=[0, float(edges[-1]) * 1.01])
    return fig


def density_histogram(index: FeatureIndex) -> go.Figure:
    """How many features fire on which fraction of the tokens, on a log scale; silent ones are counted in the subtitle.

    >>> from saekit.index.plots import density_histogram
    >>> index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)
    >>> int(density_histogram(index).data[0].y.sum()) == int((~index.features.silent).sum())
    True
    """
    density = index.features["density"].to_numpy(dtype=float)
    n_silent = int((density == 0).sum())
    fig = figure(
        f"Density of {len(density):,} features",
        f"{n_silent:,} silent ({n_silent / len(density):.1%}) on {index.n_tokens:,} tokens of {index.corpus_name}",
    )
    add_density(fig, density)
    return fig
