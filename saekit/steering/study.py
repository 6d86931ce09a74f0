"""What a steering study found: a concept's rate and what it costs, by condition and strength, with intervals.

Made by `dose_response`. The strength is recommended by some prompts, and every figure that is shown comes from others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from ..arguments import checks_arguments
from ..errors import UnknownNameError, unknown_name
from ..statistics import MIN_UNITS, Estimate
from .control_comparison import ControlComparison, compare_with_controls
from .displays import study_html
from .edits import Positions
from .fluency import MAX_NLL_INCREASE
from .prompt_split import PromptSplit
from .strength_units import StrengthUnit, unit_name
from .study_table import COSTS, arms, estimates, summarise

REPETITION_FLOOR = 0.05
"""Repetition that any strength may have: twice an unsteered 0 would allow none."""
ENOUGH = 0.9
"""Fraction of the best rate that a recommended strength must have: the dose-response literature's ED90."""


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
    split: PromptSplit
    """The prompts that choose the strength, and those that every figure comes from."""
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
    name: str = ""
    """What the index calls the feature; empty where there was none."""

    @property
    def called(self) -> str:
        """The feature's number, with its name where that is known."""
        return f"{self.feature} ({self.name})" if self.name else str(self.feature)

    @property
    def summary(self) -> pd.DataFrame:
        """One row per condition and strength, over the prompts that report. See `summarise`."""
        return self.summarise()

    def summarise(self, prompts: Literal["report", "choose", "all"] = "report") -> pd.DataFrame:
        """One row per condition and strength, over the prompts that report, those that choose the strength, or all.

        rate: fraction of texts with the concept; nll, repetition, kl, relevance and drift: means; nll_increase: nll
        minus that of the unsteered text for the same prompt and seed. Each with the ends of its 95 % interval (_low and
        _high), over `n_units` of `unit`: prompts, and features where the row is about control features. Below five
        units there is no interval (nan).
        """
        return summarise(self.generations, self._prompts(prompts))

    @checks_arguments
    def estimate(
        self,
        condition: str,
        strength: float | None = None,
        metric: str = "rate",
        prompts: Literal["report", "choose", "all"] = "report",
    ) -> Estimate:
        """One figure of `summarise` with its interval and what that counts; without a strength, the one of `at`.

        UnknownNameError for a condition, strength or metric that the study does not have.
        """
        found = dict(arms(self.generations, self._prompts(prompts)))
        known = list(dict.fromkeys(c for c, _ in found))
        if condition not in known:
            raise unknown_name("condition", condition, known)
        strength = self._shown()[condition] if strength is None else strength
        if (condition, strength) not in found:
            raise UnknownNameError(
                f"the study has no strength {strength:g}",
                got=strength,
                accepted=[s for c, s in found if c == condition],
            )
        metrics = estimates(condition, found[condition, strength])
        if metric not in metrics:
            raise unknown_name("metric", metric, list(metrics))
        return metrics[metric]

    @checks_arguments
    def compare(self, strength: float | None = None) -> ControlComparison:
        """The feature beside the control features, with a p value that counts features.

        Without a strength, at the one that `at` shows; over the prompts that report. DataError without controls.
        """
        strength = self._shown(feature=strength)["feature"]
        found = dict(arms(self.generations, self.split.report))
        none = self.generations.iloc[:0]
        own, controls = (found.get((condition, strength), none) for condition in ("feature", "control"))
        return compare_with_controls(self.feature, strength, self.unit, own, controls)

    @property
    def recommended(self) -> float | None:
        """The feature's recommended strength, see `recommend`."""
        return self.recommend("feature")

    def recommend(self, condition: Literal["feature", "direction"] = "feature") -> float | None:
        """The smallest strength with nine tenths of the best rate among those whose text is fluent.

        Text is fluent when mean nll is at most 1.5 nats above the unsteered texts' and repetition at most twice
        theirs (0.05 is always allowed). Nine tenths, the ED90 of dose-response curves, because differences near the top
        are mostly chance and every strength costs fluency. Decided on the prompts that choose (`split`). None when no
        such strength beats the unsteered rate, and when no prompt chooses.
        """
        if condition not in ("feature", "direction"):
            raise unknown_name("condition", condition, ("feature", "direction"))
        if not self.split.choose:
            return None
        summary = self.summarise("choose")
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
        known = {"feature": feature, "direction": direction}
        chosen = {c: known.get(c) is not None or self.recommend(c) is not None for c in ("feature", "direction")}
        shown = self._shown(feature, direction)
        summary = self.summary
        rows = summary[summary["strength"] == summary["condition"].map(shown)]
        of = {"control": "feature"}
        return rows.assign(recommended=[chosen.get(of.get(c, c), True) for c in rows["condition"]]).set_index(
            "condition"
        )

    def _shown(self, feature: float | None = None, direction: float | None = None) -> dict[str, float]:
        """The strength at which each condition is compared."""
        for strength in (feature, direction):
            if strength is not None and strength not in self.strengths:
                raise UnknownNameError(f"the study has no strength {strength:g}", got=strength, accepted=self.strengths)
        middle = sorted(self.strengths)[len(self.strengths) // 2]
        feature = self.recommended if feature is None else feature
        direction = self.recommend("direction") if direction is None else direction
        feature, direction = (middle if s is None else s for s in (feature, direction))
        return {"none": 0.0, "instruction": 0.0, "direction": direction, "feature": feature, "control": feature}

    def _prompts(self, which: str) -> tuple[str, ...]:
        parts = {"report": self.split.report, "choose": self.split.choose, "all": self.split.prompts}
        if which not in parts:
            raise unknown_name("part of the prompts", which, parts)
        return parts[which]

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
        n_prompts, n_seeds = len(self.split.prompts), self.generations["seed"].nunique()
        how = "greedy" if self.temperature == 0 else f"temperature {self.temperature:g}, {n_seeds} seeds"
        summary = self.summary
        costs = [name for name in COSTS if name in summary]
        several = f" and {len(self.weights) - 1} more" if len(self.weights) > 1 else ""
        lines = [
            f"SteeringStudy: feature {self.called}{several} of {self.hook_name} ({self.model_name}), "
            f"concept {self.concept!r}",
            f"  {n_prompts} prompts, {self.max_new_tokens} new tokens, {how}; clamped at {self.positions} positions; "
            f"{len(self.controls) or 'no'} control features",
            f"  {self.split}",
            f"  {'condition':<12}{'strength':>9}{'texts':>7}  {'95 % over':<13}{'rate':<20}{'nll':<20}"
            + "".join(f"{name:>11}" for name in ["repetition", *costs]),
        ]
        for row in summary.to_dict("records"):
            strength = "-" if row["condition"] in ("none", "instruction") else f"{row['strength']:g}"
            start = f"  {row['condition']:<12}{strength:>9}{row['n_texts']:>7}  {_units(row):<13}"
            lines.append(
                f"{start}{_cell(row, 'rate'):<20}{_cell(row, 'nll'):<20}"
                + "".join(f"{row[name]:>11.2f}" for name in ["repetition", *costs])
            )
        if (summary["n_units"] < MIN_UNITS).any():
            lines.append(f"  no interval where there are fewer than {MIN_UNITS} prompts or control features")
        unit = unit_name(self.unit)
        best = self.recommended
        advice = self._no_advice() if best is None else f"{best:g} {unit}"
        lines.append(f"  strength unit: {unit}; recommended: {advice}")
        if self.controls:
            lines += repr(self.compare()).splitlines()[-1:]
        return "\n".join(lines)

    _repr_html_ = study_html

    def _no_advice(self) -> str:
        if not self.split.choose:
            return "none: no prompt chooses a strength"
        return "none: no fluent strength beats the unsteered rate"


def _units(row: dict[Any, Any]) -> str:
    unit = str(row["unit"])
    return f"{row['n_units']} {unit.removesuffix('s') if row['n_units'] == 1 else unit}"


def _cell(row: dict[Any, Any], name: str) -> str:
    if math.isnan(row[f"{name}_low"]):
        return f"{row[name]:.2f}"
    return f"{row[name]:.2f} [{row[f'{name}_low']:.2f}, {row[f'{name}_high']:.2f}]"
