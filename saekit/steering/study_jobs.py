"""The texts of a steering study: which prompt, seed and edit each is generated with.

Every strength of a feature or a direction answers every prompt. A control feature answers as few as one prompt, the
same at each strength: what is said of features is counted in features, so many features with one text each say more
than few features with many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import ConfigError, DataError
from ..models import LanguageModel
from .decoding import Row, check_room, make_rows
from .edits import Edit
from .prompt_split import PromptSplit
from .study_log import KEY


@dataclass(frozen=True)
class Arm:
    """One condition at one strength."""

    condition: str
    feature: int | None
    strength: float
    edits: tuple[Edit, ...] = ()
    number: int = 0
    """Which of the controls it is."""


@dataclass(frozen=True)
class Job:
    """One text to be generated."""

    settings: dict[str, Any]
    """The condition, feature, strength, prompt and seed."""
    prompt: Row
    """The prompt that the text is scored against."""
    run: Row
    """What the model reads, and under which edits."""
    other_prompt: Row
    """Another prompt of the same part of the split, or the same where there is but one."""

    @property
    def key(self) -> tuple[Any, ...]:
        return tuple(self.settings[name] for name in KEY)


def make_jobs(
    model: LanguageModel,
    arms: Sequence[Arm],
    split: PromptSplit,
    seeds: Sequence[int],
    *,
    chat: bool,
    prepend_bos: bool | None,
    instruction: str | None,
    max_new_tokens: int,
    texts_per_control: int,
) -> list[Job]:
    """The texts of every arm; ContextLengthError when one does not fit the model.

    Unsteered, with the feature and with the direction all prompts are answered; the instruction and the controls have
    no part in the choice of a strength and answer those that report. Control i answers texts_per_control of the
    (seed, prompt) pairs, from pair i * texts_per_control on and around, prompts before seeds.
    """
    parts = [part for part in dict.fromkeys([split.choose, split.report]) if part]
    rows = {
        prompts: [
            (prompt, row)
            for seed in seeds
            for prompt, row in zip(
                prompts, make_rows(model, prompts, seed=seed, chat=chat, prepend_bos=prepend_bos), strict=True
            )
        ]
        for prompts in parts
    }
    check_room(model, [row for part in rows.values() for _, row in part], max_new_tokens)
    n_reporting = len(rows[split.report])
    if not 1 <= texts_per_control <= n_reporting:
        raise ConfigError(
            "not that many texts to a control",
            got=f"texts_per_control={texts_per_control}",
            accepted=f"1 to {n_reporting}: reporting prompts times seeds",
        )
    asked: list[Row] = []
    if instruction is not None:
        for seed in seeds:
            texts = [f"{prompt} {instruction}" for prompt in split.report]
            asked += make_rows(model, texts, seed=seed, chat=chat, prepend_bos=prepend_bos)
        check_room(model, asked, max_new_tokens)
    jobs = []
    for arm in arms:
        for prompts, answered in rows.items():
            if prompts != split.report and arm.condition in ("instruction", "control"):
                continue
            chosen = range(len(answered))
            if arm.condition == "control":
                first = arm.number * texts_per_control
                chosen = [(first + n) % len(answered) for n in range(texts_per_control)]  # type: ignore[assignment]
            for n in chosen:
                prompt, row = answered[n]
                settings = {"condition": arm.condition, "feature": arm.feature, "strength": arm.strength}
                settings |= {"prompt": prompt, "seed": row.seed}
                run = asked[n] if arm.condition == "instruction" else row
                other = answered[(n + 1) % len(prompts)][1]
                jobs.append(Job(settings, row, replace(run, edits=arm.edits), other))
    return jobs


def check_study(
    prompts: Sequence[str],
    strengths: Sequence[float],
    seeds: Sequence[int],
    weights: Mapping[int, float],
    temperature: float,
    batch_size: int,
) -> None:
    """DataError or ConfigError for a study that has nothing to do, or the same thing twice."""
    if not prompts or len(set(prompts)) < len(prompts):
        raise DataError("a study needs prompts, each once", got=prompts, accepted="one or more different prompts")
    if not strengths or len(set(strengths)) < len(strengths):
        raise ConfigError("a study needs strengths, each once", got=strengths, accepted="such as [0.25, 0.5, 0.75]")
    if not weights:
        raise ConfigError(
            "a study needs a feature", got=weights, accepted="a feature number, or {feature: weight, ...}"
        )
    if not seeds or len(set(seeds)) < len(seeds) or (temperature == 0 and len(seeds) > 1):
        raise ConfigError(
            "the seeds do not give different texts",
            got=f"seeds {seeds} at temperature {temperature:g}",
            accepted="one or more different seeds; only one at temperature 0",
            fix="pass temperature=0.8",
        )
    if batch_size < 1:
        raise ConfigError("batch_size is not positive", got=batch_size, accepted="1 or more")
