"""The HTML displays of scaling studies, the laws fitted to them, and the choice they lead to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..display import (
    Block,
    Intervals,
    Words,
    details,
    document,
    facts,
    frame_table,
    note,
    number,
    percent,
    shown,
    table,
)

if TYPE_CHECKING:
    from ..statistics import Estimate
    from .compute import BestChoice
    from .fits import ScalingFit
    from .study import ScalingStudy


@shown
def study_html(study: ScalingStudy) -> str:
    """The grid, and the runs with the least loss."""
    f = study.frame
    grid = {name: sorted(f[name].unique().tolist()) for name in ("width", "sparsity", "n_tokens")}
    repeated = study.n_unique is not None and f["n_tokens"].max() > study.n_unique
    again = f"There are {study.n_unique:,} distinct tokens: longer runs see them again." if repeated else ""
    return document(
        "Scaling study",
        f"{len(f)} runs, {study.activation}, d_in {study.d_in:,}",
        facts(
            {
                "widths": grid["width"],
                "sparsities": grid["sparsity"],
                "tokens": grid["n_tokens"],
                "loss, 1 - explained variance": f"{number(f['loss'].min())} to {number(f['loss'].max())}",
                "measured on": study.measured_on,
            }
        ),
        note(again, warn=True) if again else None,
        frame_table(
            f.sort_values("loss"),
            index=False,
            bars=("loss",),
            titles={"n_tokens": "tokens", "n_steps": "steps", "compute": "FLOP", "dead_fraction": "dead"},
            percents=("dead_fraction",),
        ),
        note("By loss, least first. fit_lnk() and fit_compute() fit the laws, plot() draws them."),
    )


@shown
def fit_html(fit: ScalingFit) -> str:
    """The law, its parameters with intervals, and how far runs lie from it."""
    p = fit.parameters
    worst = float(fit.runs["residual"].abs().max())
    return document(
        "Scaling law",
        f"{len(fit.runs)} runs{', ' * bool(fit.about)}{fit.about}",
        facts({"law": fit.form.formula}),
        table(
            [
                Words("parameter", list(p.index)),
                Intervals(
                    "value",
                    list(p["value"]),
                    low=list(p["low"]),
                    high=list(p["high"]),
                    reasons=[str(r) for r in p["reason"]],
                    picture=False,
                ),
            ]
        ),
        facts(
            {
                "residuals": f"{percent(fit.rms_residual)} of the loss, at most {percent(worst)}",
                "R² of log loss": f"{fit.r_squared:.4f}",
            }
        ),
        note(f"95 % profile likelihood intervals, {fit.profile.df} degrees of freedom."),
        details("Runs", frame_table(fit.runs, index=False, all_at=".runs has all")),
    )


@shown
def best_html(best: BestChoice) -> str:
    """Width, tokens, steps and loss with their intervals."""
    rows = {"width": best.width, "tokens": best.n_tokens, "steps": best.n_steps, "loss": best.loss}
    return document(
        "Best choice",
        f"with {best.compute:.3g} FLOP",
        _estimates(rows),
        note("Outside what was measured: the law is extrapolated.", warn=True) if best.extrapolated else None,
    )


def _estimates(rows: Mapping[str, Estimate]) -> Block | None:
    found = list(rows.values())
    values = Intervals(
        "",
        [_whole(e.value) for e in found],
        low=[_whole(e.low) for e in found],
        high=[_whole(e.high) for e in found],
        reasons=[e.reason for e in found],
        picture=False,
        by_row=True,
    )
    return table([Words("", list(rows)), values])


def _whole(value: float) -> float:
    """Widths, tokens and steps are whole numbers; losses are below 10."""
    return round(value) if math.isfinite(value) and abs(value) >= 10 else value
