"""Plots of a steering study: concept rate and fluency by strength."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd
import plotly.graph_objects as go

from ..plotting.figures import subplots
from ..plotting.style import BLUE, GREY, ORANGE, band, figure, literal
from .fluency import MAX_NLL_INCREASE
from .strength_units import unit_name

if TYPE_CHECKING:
    from . import SteeringStudy


def plot_dose_response(study: SteeringStudy) -> go.Figure:
    """How often the concept appears and what it costs in fluency, by strength; feature, controls and unsteered.

    >>> from saekit.steering.plots import plot_dose_response
    >>> concept = sk.Concept.keywords(["gate"])
    >>> study = sk.dose_response(model, sae, 3, ["the cat"], concept, [0.5], controls=1, max_new_tokens=3,
    ...                          progress=False)
    >>> plot_dose_response(study).layout.xaxis2.title.text
    'strength (× the residual norm)'
    """
    summary, unit = study.summary, unit_name(study.unit, "×")
    fig = subplots(rows=2, shared_xaxes=True, vertical_spacing=0.07, row_heights=[0.55, 0.45])
    best = study.recommended
    advice = "no fluent strength beats the unsteered rate" if best is None else f"recommended strength {best:g} {unit}"
    figure(f"Steering with feature {study.called} for “{study.concept}”", _subtitle(study, advice), height=520, fig=fig)
    fig.update_layout(margin={"t": 112})
    flat = (("none", "unsteered", GREY, "dot"), ("instruction", "instruction", BLUE, "dash"))
    ends = [min(study.strengths), max(study.strengths)]
    pad = 0.04 * ((ends[1] - ends[0]) or 1)
    for row, name, form, of in ((1, "rate", ".0%", "of texts"), (2, "nll", ".2f", "nats per token")):
        what = f"%{{y:{form}}} {of}"
        for condition, label, colour, dash in flat:
            here = summary[summary["condition"] == condition]
            if len(here):
                value = float(here[name].iloc[0])
                fig.add_scatter(
                    x=[ends[0] - pad, ends[1] + pad],
                    y=[value, value],
                    mode="lines",
                    name=label,
                    legendgroup=label,
                    line={"color": colour, "width": 1.6, "dash": dash},
                    showlegend=row == 1,
                    row=row,
                    col=1,
                    hovertemplate=f"{label}: {what}<extra></extra>",
                )
        for condition, label, colour in _swept(study):
            here = summary[summary["condition"] == condition].sort_values("strength")
            if not len(here):
                continue
            known = here[here[f"{name}_low"].notna()]
            if len(known):
                bounds = known[f"{name}_low"], known[f"{name}_high"]
                fig.add_trace(band(known["strength"], *bounds, colour, label), row, 1)
            custom = here.assign(interval=[_interval(r, name, form) for r in here.to_dict("records")])
            fig.add_scatter(
                x=here["strength"],
                y=here[name],
                mode="lines+markers",
                name=label,
                legendgroup=label,
                row=row,
                col=1,
                line={"color": colour, "width": 2.5 if colour == ORANGE else 1.8},
                marker={"size": 7},
                showlegend=row == 1,
                customdata=custom[["interval", "repetition", "n_texts"]].to_numpy(),
                hovertemplate=f"{label} at %{{x:g}} {unit}<br>{what} %{{customdata[0]}}<br>"
                "repetition %{customdata[1]:.2f}, %{customdata[2]} texts<extra></extra>",
            )
    if best is not None:
        fig.add_vline(x=best, line={"color": ORANGE, "width": 1.2, "dash": "dot"})
    fig.update_yaxes(title_text="texts with the concept", tickformat=".0%", range=[-0.03, 1.05], row=1)
    fig.update_yaxes(title_text="neg. log-likelihood<br>(nats per token)", row=2)
    fig.update_xaxes(range=[ends[0] - pad, ends[1] + pad])
    fig.update_xaxes(title_text=f"strength ({unit})", row=2)
    return fig


def plot_steering_pareto(study: SteeringStudy) -> go.Figure:
    """How often the concept appears against what it costs in fluency, a point for each condition and strength.

    Up and to the left is better. The dotted line is the highest nll that a recommended strength may have.

    >>> from saekit.steering.plots import plot_steering_pareto
    >>> concept = sk.Concept.keywords(["gate"])
    >>> study = sk.dose_response(model, sae, 3, ["the cat"], concept, [0.5], controls=1, max_new_tokens=3,
    ...                          progress=False)
    >>> plot_steering_pareto(study).layout.yaxis.title.text
    'texts with the concept'
    """
    summary, unit = study.summary, unit_name(study.unit, "×")
    best = study.recommended
    advice = "no fluent strength beats the unsteered rate" if best is None else f"ringed: recommended, {best:g} {unit}"
    fig = figure(f"What “{study.concept}” costs: feature {study.called}", _subtitle(study, advice), height=480)
    fig.update_layout(margin={"t": 112})  # the legend is below the advice
    for condition, label, colour, symbol in (
        ("none", "unsteered", GREY, "x"),
        ("instruction", "instruction", BLUE, "diamond"),
    ):
        here = summary[summary["condition"] == condition]
        if len(here):
            fig.add_scatter(
                x=here["nll"],
                y=here["rate"],
                mode="markers",
                name=label,
                error_x=_bar(here, "nll"),
                error_y=_bar(here, "rate"),
                marker={"color": colour, "symbol": symbol, "size": 11},
                hovertemplate=f"{label}<br>%{{y:.0%}} of texts, %{{x:.2f}} nats per token<extra></extra>",
            )
    for condition, label, colour in _swept(study):
        here = summary[summary["condition"] == condition].sort_values("strength")
        if not len(here):
            continue
        ringed = [condition == "feature" and s == best for s in here["strength"]]
        fig.add_scatter(
            x=here["nll"],
            y=here["rate"],
            mode="lines+markers+text",
            name=label,
            textposition="top center",
            text=[f"{s:g}" for s in here["strength"]],
            textfont={"size": 11, "color": colour},
            line={"color": colour, "width": 1.6},
            error_x=_bar(here, "nll"),
            error_y=_bar(here, "rate"),
            marker={
                "size": [13 if r else 8 for r in ringed],
                "color": colour,
                "line": {"width": [3 if r else 0 for r in ringed], "color": BLUE},
            },
            customdata=here[["repetition", "n_texts"]].to_numpy(),
            hovertemplate=f"{label} at %{{text}} {unit}<br>%{{y:.0%}} of texts, %{{x:.2f}} nats per token<br>"
            "repetition %{customdata[0]:.2f}, %{customdata[1]} texts<extra></extra>",
        )
    limit = float(summary.loc[summary["condition"] == "none", "nll"].iloc[0]) + MAX_NLL_INCREASE
    fig.add_vline(x=limit, line={"color": GREY, "width": 1.2, "dash": "dot"})
    fig.update_yaxes(title_text="texts with the concept", tickformat=".0%", range=[-0.03, 1.09])
    fig.update_xaxes(title_text="neg. log-likelihood (nats per token)")
    return fig


def _swept(study: SteeringStudy) -> list[tuple[str, str, str]]:
    """The conditions that vary with strength: condition, label and colour."""
    found = [("control", f"{len(study.controls)} control feature{'s' * (len(study.controls) != 1)}", GREY)]
    if study.direction is not None:
        found.append(("direction", literal(study.direction), BLUE))
    several = f" and {len(study.weights) - 1} more" if len(study.weights) > 1 else ""
    return [*found, ("feature", f"feature {literal(study.called)}{several}", ORANGE)]


def _subtitle(study: SteeringStudy, advice: str) -> str:
    """The advice, and what the intervals count."""
    counted = study.summary.drop_duplicates("unit")
    units = " and ".join(f"{n} {unit}" for n, unit in zip(counted["n_units"], counted["unit"], strict=True))
    return f"{advice}; 95 % intervals over {units}" if counted["rate_low"].notna().any() else advice


def _interval(row: dict[Any, Any], name: str, form: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    counted = f"{row['n_units']} {row['unit']}"
    return f"({counted}: no interval)" if math.isnan(low) else f"[{low:{form}}, {high:{form}}], {counted}"


def _bar(rows: pd.DataFrame, name: str) -> dict[str, Any]:
    return {
        "array": rows[f"{name}_high"] - rows[name],
        "arrayminus": rows[name] - rows[f"{name}_low"],
        "thickness": 0.8,
        "width": 0,
    }
