"""Figures of an evaluation, and of several SAEs by sparsity and fidelity."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd
import plotly.graph_objects as go

from ..plotting.density import add_density
from ..plotting.figures import subplots
from ..plotting.style import DASHES, GREY, ORANGE, PALETTE, SYMBOLS, faded, figure, literal, note
from .pareto import HELD_OUT, MEASURES, TRAINING, pareto_optimal

if TYPE_CHECKING:
    from . import Evaluation
    from .comparison import Comparison


def plot_pareto(comparison: Comparison, y: str) -> go.Figure:
    """How faithful each SAE is by how sparse it is. See Comparison.plot.

    >>> from saekit.evaluation.plots import plot_pareto
    >>> evaluation = sk.evaluate(model, sae, corpus.take(4), length=32, progress=False)
    >>> plot_pareto(sk.compare([sae], [evaluation]), "ce_loss_recovered").layout.yaxis.title.text
    'cross-entropy loss recovered (held-out text)'
    """
    frame = comparison.frame.assign(hook=comparison.frame["hook"].fillna("")).rename_axis("sae").reset_index()
    shown = frame[(frame["l0"] > 0) & frame[y].notna()].reset_index(drop=True)
    kinds = [kind for kind in (HELD_OUT, TRAINING) if (shown["measured_on"] == kind).any()]
    hooks, architectures = list(dict.fromkeys(shown["hook"])), list(dict.fromkeys(frame["architecture"]))
    fig = figure(f"{MEASURES[y].capitalize()} by sparsity", comparison.note, height=460)
    fig.update_layout(margin={"t": 112})
    fig.update_yaxes(title_text=f"{MEASURES[y]} ({kinds[0] if len(kinds) == 1 else 'see the legend'})")
    fig.update_xaxes(title_text="active features per token, L0 (log scale)", type="log")
    if not len(shown):
        note(fig, f"No SAE has a positive L0 and {MEASURES[y]}.")
        return fig
    for n, architecture in enumerate(architectures):
        for hook in hooks:
            for kind in kinds:
                here = shown[(shown["hook"] == hook) & (shown["measured_on"] == kind)]
                here = here[here["architecture"] == architecture]
                if len(here):
                    colour, symbol = PALETTE[n % 6], SYMBOLS[n % 6]
                    open_ = "-open" if len(kinds) > 1 and kind == TRAINING else ""
                    parts = [architecture, *([hook] if len(hooks) > 1 else []), *([kind] if len(kinds) > 1 else [])]
                    dash = DASHES[hooks.index(hook) % len(DASHES)]
                    _frontier(
                        fig, here, y, literal(", ".join(parts)), {"color": colour, "symbol": symbol + open_}, dash
                    )
    if len(hooks) > 1 or len(kinds) > 1:  # long names: below the picture
        n = sum(bool(trace.showlegend is not False) for trace in fig.data)
        fig.update_layout(legend={"y": -0.2, "yanchor": "top"}, margin={"t": 80}, height=460 + 24 * n)
        fig.update_layout(margin={"b": 80 + 24 * n}, legend={"orientation": "v"})
    low, high = float(shown["l0"].min()) / 1.4, float(shown["l0"].max()) * 1.4
    few, many = (
        [m * 10.0**e for e in range(-3, 7) for m in steps if low <= m * 10.0**e <= high]
        for steps in ((1, 2, 5), (1, 1.2, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9))
    )
    ticks = few if len(few) > 2 else many
    fig.update_xaxes(tickvals=ticks, ticktext=[f"{t:,g}" for t in ticks])
    left_out = len(frame) - len(shown)
    if left_out:
        fig.update_layout(
            title={"subtitle": {"text": f"{literal(comparison.note)}; {left_out} without a place left out"}}
        )
    return fig


def _frontier(fig: go.Figure, here: pd.DataFrame, y: str, name: str, marker: dict[str, Any], dash: str) -> None:
    """The SAEs of one architecture, and a line through those that no other of them beats."""
    best = here[pareto_optimal(here, ["architecture"], y)].sort_values("l0")
    colour = marker["color"]
    if len(best) > 1:
        fig.add_scatter(
            x=best["l0"],
            y=best[y],
            mode="lines",
            line={"color": colour, "width": 2, "dash": dash},
            hoverinfo="skip",
            name=name,
            legendgroup=name,
            showlegend=False,
        )
    errors = {}
    for axis, column in (("error_x", "l0"), ("error_y", y)):
        if f"{column}_low" in here and here[f"{column}_low"].notna().any():
            errors[axis] = {
                "type": "data",
                "array": here[f"{column}_high"] - here[column],
                "color": colour,
                "thickness": 1.3,
                "arrayminus": here[column] - here[f"{column}_low"],
                "width": 3,
            }
    fig.add_scatter(
        x=here["l0"],
        y=here[y],
        mode="markers",
        marker={**marker, "size": 10},
        name=name,
        legendgroup=name,
        customdata=[[literal(str(sae)), f"{d:,}"] for sae, d in zip(here["sae"], here["d_sae"], strict=True)],
        **errors,
        hovertemplate=f"%{{customdata[0]}}<br>L0 %{{x:.4~g}}, {MEASURES[y]} %{{y:.4f}}<br>"
        f"%{{customdata[1]}} features, {here['measured_on'].iloc[0]}<extra></extra>",
    )


def plot_evaluation(evaluation: Evaluation) -> go.Figure:
    """The model's loss with and without the SAE, and the densities of its features.

    >>> from saekit.evaluation.plots import plot_evaluation
    >>> plot_evaluation(sk.evaluate(model, sae, corpus.take(4), length=32, progress=False)).data[0].x
    ('clean', 'with SAE', 'SAE everywhere', 'zeros')
    """
    e = evaluation

    def bounds(name: str) -> str:
        low, high = e.intervals[name]
        return "" if math.isnan(low) else f" [{low:.3f}, {high:.3f}]"

    fig = subplots(cols=2, column_widths=[0.38, 0.62], horizontal_spacing=0.13)
    subtitle = (
        f"explained variance {e.explained_variance:.3f}{bounds('explained_variance')}, "
        f"loss recovered {e.ce_loss_recovered:.3f}{bounds('ce_loss_recovered')}; {e.n_units:,} {e.interval_unit}"
    )
    figure("Evaluation", subtitle, height=420, fig=fig)
    fig.update_layout(margin={"t": 104})
    names = ["clean", "with SAE", "SAE everywhere", "zeros"]
    values = [e.ce_clean, e.ce_sae, e.ce_sae_everywhere, e.ce_zero]
    meaning = [
        "the model as it is",
        "the reconstruction in place of the activations, sinks and special tokens left as they are",
        "the reconstruction at every position",
        "zeros at every position",
    ]
    fig.add_bar(
        x=names,
        y=values,
        text=[f"{v:.2f}" for v in values],
        textposition="outside",
        cliponaxis=False,
        row=1,
        col=1,
        marker={"color": [GREY, ORANGE, faded(ORANGE, 0.5), faded(GREY, 0.5)], "line": {"width": 0}},
        customdata=meaning,
        showlegend=False,
        width=0.62,
        hovertemplate="%{customdata}<br>%{y:.3f} nats per token<extra></extra>",
    )
    dead = "" if e.n_dead_in_training is None else f" ({e.n_dead_in_training:,} dead in training)"
    fig.update_yaxes(title_text="cross-entropy (nats per token)", range=[0, 1.12 * max(values)], row=1, col=1)
    add_density(fig, e.density, row=1, col=2)
    fig.add_annotation(
        text=f"{e.l0:.1f} active per token, {e.n_silent:,} of {len(e.density):,} silent on this text{dead}",
        showarrow=False,
        xref="x2 domain",
        yref="paper",
        x=0,
        y=1.01,
        xanchor="left",
        yanchor="bottom",
    )
    return fig
