"""A feature beside control features: how often each makes the concept appear, and how rare such a feature is.

Features are what is counted. Where a control has fewer texts than the feature, its rate is noisier than the feature's,
and a plain rank would call any feature rare that shows the concept at all. The feature's rate is therefore taken for
one of its texts at a time: under the hypothesis that the feature was drawn like the controls, a text of its own and
one of each control are exchangeable, so that y (n + 1) / (y + sum of the controls' rates) has mean 1 (y is 1 for a text
with the concept), and so has its mean over the feature's texts. One divided by that is a p value by Markov's
inequality. Sources: Vovk and Wang, E-values, Annals of Statistics 49 (2021); Wang and Ramdas, False discovery rate
control with e-values, JRSS B 84 (2022), for the soft rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..errors import DataError
from ..statistics import Estimate
from .displays import control_comparison_html
from .strength_units import StrengthUnit, unit_name
from .study_table import estimates


@dataclass(frozen=True, kw_only=True, repr=False)
class ControlComparison:
    """A feature's rate beside that of control features at one strength. Made by `SteeringStudy.compare`."""

    feature: int
    strength: float
    unit: StrengthUnit
    rate: Estimate
    """Fraction of the feature's texts with the concept, over prompts."""
    controls: Estimate
    """The same of the control features, over features."""
    n_showing: int
    """Control features with the concept in one text or more."""
    p_value: float
    """Of the hypothesis that the feature was drawn like the controls: the chance of one that does as well. A feature
    that was found as the best of many is rare for that reason alone."""

    @property
    def n_controls(self) -> int:
        return int(self.controls.n_units or 0)

    def to_frame(self) -> pd.DataFrame:
        """Two rows, the feature and the controls: rate, its interval, and what that counts."""
        rows = {f"feature {self.feature}": self.rate, f"{self.n_controls} control features": self.controls}
        return pd.DataFrame({name: e.row() | {"unit": e.unit} for name, e in rows.items()}).T

    def __repr__(self) -> str:
        return (
            f"the concept at strength {self.strength:g} ({unit_name(self.unit)}):\n"
            f"  feature {self.feature}: {self.rate}\n"
            f"  control features: {self.controls}; {self.n_showing} of {self.n_controls} show it at all\n"
            f"  p = {self.p_value:.3g} at {self.strength:g}, "
            f"if the feature were drawn like the {self.n_controls} controls"
        )

    _repr_html_ = control_comparison_html


def compare_with_controls(
    feature: int, strength: float, unit: StrengthUnit, own: pd.DataFrame, controls: pd.DataFrame
) -> ControlComparison:
    """The comparison of the feature's texts with the controls'; DataError where there is none to compare with."""
    if controls.empty or own.empty:
        raise DataError(
            "no control feature to compare with",
            got=f"{controls['feature'].nunique()} control features, {len(own)} texts of the feature",
            accepted="a study with controls",
            fix="run dose_response with controls=20",
        )
    rates = [float(group["concept_present"].mean()) for _, group in controls.groupby("feature", sort=False)]
    rate = float(own["concept_present"].mean())
    return ControlComparison(
        feature=feature,
        strength=strength,
        unit=unit,
        rate=estimates("feature", own)["rate"],
        controls=estimates("control", controls)["rate"],
        n_showing=sum(r > 0 for r in rates),
        p_value=rank_p_value(rate, rates, like_with_like=_same_texts(own, controls)),
    )


def rank_p_value(rate: float, controls: list[float], *, like_with_like: bool) -> float:
    """The p value of a feature's rate among those of control features.

    like_with_like: every control has as many texts as the feature, and the rank alone says it:
    (1 + controls at or above) / (1 + controls). Otherwise (1 + sum of the controls' rates) / ((1 + controls) rate), at
    most 1.

    >>> from saekit.steering.control_comparison import rank_p_value
    >>> rank_p_value(0.8, [0.0] * 19, like_with_like=True), rank_p_value(0.8, [0.0] * 19, like_with_like=False)
    (0.05, 0.0625)
    >>> rank_p_value(0.05, [0.0] * 19, like_with_like=False)  # one text each: no control had a chance to show 0.05
    1.0
    """
    n = len(controls)
    if like_with_like:
        return (1 + sum(r >= rate - 1e-12 for r in controls)) / (1 + n)
    return min(1.0, (1 + sum(controls)) / ((1 + n) * rate)) if rate > 0 else 1.0


def _same_texts(own: pd.DataFrame, controls: pd.DataFrame) -> bool:
    """Whether every control answers exactly the feature's prompts and seeds."""
    pairs: Any = set(zip(own["prompt"], own["seed"], strict=True))
    return all(
        set(zip(group["prompt"], group["seed"], strict=True)) == pairs for _, group in controls.groupby("feature")
    )
