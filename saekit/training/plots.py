"""Figure of training metrics over the tokens seen, for one run or several."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from ..errors import DataError
from ..plotting.figures import subplots
from ..plotting.style import BLUE, DASHES, GREY, ORANGE, figure, literal

PANELS = {
    "loss": "loss",
    "explained_variance": "explained variance",
    "l0": "active features per token",
    "dead_features": "dead features",
}
"""What training curves show, of the columns that are there, and how it reads."""


def training_curves(history: pd.DataFrame | Mapping[str, pd.DataFrame]) -> go.Figure:
    """Loss, explained variance, L0 and dead features by tokens seen; one history, or several by name.

    >>> import pandas as pd
    >>> from saekit.training.plots import training_curves
    >>> history = pd.DataFrame({"n_tokens": [100, 200], "loss": [2.0, 1.0]})
    >>> training_curves(history).data[0].y.tolist()
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
    fig = subplots(rows=rows, cols=2, horizontal_spacing=0.1, vertical_spacing=0.2, subplot_titles=titles)
    figure("Training", _last(runs), height=130 + 200 * rows, fig=fig)
    fig.update_layout(margin={"t": 110}, legend={"y": 1.1})
    for k, title in enumerate(fig.layout.annotations):
        panel = fig.get_subplot(k // 2 + 1, k % 2 + 1)
        title.update(x=panel.xaxis.domain[0], xanchor="left", font={"size": 13})
    many = len(runs) > 1
    for n, (name, frame) in enumerate(runs.items()):
        tokens = frame.get("n_tokens", frame.index)
        name = literal(name)
        label = f"{name}<br>" if many else ""
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
    """The last metrics of a single run, as a sentence."""
    frame = next(iter(runs.values()))
    if len(runs) > 1 or not len(frame):
        return ""
    last = frame.iloc[-1]
    parts = [f"{PANELS[c]} {last[c]:.3g}" for c in ("explained_variance", "l0", "dead_features") if c in frame]
    return f"at the end: {', '.join(parts)}"
