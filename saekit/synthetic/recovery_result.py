"""What `sk.recovery` returns: every metric with its definition, as text, tables and a picture. Computes only means.

Sources: Sharkey et al. 2022, "Taking features out of superposition with sparse autoencoders" (mean maximum cosine);
SynthSAEBench (Chanin et al. 2026) for firing metrics, uniqueness and the ratio of norms, which there are taken over
the SAE's features and here over the true ones, except uniqueness; Chanin et al. 2024, arXiv:2409.14507 (absorption);
Rajamanoharan et al. 2024, arXiv:2404.16014 (reconstruction bias).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from ..statistics import Interval
from .displays import recovery_html

if TYPE_CHECKING:
    import plotly.graph_objects as go

MEANS = {
    "mean_max_cosine": "best_cosine",
    "matched_cosine": "cosine",
    "matched_correlation": "correlation",
    "precision": "precision",
    "recall": "recall",
    "f1": "f1",
    "magnitude_ratio": "magnitude_ratio",
}
"""Metrics that are means of a column of `features` over true features, where the column is defined."""


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """How well an SAE has recovered known features. Prints as a table, by part of the structure where there is one."""

    mean_max_cosine: float
    """Mean over true features of the largest cosine, with its sign, of any decoder row to the feature's direction."""
    mean_max_cosine_weighted: float
    """The same with each true feature weighted by its firing rate."""
    matched_cosine: float
    """Mean cosine over pairs, with its sign."""
    matched_correlation: float
    """Mean over pairs of Pearson's correlation of the two activations over all tokens, zeros included."""
    precision: float
    """Mean over true features that fired: fraction of the paired feature's firings on which the true one fired; 0 for a
    paired feature that is silent."""
    recall: float
    """Mean over true features that fired: fraction of the true feature's firings on which the paired one fired."""
    f1: float
    """Mean over true features that fired of the harmonic mean of precision and recall."""
    micro_precision: float
    """Firings that both of a pair share, as a fraction of the firings of all paired SAE features."""
    micro_recall: float
    """The same as a fraction of all true firings."""
    micro_f1: float
    """Harmonic mean of the two."""
    uniqueness: float
    """Number of true features that are some SAE feature's nearest by cosine, divided by d_sae (SynthSAEBench): below 1
    where SAE features repeat each other, and always below 1 for more SAE features than true ones."""
    distinct: float
    """Number of SAE features that are some true feature's nearest by cosine, divided by the number of true features."""
    magnitude_ratio: float
    """Mean over pairs of (sum of the SAE's activations times its decoder row's norm) / (sum of true magnitudes) over
    the tokens on which both fire. Noise that lifts an activation over its threshold lifts this ratio too: in
    superposition the true dictionary itself is above 1. `shrinkage` does not choose tokens."""
    magnitude_slope: float
    """Slope through the origin of the least squares fit of activation times norm on true magnitude, all pairs
    together, over the tokens on which both fire."""
    shrinkage: float
    """sum ||x_hat||^2 / sum x . x_hat, the relative reconstruction bias of Rajamanoharan et al. 2024 (Gated SAEs,
    arXiv:2404.16014): 1 / the factor by which x_hat would best be multiplied. 1: none; below 1: shrunken."""
    norm_ratio: float
    """Mean of ||x_hat|| / ||x|| over tokens with ||x|| > 1e-6: SynthSAEBench's shrinkage."""
    silent: int
    """SAE features that never fire on these tokens."""
    l0: float
    """Mean number of SAE features that fire on a token."""
    true_l0: float
    """Mean number of true features that fire on a token."""
    explained_variance: float
    """1 - sum ||x - x_hat||^2 / sum ||x - mean(x)||^2."""
    absorption: float
    """Of the (token, parent) pairs on which a true feature and one of its children fire: fraction on which the SAE
    feature paired with the parent is silent. NaN without children. Chanin et al. 2024 ask whether a feature for "begins
    with S" is silent on words that have a feature of their own; here both truths are known."""
    missed_alone: float
    """The same fraction where a feature that has children fires without them: what absorption is to be compared
    with."""
    features: pd.DataFrame
    """One row per true feature: firing_rate, n_fired, best_cosine, best_feature, sae_feature (the pair; -1: none),
    cosine, correlation, precision, recall, f1, magnitude_ratio, parent, depth, absorption, missed_alone."""
    firings: pd.DataFrame
    """Some firings of true features drawn at random: true_feature, magnitude, activation (of the pair, times its
    decoder norm; 0 where it is silent)."""
    intervals: dict[str, Interval]
    """95 % jackknife t intervals of mean_max_cosine (over all true features) and f1 (over those that fired); without
    one below five, and where all agree exactly."""
    match: str
    """What the pairs are chosen by."""
    n_tokens: int
    d_sae: int

    @property
    def parts(self) -> pd.DataFrame:
        """The means over all true features and, where there are trees, over parents and over children; a feature in
        the middle of a tree is both."""
        f = self.features
        child = f["parent"] >= 0
        rows = {"all": f}
        if child.any():
            rows |= {"parents": f[f.index.isin(f.loc[child, "parent"])], "children": f[child]}
        columns = {name: [mean(part[column]) for part in rows.values()] for name, column in MEANS.items()}
        frame = pd.DataFrame({"n": [len(p) for p in rows.values()], **columns}, index=list(rows))
        if child.any():
            frame["absorption"] = [self.absorption, self.absorption, float("nan")]
        return frame

    def to_frame(self) -> pd.DataFrame:
        """One row with every metric; `features` has them by true feature and `parts` by part of the structure."""
        skip = {"features", "firings", "intervals", "match"}
        row = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in skip}
        return pd.DataFrame([row])

    def plot(self) -> go.Figure:
        """Best cosine by firing rate, and activation against true magnitude, as a plotly figure."""
        from .plots import plot_recovery

        return plot_recovery(self)

    def __repr__(self) -> str:
        bounds = {name: f"  [{low:.3f}, {high:.3f}]" for name, (low, high) in self.intervals.items()}
        lines = [
            f"Recovery of {len(self.features):,} true features by {self.d_sae:,} of an SAE, {self.n_tokens:,} tokens, "
            f"paired by {self.match}"
        ]
        for name in (
            "mean_max_cosine",
            "mean_max_cosine_weighted",
            "matched_cosine",
            "matched_correlation",
            "f1",
            "precision",
            "recall",
            "uniqueness",
            "distinct",
            "shrinkage",
            "magnitude_ratio",
            "explained_variance",
        ):
            lines.append(f"  {name:<25} {getattr(self, name):.3f}{bounds.get(name, '')}")
        lines.append(f"  {'l0':<25} {self.l0:.2f} of {self.true_l0:.2f} true")
        lines.append(f"  {'silent':<25} {self.silent:,} of {self.d_sae:,}")
        if not math.isnan(self.absorption):
            lines.append(f"  {'absorption':<25} {self.absorption:.3f}, missed alone {self.missed_alone:.3f}")
            lines += ["  " + line for line in self.parts.to_string(float_format=lambda v: f"{v:.3f}").split("\n")]
        n_fired = int((self.features["n_fired"] > 0).sum())
        lines.append(f"  brackets: 95 % over {len(self.features):,} true features, f1 over the {n_fired:,} that fired")
        return "\n".join(lines)

    __str__ = __repr__
    _repr_html_ = recovery_html


def mean(values: pd.Series) -> float:
    return float(values.mean()) if values.notna().any() else float("nan")
