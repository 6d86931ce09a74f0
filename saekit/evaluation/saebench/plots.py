"""Figures of what features are good for: probing, perturbation, absorption, ablation effects, compute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from ...plotting.figures import subplots
from ...plotting.style import BLUE, GREY, ORANGE, band, faded, figure, literal, note

if TYPE_CHECKING:
    from . import (
        AblationSparsity,
        Absorption,
        ComputeFraction,
        ProbePerturbation,
        ScoreComparison,
        SparseProbing,
        SpuriousRemoval,
    )

PROBES = {
    "SAE features": (ORANGE, "solid", 2.5),
    "random SAE's features": (GREY, "solid", 1.8),
    "dimensions of x": (BLUE, "solid", 1.8),
    "all of x": (BLUE, "dash", 1.6),
    "majority class": (GREY, "dot", 1.6),
}


def plot_sparse_probing(result: SparseProbing) -> go.Figure:
    """Balanced accuracy and AUROC by k, with intervals, beside the baselines.

    >>> from saekit.evaluation.saebench.plots import plot_sparse_probing
    >>> result = sk.sparse_probing(model, sae, corpus, label="topic", ks=(1, 2), length=16,
    ...                            progress=False)
    >>> plot_sparse_probing(result).data[1].name
    'SAE features'
    """
    fig = subplots(cols=2, horizontal_spacing=0.12)
    told = _told(result.headline())
    subtitle = f"mean over {len(result.classes)} classes, {result.n_test:,} held-out documents; {told}"
    figure(f"Sparse probing of “{result.label}”", subtitle, height=420, fig=fig)
    fig.update_layout(legend={"y": -0.2, "yanchor": "top"}, margin={"b": 100})
    k, table = list(result.ks), result.summary
    ends = [k[0] * 0.9, k[-1] * 1.1]
    x: list[float]
    for col, (metric, title) in enumerate({"balanced_accuracy": "balanced accuracy", "auroc": "AUROC"}.items(), 1):
        for name, (colour, dash, width) in PROBES.items():
            rows = table[table["probe"] == name]
            flat = bool(rows["k"].isna().all())
            value, low, high = (rows[metric + end].to_numpy() for end in ("", "_low", "_high"))
            if flat:
                x, value, low, high = ends, *(np.repeat(v, 2) for v in (value, low, high))
            else:
                x = [float(v) for v in k]
            if name == "SAE features" and np.isfinite(low).all():
                fig.add_trace(band(x, low, high, colour, name), 1, col)
            fig.add_scatter(
                x=x,
                y=value,
                mode="lines" if flat else "lines+markers",
                name=name,
                legendgroup=name,
                row=1,
                col=col,
                line={"color": colour, "dash": dash, "width": width},
                showlegend=col == 1,
                customdata=np.stack([low, high], axis=1),
                hovertemplate=f"{name}<br>{title} %{{y:.3f}} [%{{customdata[0]:.3f}}, %{{customdata[1]:.3f}}]"
                "<extra></extra>",
            )
        fig.update_xaxes(title_text="features used (k)", type="log", tickvals=k, ticktext=k, col=col)
        fig.update_yaxes(title_text=title, col=col)
    return fig


def plot_probe_perturbation(result: ProbePerturbation) -> go.Figure:
    """The score by number of ablated features, and what each probe lost when each class's features were ablated.

    >>> from saekit.evaluation.saebench.plots import plot_probe_perturbation
    >>> result = sk.targeted_probe_perturbation(model, sae, corpus, label="topic", ns=(1, 4), length=16,
    ...                                         progress=False)
    >>> plot_probe_perturbation(result).data[-1].type
    'heatmap'
    """
    fig = subplots(cols=2, horizontal_spacing=0.2, column_widths=[0.5, 0.5])
    best = int(result.table["score"].to_numpy().argmax())
    n = result.ns[best]
    told = _told(result.headline(n))
    subtitle = f"own drop less the others' drop of balanced accuracy; on the right {n} features ablated; {told}"
    figure(f"Targeted probe perturbation of “{result.label}”", subtitle, height=440, fig=fig)
    fig.update_layout(legend={"y": -0.2, "yanchor": "top"}, margin={"b": 100})
    _by_n(fig, result.table, "score", "score")
    names = [literal(c) for c in result.classes]
    limit = max(float(np.abs(result.drop[best]).max()), 1e-6)
    fig.add_heatmap(
        x=names,
        y=names,
        z=result.drop[best],
        zmin=-limit,
        zmax=limit,
        row=1,
        col=2,
        colorscale=[[0, BLUE], [0.5, "rgba(128,128,128,0.06)"], [1, ORANGE]],
        colorbar={"title": {"text": "drop"}, "outlinewidth": 0, "thickness": 12},
        hovertemplate="features of %{y} ablated<br>the probe of %{x} loses %{z:.3f}<extra></extra>",
    )
    fig.update_xaxes(title_text="probe", type="category", col=2)
    fig.update_yaxes(title_text="features ablated", type="category", autorange="reversed", col=2)
    return fig


def plot_spurious_removal(result: SpuriousRemoval) -> go.Figure:
    """Accuracy for the wanted label by number of ablated features, between the biased probe and the oracle, and the
    score.

    >>> from saekit.evaluation.saebench.plots import plot_spurious_removal
    >>> texts = [{"text": t, "a": a, "b": b} for t in ("cat", "mat", "fog", "red") for a in "xy" for b in "uv"]
    >>> result = sk.spurious_correlation_removal(model, sae, sk.load_corpus(texts), wanted="a", spurious="b",
    ...                                          ns=(1, 2), length=16, progress=False)
    >>> plot_spurious_removal(result).layout.yaxis2.title.text
    'score'
    """
    fig = subplots(cols=2, horizontal_spacing=0.14)
    subtitle = f"wanted {result.wanted}, spurious {result.spurious}; {_told(result.headline())}"
    figure("Spurious correlation removal", subtitle, height=420, fig=fig)
    fig.update_layout(legend={"y": -0.2, "yanchor": "top"}, margin={"b": 100})
    ends = [result.ns[0] * 0.9, result.ns[-1] * 1.1]
    for name, value, dash in (
        ("oracle", result.accuracy_oracle, "dash"),
        ("biased probe", result.accuracy_biased, "dot"),
    ):
        fig.add_scatter(
            x=ends,
            y=[value, value],
            mode="lines",
            name=name,
            row=1,
            col=1,
            line={"color": BLUE if name == "oracle" else GREY, "dash": dash, "width": 1.6},
            hovertemplate=f"{name}: accuracy %{{y:.3f}}<extra></extra>",
        )
    _by_n(fig, result.table, "accuracy", "accuracy for the wanted label")
    _by_n(fig, result.table, "score", "score", col=2, show=False)
    for note_ in result.notes:
        note(fig, note_, xref="x2 domain", yref="y2 domain")
    return fig


def plot_absorption(result: Absorption) -> go.Figure:
    """The fraction of words absorbed by first letter, and the F1 of the letters' probes; grey letters are not scored.

    >>> from saekit.evaluation.saebench.plots import plot_absorption
    >>> words = [a + b for a in "cd" for b in "aeiou" for _ in range(4)]
    >>> plot_absorption(sk.feature_absorption(model, sae, words=words, progress=False)).data[0].x
    ('c', 'd')
    """
    fig = subplots(rows=2, shared_xaxes=True, vertical_spacing=0.09, row_heights=[0.55, 0.45])
    subtitle = (
        f"absorbed {result.rate:.1%}, mean over {len(result.scored)} letters; {_told(result.headline())}"
        if result.able
        else "the model is not able: no letter's probe reaches the bar"
    )
    figure("Feature absorption by first letters", subtitle, height=460, fig=fig)
    table = result.table
    letters = [literal(v) for v in table.index]
    up, down = table["rate_high"] - table["rate"], table["rate"] - table["rate_low"]
    custom = table[["n_absorbed", "n_right"]].astype("float").fillna(0).to_numpy()
    fig.add_bar(
        x=letters,
        y=table["rate"],
        row=1,
        col=1,
        marker={"color": ORANGE, "line": {"width": 0}},
        showlegend=False,
        error_y={"type": "data", "array": up, "arrayminus": down, "color": GREY, "thickness": 1.3, "width": 3},
        customdata=custom,
        hovertemplate="%{x}: %{customdata[0]} of %{customdata[1]} words absorbed<extra></extra>",
    )
    colours = [ORANGE if r == "" else faded(GREY, 0.6) for r in table["reason"]]
    fig.add_bar(
        x=letters,
        y=table["probe_f1"],
        row=2,
        col=1,
        marker={"color": colours, "line": {"width": 0}},
        showlegend=False,
        customdata=table["reason"].where(table["reason"] != "", "scored").map(literal),
        hovertemplate="%{x}: probe F1 %{y:.3f}<br>%{customdata}<extra></extra>",
    )
    fig.update_yaxes(title_text="words absorbed", tickformat=".0%", rangemode="tozero", row=1)
    fig.update_yaxes(title_text="F1 of the probe", range=[0, 1.02], row=2)
    fig.update_xaxes(type="category")
    fig.update_xaxes(title_text="first letter", row=2)
    return fig


def plot_ablation_sparsity(result: AblationSparsity) -> go.Figure:
    """How many ablations have effects of which sparsity: features, and random directions of the same length.

    >>> from saekit.evaluation.saebench.plots import plot_ablation_sparsity
    >>> result = sk.ablation_sparsity(model, sae, corpus, n_tokens=2, n_features=2, n_following=4, length=32,
    ...                               n_reseeds=0, progress=False)
    >>> int(sum(plot_ablation_sparsity(result).data[1].y))
    4
    """
    v, r = result.sparsity.value, result.random.value
    subtitle = f"mean {v:.3f} for features, {r:.3f} for random directions; {_told(result.headline())}"
    fig = figure("Sparsity of the effects of single features", subtitle, height=380)
    values = {"random directions": result.table["random"].dropna(), "features": result.table["sparsity"].dropna()}
    edges = np.linspace(0, max(max(x.max() for x in values.values()) * 1.02, 1e-6), 31)
    for name, colour in (("random directions", faded(GREY, 0.7)), ("features", faded(ORANGE, 0.75))):
        counts, _ = np.histogram(values[name], bins=edges)
        fig.add_bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=counts,
            width=np.diff(edges) * 0.95,
            name=name,
            marker={"color": colour, "line": {"width": 0}},
            hovertemplate=f"{name}: %{{y}} ablations at %{{x:.3f}}<extra></extra>",
        )
    fig.update_layout(
        barmode="overlay", xaxis_title="(L1 / L2)² / (V T): fraction of logits affected", yaxis_title="ablations"
    )
    return fig


def plot_compute_fraction(result: ComputeFraction) -> go.Figure:
    """The reference's loss by compute, with where the model stands as it is and on the SAE.

    >>> from saekit.evaluation.saebench.plots import plot_compute_fraction
    >>> reference = {"compute": [1e18, 1e19, 1e20, 1e21], "loss": [4.3, 3.6, 3.2, 2.97]}
    >>> plot_compute_fraction(sk.compute_fraction((3.0, 3.3), reference)).layout.xaxis.type
    'log'
    """
    s = result
    bounds = "" if np.isnan(s.low) else f" [{s.low:.1%}, {s.high:.1%}], {len(s.reference)} reference rows,"
    fig = figure("Loss as a fraction of compute", f"with the SAE {s.fraction:.1%}{bounds} of the compute is left")
    measured = s.reference["compute"].to_numpy()
    ends = [min(measured.min(), s.compute_sae), max(measured.max(), s.compute_clean)]
    grid = np.geomspace(ends[0], ends[1], 80)
    fig.add_scatter(
        x=grid,
        y=s.curve(grid),
        mode="lines",
        name="reference curve",
        line={"color": GREY, "width": 1.8},
        hovertemplate="%{x:.3g}: loss %{y:.3f}<extra></extra>",
    )
    fig.add_scatter(
        x=measured,
        y=s.reference["loss"],
        mode="markers",
        name="plain models",
        marker={"color": GREY, "size": 8},
        hovertemplate="%{x:.3g}: loss %{y:.3f}<extra></extra>",
    )
    for name, c, loss, colour in (
        ("the model as it is", s.compute_clean, s.ce_clean, BLUE),
        ("with the SAE", s.compute_sae, s.ce_sae, ORANGE),
    ):
        fig.add_scatter(
            x=[c],
            y=[loss],
            mode="markers",
            name=name,
            marker={"color": colour, "size": 12},
            hovertemplate=f"{name}<br>loss %{{y:.3f}} at %{{x:.3g}}<extra></extra>",
        )
    fig.update_xaxes(title_text=f"compute ({literal(s.unit)})", type="log")
    fig.update_yaxes(title_text="cross-entropy (nats per token)")
    return fig


def _by_n(fig: go.Figure, table: pd.DataFrame, column: str, title: str, *, col: int = 1, show: bool = True) -> None:
    """One column of a table by number of ablated features, with its interval, and the random SAE's score."""
    n = table["n"].to_numpy()
    low, high = table[f"{column}_low"], table[f"{column}_high"]
    if np.isfinite(low).all():
        fig.add_trace(band(n, low, high, ORANGE, "SAE"), 1, col)
    lines: list[tuple[str, Any, str]] = [("SAE", table[column], ORANGE)]
    if column == "score":
        lines.append(("random SAE", table["random_score"], GREY))
    for name, values, colour in lines:
        fig.add_scatter(
            x=n,
            y=values,
            mode="lines+markers",
            name=name,
            legendgroup=name,
            row=1,
            col=col,
            showlegend=show or name == "random SAE",
            line={"color": colour, "width": 2.2},
            hovertemplate=f"{name}: %{{x}} features ablated, {column} %{{y:.3f}}<extra></extra>",
        )
    fig.update_xaxes(title_text="features ablated", type="log", tickvals=n, ticktext=n, col=col)
    fig.update_yaxes(title_text=title, col=col)


