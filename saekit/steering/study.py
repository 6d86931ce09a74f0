"""Steering as an experiment: a concept's rate and the text's fluency by strength, against matched random features.

`dose_response` clamps one feature at each strength, and control features at the same strengths, over prompts and seeds.
A feature that steers brings the concept where controls of the same size do not, before the text breaks. What a concept
is, is not known here: anything with `present(text) -> bool` will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import pandas as pd
import torch
from tqdm.auto import tqdm

from ..errors import ConfigError, DataError
from ..models import LanguageModel
from ..sae import SAE
from .constructors import clamp
from .edits import Edit, Positions, Unit
from .fluency import bootstrap_mean, negative_log_likelihood, repetition, wilson_interval
from .generation import Generation, Row, check_edits, check_room, complete, make_rows

if TYPE_CHECKING:
    from ..index import FeatureIndex

MAX_NLL_INCREASE = 1.5
"""Nats per token that a recommended strength may cost."""
REPETITION_FLOOR = 0.05
"""Repetition that is never held against a strength: twice an unsteered 0 would allow none."""

_STRENGTH = {"raw": "raw activation", "max": "x the feature's maximum", "norm": "x the residual norm"}


@runtime_checkable
class PresentIn(Protocol):
    """What a study needs of a concept."""

    def present(self, text: str) -> bool:
        """Whether the text shows the concept."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SteeringStudy:
    """How a concept's rate and the text's fluency answer to the strength of a feature. Made by `dose_response`."""

    model_name: str
    hook_name: str
    feature: int
    controls: tuple[int, ...]
    """Control features, each clamped at the same strengths."""
    concept: str
    strengths: tuple[float, ...]
    unit: Unit
    positions: Positions
    temperature: float
    max_new_tokens: int
    chat: bool
    generations: pd.DataFrame = field(repr=False)
    """One row per text: condition (none, instruction, feature, control), feature, strength, prompt, seed, text,
    concept_present, nll, repetition, n_tokens, finish_reason. nll: mean negative log-likelihood per new token, in nats,
    under the unsteered model given the prompt. repetition: share of repeated 4-grams of tokens."""

    @property
    def summary(self) -> pd.DataFrame:
        """One row per condition and strength.

        rate: share of texts with the concept, with the 95 % Wilson interval (texts taken as independent). nll: mean
        with the 95 % percentile interval of a bootstrap over prompts. nll_increase: against the unsteered texts.
        """
        rows = []
        baseline = float("nan")
        for condition in ("none", "instruction", "feature", "control"):
            chosen = self.generations[self.generations["condition"] == condition]
            for strength in dict.fromkeys(chosen["strength"]):
                texts = chosen[chosen["strength"] == strength]
                n_hits, n = int(texts["concept_present"].sum()), len(texts)
                low, high = wilson_interval(n_hits, n)
                nll = float(texts["nll"].mean())
                groups = [group["nll"].tolist() for _, group in texts.groupby("prompt", sort=False)]
                nll_low, nll_high = bootstrap_mean(groups)
                baseline = nll if condition == "none" else baseline
                rows.append({
                    "condition": condition, "strength": float(strength), "n_texts": n,
                    "rate": n_hits / n, "rate_low": low, "rate_high": high,
                    "nll": nll, "nll_low": nll_low, "nll_high": nll_high, "nll_increase": nll - baseline,
                    "repetition": float(texts["repetition"].mean()),
                })  # fmt: skip
        return pd.DataFrame(rows)

    @property
    def recommended(self) -> float | None:
        """The strength with the highest rate among those whose text holds together; None when none beats unsteered.

        The rule: mean nll at most 1.5 nats above the unsteered texts', repetition at most twice theirs (0.05 is always
        allowed); of equal rates the smallest strength.
        """
        summary = self.summary
        none = summary[summary["condition"] == "none"].iloc[0]
        steered = summary[summary["condition"] == "feature"]
        fluent = steered[
            (steered["nll_increase"] <= MAX_NLL_INCREASE)
            & (steered["repetition"] <= max(2 * none["repetition"], REPETITION_FLOOR))
            & (steered["rate"] > none["rate"])
        ]
        if fluent.empty:
            return None
        best = fluent[fluent["rate"] == fluent["rate"].max()]
        return float(best.loc[best["strength"].abs().idxmin(), "strength"])

    def to_frame(self) -> pd.DataFrame:
        """`generations`: one row per text."""
        return self.generations

    def plot(self) -> Any:
        """A plotly figure of rate and nll by strength."""
        from .. import plots

        return plots.dose_response(self)

    def __repr__(self) -> str:
        n_prompts, n_seeds = self.generations["prompt"].nunique(), self.generations["seed"].nunique()
        how = "greedy" if self.temperature == 0 else f"temperature {self.temperature:g}, {n_seeds} seeds"
        lines = [
            f"SteeringStudy: feature {self.feature} of {self.hook_name} ({self.model_name}), concept {self.concept!r}",
            f"  {n_prompts} prompts, {self.max_new_tokens} new tokens, {how}; clamped at {self.positions} positions; "
            f"controls: {', '.join(map(str, self.controls)) or 'none'}",
            f"  {'condition':<12}{'strength':>9}{'texts':>7}  {'rate [95 %]':<20}{'nll [95 %]':<20}{'repetition':>10}",
        ]
        for row in self.summary.to_dict("records"):
            strength = "-" if row["condition"] in ("none", "instruction") else f"{row['strength']:g}"
            rate = f"{row['rate']:.2f} [{row['rate_low']:.2f}, {row['rate_high']:.2f}]"
            nll = f"{row['nll']:.2f} [{row['nll_low']:.2f}, {row['nll_high']:.2f}]"
            start = f"  {row['condition']:<12}{strength:>9}{row['n_texts']:>7}"
            lines.append(f"{start}  {rate:<20}{nll:<20}{row['repetition']:>10.2f}")
        unit = _STRENGTH[self.unit]
        best = self.recommended
        advice = "none: no fluent strength beats the unsteered rate" if best is None else f"{best:g} {unit}"
        return "\n".join([*lines, f"  strength unit: {unit}; recommended: {advice}"])


