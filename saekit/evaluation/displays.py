"""The HTML displays of an evaluation and of SAEs side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..display import (
    Block,
    Intervals,
    Words,
    details,
    document,
    frame_table,
    note,
    number,
    percent,
    sentence,
    shown,
    table,
    words,
)

if TYPE_CHECKING:
    from .comparison import Comparison
    from .result import Evaluation

METRICS = {
    "explained_variance": "explained variance",
    "ce_loss_recovered": "loss recovered",
    "ce_loss_recovered_everywhere": "loss recovered, SAE at every position",
    "l0": "L0, features per token",
    "kl": "KL divergence, nats",
}
"""Fractions of which 1 is the best there is, then the others."""
TITLES = {
    "l0": "L0",
    "explained_variance": "explained variance",
    "mse": "MSE",
    "ce": "cross-entropy, nats",
    "ce_loss_recovered": "loss recovered",
    "kl": "KL, nats",
    "k": "k",
    "d_sae": "features",
    "n_tokens": "trained on, tokens",
    "silent_fraction": "silent",
    "dead_fraction": "dead",
    "target_l0": "target L0",
    "ce_loss_recovered_everywhere": "recovered, all positions",
}


@shown
def evaluation_html(e: Evaluation) -> str:
    """What the SAE keeps and loses with intervals, beside its baselines."""
    d_sae, dead = len(e.density), e.n_dead_in_training
    in_training = "" if dead is None else f"; dead at the end of training: {dead:,} ({percent(dead / d_sae)})"
    about = f"on {e.n_tokens:,} tokens in {e.n_sequences:,} windows, {number(e.seconds, 2)} s"
    return document(
        "Evaluation",
        about,
        _estimates(e),
        note(f"Intervals: 95 %, jackknife over {e.n_units:,} {e.interval_unit}."),
        words(
            f"Silent on these tokens: {e.n_silent:,} of {d_sae:,} features ({percent(e.n_silent / d_sae)}){in_training}"
        ),
        details(
            "Beside its baselines",
            frame_table(e.to_frame(), names="in the place of x", titles=TITLES),
            note("A dash stands where a metric is not defined or was not measured."),
        ),
        details(f"Left out by the token filter: {e.excluded.n_excluded:,} tokens", note(sentence(str(e.excluded)))),
    )


def _estimates(e: Evaluation) -> Block | None:
    """The fractions on one axis, and below them what has units of its own."""
    names = [name for name in METRICS if name in e.estimates]
    found = [e.estimates[name] for name in names]
    values = Intervals(
        "",
        [f.value for f in found],
        low=[f.low for f in found],
        high=[f.high for f in found],
        reasons=[f.reason for f in found],
        axis=(0.0, 1.0),
        n_drawn=sum(name not in ("l0", "kl") for name in names),
        by_row=True,
    )
    return table([Words("", [METRICS[name] for name in names]), values])


@shown
def comparison_html(comparison: Comparison) -> str:
    """One row for each SAE: what differs between them, and what was measured."""
    frame = comparison.to_frame()
    same = {c: frame[c].iloc[0] for c in ("hook", "measured_on", "d_sae", "n_tokens") if frame[c].nunique() == 1}
    phrases = {"hook": "at {}", "d_sae": "{:,} features", "n_tokens": "trained on {:,} tokens"}
    about = [phrases[c].format(v) for c, v in same.items() if c in phrases]
    hidden = ["architecture", "n_units", "unit", *same]
    return document(
        f"{len(frame)} SAE{'s' * (len(frame) != 1)}",
        ", ".join(about),
        frame_table(
            frame,
            names="SAE",
            titles=TITLES,
            hide=hidden,
            pictures=("explained_variance",),
            percents=("silent_fraction", "dead_fraction"),
        ),
        note(f"{sentence(comparison.note)}."),
    )