def plot_score_comparison(comparison: ScoreComparison) -> go.Figure:
    """The score of each SAE with its interval, best first, and which cannot be told apart.

    >>> from saekit.evaluation.saebench.plots import plot_score_comparison
    >>> saes = [sae, sk.SAE(sae.config)]
    >>> results = sk.sparse_probing(model, saes, corpus, label="topic", ks=(1,), length=16, progress=False)
    >>> len(plot_score_comparison(sk.compare_scores(results)).data[0].y)
    2
    """
    f = comparison.frame
    ties = [", ".join(map(literal, names)) or "none" for names in f["cannot_tell_apart"]]
    n_ties = sum(bool(len(names)) for names in f["cannot_tell_apart"])
    subtitle = f"{n_ties} of {len(f)} cannot be told apart from another" if n_ties else "all are told apart"
    fig = figure(literal(comparison.what), subtitle, height=140 + 40 * len(f))
    fig.add_scatter(
        x=f["value"],
        y=[literal(name) for name in f.index],
        mode="markers",
        marker={"color": ORANGE, "size": 9},
        error_x={
            "type": "data",
            "array": f["high"] - f["value"],
            "arrayminus": f["value"] - f["low"],
            "color": GREY,
            "thickness": 1.3,
        },
        customdata=np.array([f["smallest_difference"].map("{:.3f}".format), ties], dtype=object).T,
        hovertemplate="%{y}: %{x:.3f}<br>smallest difference it can tell %{customdata[0]}"
        "<br>cannot tell apart from: %{customdata[1]}<extra></extra>",
    )
    fig.update_xaxes(title_text=literal(comparison.what))
    return fig


def _told(known: dict[str, Any]) -> str:
    """The smallest difference that a score can tell, in words."""
    smallest = known["smallest_difference"]
    return "no smallest difference known" if np.isnan(smallest) else f"tells differences above {smallest:.3f}"
