"""What a steering study found: a concept's rate and what it costs, by condition and strength, with intervals.

Made by `dose_response`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from ..errors import UnknownNameError, unknown_name
from ..statistics import mean_interval, wilson_interval
from .edits import Positions
from .fluency import MAX_NLL_INCREASE
from .strength_units import StrengthUnit, unit_name

CONDITIONS = ("none", "instruction", "direction", "feature", "control")
"""In the order they are shown."""
REPETITION_FLOOR = 0.05
"""Repetition that any strength may have: twice an unsteered 0 would allow none."""
ENOUGH = 0.9
"""Fraction of the best rate that a recommended strength must have: the dose-response literature's ED90."""
N_RESAMPLES = 2000
"""Of prompts, for the interval of a mean."""
COSTS = ("kl", "relevance", "drift")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SteeringStudy:
    """How a concept's rate and the text's fluency answer to the strength of a feature. Made by `dose_response`."""

    model_name: str
    hook_name: str
    feature: int
    """The feature that is clamped; the first, where several are."""
    weights: dict[int, float]
    """Every clamped feature, and the weight that each strength is multiplied by."""
    controls: tuple[int, ...]
    """Control features, each clamped at the same strengths; of several features, the first of each set."""
    direction: str | None
    """The direction that is added at the same strengths, by name."""
    concept: str
    strengths: tuple[float, ...]
    unit: StrengthUnit
    positions: Positions
    temperature: float
    max_new_tokens: int
    chat: bool
    generations: pd.DataFrame = field(repr=False)
    """One row per text: condition (none, instruction, direction, feature, control), feature, strength, prompt, seed,
    text, tokens, concept_present, nll, repetition, n_tokens, finish_reason, and with costs=True kl, relevance
    and drift. nll: mean negative log-likelihood per new token, in nats, under the unsteered model given the prompt.
    repetition: fraction of repeated 4-grams of tokens. kl: mean over new tokens of KL(as generated || unsteered), in
    nats. relevance: nll given another of the prompts minus nll given its own, in nats; 0 is a text that has nothing to
    do with its prompt. drift: 1 - cosine between the mean activations of all features but the edited ones over the text
    and over the unsteered one for the same prompt and seed, as the unsteered model reads them."""

    @property
    def summary(self) -> pd.DataFrame:
        """One row per condition and strength.

        rate: fraction of texts with the concept, with the 95 % Wilson interval (texts taken as independent). nll, kl,
        relevance, drift: means with the 95 % percentile intervals of a bootstrap over prompts. nll_increase: against
        the unsteered texts.
        """
        rows = []
        baseline = math.nan
        means = ["nll", *(name for name in COSTS if name in self.generations)]
        for condition in CONDITIONS:
            chosen = self.generations[self.generations["condition"] == condition]
            for strength in dict.fromkeys(chosen["strength"]):
                texts = chosen[chosen["strength"] == strength]
                n_hits, n = int(texts["concept_present"].sum()), len(texts)
                low, high = wilson_interval(n_hits, n)
                row: dict[str, Any] = {
                    "condition": condition,
                    "strength": float(strength),
                    "n_texts": n,
                    "rate": n_hits / n,
                    "rate_low": low,
                    "rate_high": high,
                }
                for name in means:
                    groups = [group[name].tolist() for _, group in texts.groupby("prompt", sort=False)]
                    row[name] = float(texts[name].mean())
                    row[f"{name}_low"], row[f"{name}_high"] = mean_interval(
                        groups, N_RESAMPLES, np.random.default_rng(0)
                    )
                baseline = row["nll"] if condition == "none" else baseline
                row["nll_increase"] = row["nll"] - baseline
                row["repetition"] = float(texts["repetition"].mean())
                rows.append(row)
        return pd.DataFrame(rows)

    @property
    def recommended(self) -> float | None:
        """The feature's recommended strength, see `recommend`."""
        return self.recommend("feature")

    def recommend(self, condition: Literal["feature", "direction"] = "feature") -> float | None:
        """The smallest strength with nine tenths of the best rate among those whose text is fluent.

        Text is fluent when mean nll is at most 1.5 nats above the unsteered texts' and repetition at most twice
        theirs (0.05 is always allowed). Nine tenths, the ED90 of dose-response curves, because differences near the top
        are mostly chance and every strength costs fluency. None when no such strength beats the unsteered rate.
        """
        if condition not in ("feature", "direction"):
            raise unknown_name("condition", condition, ("feature", "direction"))
        summary = self.summary
        none = summary[summary["condition"] == "none"].iloc[0]
        steered = summary[summary["condition"] == condition]
        fluent = steered[
            (steered["nll_increase"] <= MAX_NLL_INCREASE)
            & (steered["repetition"] <= max(2 * none["repetition"], REPETITION_FLOOR))
            & (steered["rate"] > none["rate"])
        ]
        if fluent.empty:
            return None
        enough = fluent[fluent["rate"] >= ENOUGH * fluent["rate"].max() - 1e-9]
        return float(enough.loc[enough["strength"].abs().idxmin(), "strength"])

    @property
    def conditions(self) -> pd.DataFrame:
        """The rows of `summary` to be compared: each condition once, at the strength recommended for it (see `at`)."""
        return self.at()

    def at(self, feature: float | None = None, direction: float | None = None) -> pd.DataFrame:
        """The rows of `summary` to be compared: each condition once, controls at the feature's strength.

        Strengths that other prompts recommended can be given; otherwise they are those recommended here. Where none
        is, the strength in the middle is shown, and `recommended` is False. UnknownNameError for a strength that was
        not run.
        """
        for strength in (feature, direction):
            if strength is not None and strength not in self.strengths:
                raise UnknownNameError(f"the study has no strength {strength:g}", got=strength, accepted=self.strengths)
        middle = sorted(self.strengths)[len(self.strengths) // 2]
        feature = self.recommended if feature is None else feature
        direction = self.recommend("direction") if direction is None else direction
        known = {"none": 0.0, "instruction": 0.0, "direction": direction, "feature": feature, "control": feature}
        summary = self.summary
        at = summary["condition"].map(lambda c: middle if known[c] is None else known[c])
        shown = summary[summary["strength"] == at]
        return shown.assign(recommended=[known[c] is not None for c in shown["condition"]]).set_index("condition")

    def to_frame(self) -> pd.DataFrame:
        """`generations`: one row per text."""
        return self.generations

    def plot(self, kind: Literal["dose", "pareto"] = "dose") -> Any:
        """A plotly figure: "dose", rate and nll by strength; "pareto", rate against nll, a point for each strength."""
        from .plots import plot_dose_response, plot_steering_pareto

        if kind not in ("dose", "pareto"):
            raise unknown_name("plot", kind, ("dose", "pareto"))
        return plot_dose_response(self) if kind == "dose" else plot_steering_pareto(self)

    def __repr__(self) -> str:
        n_prompts, n_seeds = self.generations["prompt"].nunique(), self.generations["seed"].nunique()
        how = "greedy" if self.temperature == 0 else f"temperature {self.temperature:g}, {n_seeds} seeds"
        summary = self.summary
        costs = [name for name in COSTS if name in summary]
        several = f" and {len(self.weights) - 1} more" if len(self.weights) > 1 else ""
        lines = [
            f"SteeringStudy: feature {self.feature}{several} of {self.hook_name} ({self.model_name}), "
            f"concept {self.concept!r}",
            f"  {n_prompts} prompts, {self.max_new_tokens} new tokens, {how}; clamped at {self.positions} positions; "
            f"controls: {', '.join(map(str, self.controls)) or 'none'}",
            f"  {'condition':<12}{'strength':>9}{'texts':>7}  {'rate [95 %]':<20}{'nll [95 %]':<20}{'repetition':>10}"
            + "".join(f"{name:>11}" for name in costs),
        ]
        for row in summary.to_dict("records"):
            strength = "-" if row["condition"] in ("none", "instruction") else f"{row['strength']:g}"
            rate = f"{row['rate']:.2f} [{row['rate_low']:.2f}, {row['rate_high']:.2f}]"
            nll = f"{row['nll']:.2f} [{row['nll_low']:.2f}, {row['nll_high']:.2f}]"
            start = f"  {row['condition']:<12}{strength:>9}{row['n_texts']:>7}"
            lines.append(
                f"{start}  {rate:<20}{nll:<20}{row['repetition']:>10.2f}"
                + "".join(f"{row[name]:>11.2f}" for name in costs)
            )
        unit = unit_name(self.unit)
        best = self.recommended
        advice = "none: no fluent strength beats the unsteered rate" if best is None else f"{best:g} {unit}"
        return "\n".join([*lines, f"  strength unit: {unit}; recommended: {advice}"])
