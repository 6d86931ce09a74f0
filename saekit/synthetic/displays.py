"""The HTML displays of known features and of how much of them an SAE recovers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..display import Block, Intervals, Words, details, document, facts, frame_table, note, number, shown, table

if TYPE_CHECKING:
    from .recovery_result import Recovery
    from .truth import GroundTruth, SyntheticBatch

MAIN = {
    "mean_max_cosine": "largest cosine, mean",
    "matched_cosine": "cosine of pairs",
    "matched_correlation": "correlation of pairs",
    "f1": "F1",
    "precision": "precision",
    "recall": "recall",
    "uniqueness": "uniqueness",
    "distinct": "distinct",
    "explained_variance": "explained variance",
}
"""Metrics of which 1 is the best there is."""
SIZES = {
    "shrinkage": "shrinkage, 1 is none",
    "magnitude_ratio": "magnitude ratio",
    "magnitude_slope": "magnitude slope",
    "norm_ratio": "norm ratio",
    "micro_f1": "F1 over firings",
    "mean_max_cosine_weighted": "largest cosine, weighted by firing rate",
}


@shown
def recovery_html(r: Recovery) -> str:
    """The metrics on one axis, sizes, and the parts of the structure where there are any."""
    n_fired = int((r.features["n_fired"] > 0).sum())
    nan = (math.nan, math.nan)
    ends = [r.intervals.get(name, nan) for name in MAIN]
    values = Intervals(
        "", [getattr(r, n) for n in MAIN], low=[e[0] for e in ends], high=[e[1] for e in ends], axis=(0.0, 1.0)
    )
    counts = {
        "features active per token": f"{number(r.l0)} of {number(r.true_l0)} true",
        "silent": f"{r.silent:,} of {r.d_sae:,}",
    }
    return document(
        "Recovery",
        f"{len(r.features):,} true features by {r.d_sae:,} of an SAE, {r.n_tokens:,} tokens, paired by {r.match}",
        table([Words("1 is best", list(MAIN.values())), values]),
        note(f"95 %, jackknife over {len(r.features):,} true features, of F1 over the {n_fired:,} that fired."),
        facts(counts | {title: getattr(r, name) for name, title in SIZES.items()}),
        _absorption(r),
        details("By true feature", frame_table(r.features, names="feature", all_at=".features has all")),
    )


def _absorption(r: Recovery) -> Block | None:
    if math.isnan(r.absorption):
        return None
    line = facts({"absorption": r.absorption, "missed alone": r.missed_alone})
    return Block((line or "") + (frame_table(r.parts, names="part") or ""))


@shown
def truth_html(t: GroundTruth) -> str:
    """How many features, how often they fire, and how they depend on each other."""
    low, high = (float(v) for v in t.firing_rate.aminmax())
    roots = int((t.parent < 0).sum())
    tree = {} if roots == t.n_features else {"trees": roots, "children": t.n_features - roots}
    groups = {"groups that fire together": t.group_rate.numel()} if t.group_rate.numel() else {}
    return document(
        f"Known features, {t.name}",
        f"{t.n_features:,} in {t.d_in:,} dimensions, {number(t.n_active)} fire per token",
        facts(
            {"firing rates": f"{number(low)} to {number(high)}", "magnitude": t.magnitude, "noise": t.noise}
            | tree
            | groups
        ),
    )


@shown
def batch_html(b: SyntheticBatch) -> str:
    """Shapes."""
    n = b.acts.value.numel()
    per_token = n / max(1, b.acts.n_tokens)
    return document("Synthetic batch", "", facts({"x": tuple(b.x.shape), "features that fire, per token": per_token}))
