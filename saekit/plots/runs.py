"""Figures of what was run: training curves, several SAEs compared, an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..errors import DataError
from ..evaluation.comparison import HELD_OUT, MEASURES, TRAINING, check_measure, pareto_optimal
from .features import add_density
from .style import BLUE, GREY, ORANGE, faded, figure, note

if TYPE_CHECKING:
    from ..evaluation import Evaluation
    from ..evaluation.comparison import Comparison

PANELS = {
    "loss": "loss",
    "explained_variance": "explained variance",
    "l0": "active features per token",
    "dead_features": "dead features",
}
"""What training curves show, of the columns that are there, and how it reads."""
DASHES = ("solid", "dash", "dot", "dashdot")
RULE_COLOURS = (ORANGE, BLUE, GREY, "#C2479B", "#0B8F6A", "#7B61D6")
"""One for each rule, contrast at least 3.3 to white and 4.0 to #111; SYMBOLS say the same without colour."""
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star")


def training_curves(history: pd.DataFrame | Mapping[str, pd.DataFrame]) -> go.Figure:
    """Loss, explained variance, L0 and dead features by tokens seen; one history, or several by name.

    >>> import pandas as pd
    >>> from saekit import plots
    >>> history = pd.DataFrame({"n_tokens": [100, 200], "loss": [2.0, 1.0]})
    >>> plots.training_curves(history).data[0].y.tolist()
    [2.0, 1.0]
    """
    runs = {"": history} if isinstance(history, pd.DataFrame) else dict(history)
    columns = [c for c in PANELS if any(c in frame for frame in runs.values())]
    if not columns:
        raise DataError(
            "no training metrics to draw",
            got=[list(f) for f in runs.values()],
            accepted=", ".join(PANELS),
            fix="pass sae.history of an SAE that sk.train returned",
        )
    titles = [PANELS[c] for c in columns]
    rows = (len(columns) + 1) // 2
    fig = make_subplots(rows=rows, cols=2, horizontal_spacing=0.1, vertical_spacing=0.2, subplot_titles=titles)
    figure("Training", _last(runs), height=130 + 200 * rows, fig=fig)
    fig.update_layout(margin={"t": 110}, legend={"y": 1.1})
    for k, title in enumerate(fig.layout.annotations):
        panel = fig.get_subplot(k // 2 + 1, k % 2 + 1)
        title.update(x=panel.xaxis.domain[0], xanchor="left", font={"size": 13})
    many = len(runs) > 1
    for n, (name, frame) in enumerate(runs.items()):
        tokens = frame.get("n_tokens", frame.index)
        label = f"{escape(name)}<br>" if many else ""
        colour, dash = (ORANGE, BLUE, GREY)[n % 3], DASHES[n // 3 % len(DASHES)]
        for k, column in enumerate(columns):
            if column in frame:
                fig.add_scatter(
                    x=tokens,
                    y=frame[column],
                    mode="lines",
                    name=name,
                    legendgroup=name,
                    showlegend=many and k == 0,
                    line={"color": colour, "width": 2, "dash": dash},
                    row=k // 2 + 1,
                    col=k % 2 + 1,
                    hovertemplate=f"{label}%{{x:.4s}} tokens<br>{PANELS[column]} %{{y:.4~g}}<extra></extra>",
                )
    for k, column in enumerate(columns):
        if column in ("l0", "dead_features"):
            fig.update_yaxes(rangemode="tozero", row=k // 2 + 1, col=k % 2 + 1)
    seen = "tokens seen" if all("n_tokens" in f for f in runs.values()) else "steps"
    fig.update_xaxes(title_text=seen, row=rows)
    fig.update_xaxes(tickformat="~s")
    return fig


def _last(runs: Mapping[str, pd.DataFrame]) -> str:
    """The last figures of a single run, as a sentence."""
    frame = next(iter(runs.values()))
    if len(runs) > 1 or not len(frame):
        return ""
    last = frame.iloc[-1]
    parts = [f"{PANELS[c]} {last[c]:.3g}" for c in ("explained_variance", "l0", "dead_features") if c in frame]
    return f"at the end: {', '.join(parts)}"


def pareto(comparison: Comparison, y: str | None = None) -> go.Figure:
    """How faithful each SAE is by how sparse it is. See Comparison.plot.

    >>> from saekit import plots
    >>> evaluation = sk.evaluate(model, sae, corpus.take(4), length=32, progress=False)
    >>> plots.pareto(sk.compare([sae], [evaluation])).layout.yaxis.title.text
    'cross-entropy loss recovered (held-out text)'
    """
    y = check_measure(comparison, y)
    frame = comparison.frame.assign(hook=comparison.frame["hook"].fillna("")).rename_axis("sae").reset_index()
    shown = frame[(frame["l0"] > 0) & frame[y].notna()].reset_index(drop=True)
    kinds = [kind for kind in (HELD_OUT, TRAINING) if (shown["measured_on"] == kind).any()]
    hooks, rules = list(dict.fromkeys(shown["hook"])), list(dict.fromkeys(frame["rule"]))
    fig = figure(f"{MEASURES[y].capitalize()} by sparsity", comparison.note, height=460)
    fig.update_layout(margin={"t": 112})
    fig.update_yaxes(title_text=f"{MEASURES[y]} ({kinds[0] if len(kinds) == 1 else 'see the legend'})")
    fig.update_xaxes(title_text="active features per token, L0 (log scale)", type="log")
    if not len(shown):
        note(fig, f"No SAE has a positive L0 and {MEASURES[y]}.")
        return fig
    for rule in rules:
        for hook in hooks:
            for kind in kinds:
                here = shown[(shown["rule"] == rule) & (shown["hook"] == hook) & (shown["measured_on"] == kind)]
                if len(here):
                    colour, symbol = RULE_COLOURS[rules.index(rule) % 6], SYMBOLS[rules.index(rule) % 6]
                    open_ = "-open" if len(kinds) > 1 and kind == TRAINING else ""
                    parts = [rule, *([hook] if len(hooks) > 1 else []), *([kind] if len(kinds) > 1 else [])]
                    dash = DASHES[hooks.index(hook) % len(DASHES)]
                    _frontier(fig, here, y, escape(", ".join(parts)), {"color": colour, "symbol": symbol + open_}, dash)
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
            title={"subtitle": {"text": f"{escape(comparison.note)}; {left_out} without a place left out"}}
        )
    return fig


def _frontier(fig: go.Figure, here: pd.DataFrame, y: str, name: str, marker: dict[str, Any], dash: str) -> None:
    """The SAEs of one rule, and a line through those that no other of them beats."""
    best = here[pareto_optimal(here, ["rule"], y)].sort_values("l0")
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
        customdata=[[escape(str(sae)), f"{d:,}"] for sae, d in zip(here["sae"], here["d_sae"], strict=True)],
        **errors,
        hovertemplate=f"%{{customdata[0]}}<br>L0 %{{x:.4~g}}, {MEASURES[y]} %{{y:.4f}}<br>"
        f"%{{customdata[1]}} features, {here['measured_on'].iloc[0]}<extra></extra>",
    )


def evaluation(evaluation: Evaluation) -> go.Figure:
    """The model's loss with and without the SAE, and the densities of its features.

    >>> from saekit import plots
    >>> plots.evaluation(sk.evaluate(model, sae, corpus.take(4), length=32, progress=False)).data[0].x
    ('clean', 'with SAE', 'zeros')
    """
    e = evaluation

    def bounds(name: str) -> str:
        return f" [{e.intervals[name][0]:.3f}, {e.intervals[name][1]:.3f}]" if name in e.intervals else ""

    fig = make_subplots(cols=2, column_widths=[0.38, 0.62], horizontal_spacing=0.13)
    subtitle = (
        f"explained variance {e.explained_variance:.3f}{bounds('explained_variance')}, "
        f"loss recovered {e.ce_loss_recovered:.3f}{bounds('ce_loss_recovered')}"
    )
    figure("Evaluation", subtitle, height=420, fig=fig)
    fig.update_layout(margin={"t": 104})
    names = ["clean", "with SAE", "zeros"]
    values = [e.ce_clean, e.ce_sae, e.ce_zero]
    meaning = ["the model as it is", "the reconstruction in place of the activations", "zeros in their place"]
    fig.add_bar(
        x=names,
        y=values,
        text=[f"{v:.2f}" for v in values],
        textposition="outside",
        cliponaxis=False,
        row=1,
        col=1,
        marker={"color": [GREY, ORANGE, faded(GREY, 0.5)], "line": {"width": 0}},
        customdata=meaning,
        showlegend=False,
        width=0.62,
        hovertemplate="%{customdata}<br>%{y:.3f} nats per token<extra></extra>",
    )
    fig.update_yaxes(title_text="cross-entropy (nats per token)", range=[0, 1.12 * max(values)], row=1, col=1)
    add_density(fig, e.density, row=1, col=2)
    fig.add_annotation(
        text=f"{e.l0:.1f} active per token, {e.n_dead:,} of {len(e.density):,} dead",
        showarrow=False,
        xref="x2 domain",
        yref="paper",
        x=0,
        y=1.01,
        xanchor="left",
        yanchor="bottom",
    )
    return fig