def dose_response(
    model: LanguageModel,
    sae: SAE,
    feature: int,
    prompts: Sequence[str],
    concept: PresentIn,
    strengths: Sequence[float],
    *,
    unit: Unit = "norm",
    seeds: Sequence[int] = (0,),
    controls: int | Sequence[int] = 3,
    index: FeatureIndex | None = None,
    instruction: str | None = None,
    max_new_tokens: int = 48,
    temperature: float = 0.0,
    chat: bool = True,
    positions: Positions = "all",
    batch_size: int = 32,
    progress: bool = True,
) -> SteeringStudy:
    """A SteeringStudy: `feature` and control features clamped at each strength, over all prompts and seeds.

    Texts without an edit are always included. `controls` are feature numbers, or how many to pick: of similar density
    and maximum when `index` is given (FeatureIndex.matched_features), else at random. `instruction` adds a baseline
    that asks in words: the sentence is put behind each prompt and nothing is edited (its nll is given the bare prompt).
    Several seeds need a temperature above 0. Texts of different strengths and features run side by side, batch_size at
    a time; each is what `generate` gives for that prompt, seed and edit.

    Raises ConfigError, UnknownNameError and MismatchError for settings that do not fit, before anything is run.

    >>> concept = sk.Concept.keywords(["gate"])
    >>> study = sk.dose_response(model, sae, 3, ["the cat", "a mat"], concept, [0.5], controls=1, max_new_tokens=3,
    ...                          progress=False)
    >>> study.to_frame().groupby("condition").size().to_dict()
    {'control': 2, 'feature': 2, 'none': 2}
    """
    prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    strengths, seeds = [float(s) for s in strengths], list(seeds)
    if not prompts or len(set(prompts)) < len(prompts):
        raise DataError("a study needs prompts, each once", got=prompts, accepted="one or more different prompts")
    if not strengths or len(set(strengths)) < len(strengths):
        raise ConfigError("a study needs strengths, each once", got=strengths, accepted="such as [0.25, 0.5, 0.75]")
    if not seeds or len(set(seeds)) < len(seeds) or (temperature == 0 and len(seeds) > 1):
        raise ConfigError(
            "the seeds do not give different texts", got=f"seeds {seeds} at temperature {temperature:g}",
            accepted="one or more different seeds; only one at temperature 0", fix="pass temperature=0.8",
        )  # fmt: skip
    if batch_size < 1:
        raise ConfigError("batch_size is not positive", got=batch_size, accepted="1 or more")
    concept.present("")
    chosen = _controls(sae, feature, controls, index, seed=seeds[0])

    def edit(i: int, strength: float) -> Edit:
        return clamp(sae, {i: strength}, unit=unit, positions=positions, index=index)

    plan: list[tuple[str, int | None, float, tuple[Edit, ...]]] = [("none", None, 0.0, ())]
    plan += [("instruction", None, 0.0, ())] if instruction is not None else []
    plan += [("feature", feature, s, (edit(feature, s),)) for s in strengths]
    plan += [("control", i, s, (edit(i, s),)) for i in chosen for s in strengths]
    check_edits(model, plan[-1][3])

    rows = [row for seed in seeds for row in make_rows(model, prompts, seed=seed, chat=chat)]
    asking = [p if instruction is None else f"{p} {instruction}" for p in prompts]
    asked = [row for seed in seeds for row in make_rows(model, asking, seed=seed, chat=chat)]
    check_room(model, asked, max_new_tokens)

    jobs: list[tuple[dict[str, Any], Row, Row]] = []
    for condition, i, strength, edits in plan:
        for n, row in enumerate(rows):
            told = {"condition": condition, "feature": i, "strength": strength}
            told |= {"prompt": prompts[n % len(prompts)], "seed": row.seed}
            jobs.append((told, row, replace(asked[n] if condition == "instruction" else row, edits=edits)))

    done: list[Generation] = []
    with tqdm(total=len(jobs), unit="text", desc="writing", disable=not progress) as bar:
        for at in range(0, len(jobs), batch_size):
            batch = [run for _, _, run in jobs[at : at + batch_size]]
            done += complete(model, batch, max_new_tokens=max_new_tokens, temperature=temperature)
            bar.update(len(batch))
    with tqdm(total=len(jobs), unit="text", desc="scoring", disable=not progress) as bar:
        texts = [(row.ids, generation.tokens) for (_, row, _), generation in zip(jobs, done, strict=True)]
        scores = negative_log_likelihood(model, texts, batch_size, bar.update)
    records = [
        told | {
            "text": generation.text, "concept_present": bool(concept.present(generation.text)), "nll": nll,
            "repetition": repetition(generation.tokens), "n_tokens": len(generation.tokens),
            "finish_reason": generation.finish_reason,
        }
        for (told, _, _), generation, nll in zip(jobs, done, scores, strict=True)
    ]  # fmt: skip
    return SteeringStudy(
        model_name=model.name,
        hook_name=str(sae.config.hook_name),
        feature=feature,
        controls=tuple(chosen),
        concept=str(getattr(concept, "name", concept)),
        strengths=tuple(strengths),
        unit=unit,
        positions=positions,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        chat=chat,
        generations=pd.DataFrame(records).astype({"feature": "Int64"}),
    )


def _controls(
    sae: SAE, feature: int, controls: int | Sequence[int], index: FeatureIndex | None, *, seed: int
) -> list[int]:
    if not isinstance(controls, int):
        if feature in controls:
            raise ConfigError("the feature cannot be its own control", got=list(controls), fix=f"leave {feature} out")
        return [int(i) for i in controls]
    if not 0 <= controls < sae.config.d_sae:
        raise ConfigError("too many or too few controls", got=controls, accepted=f"0 to {sae.config.d_sae - 1}")
    if controls == 0:
        return []
    if index is not None:
        return [int(i) for i in index.matched_features(feature, controls, seed)]
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(sae.config.d_sae, generator=generator).tolist()
    return [i for i in order if i != feature][:controls]
