"""Steering as an experiment: a feature clamped at each strength, over prompts and seeds, against its baselines.

The baselines are texts without an edit, matched random features at the same strengths and, optionally, a direction
added at the same strengths and an instruction in the prompt. A feature that steers makes the concept appear where
controls of the same size do not, before the text degenerates. With a folder, a study that was stopped resumes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import pandas as pd
import torch
from tqdm.auto import tqdm

from ..activations import resolve_token_filter
from ..errors import ConfigError, DataError
from ..models import LanguageModel
from ..models.likelihood import negative_log_likelihood
from ..output_folder import digest_of_plan, output_folder, parts_of
from ..sae import SAE
from .control_features import control_features
from .decoding import Row, check_room, make_rows
from .directions import Direction
from .edits import Edit, Positions
from .fluency import repetition
from .generation import Generation, check_edits, complete
from .make_edits import add_direction, clamp
from .readout import Cost, TextSample, cost, drift
from .strength_units import StrengthUnit
from .study import SteeringStudy
from .study_log import KEY, StudyLog

if TYPE_CHECKING:
    from ..index import FeatureIndex

N_COSTED = 8
"""Texts whose costs are read off side by side: their logits lie in memory."""


@runtime_checkable
class PresentIn(Protocol):
    """What a study needs of a concept."""

    def present(self, text: str) -> bool:
        """Whether the text shows the concept."""


@dataclass(frozen=True)
class _Job:
    """One text to be generated."""

    settings: dict[str, Any]
    """The condition, feature, strength, prompt and seed."""
    prompt: Row
    """The prompt that the text is scored against."""
    run: Row
    """What the model reads, and under which edits."""
    other_prompt: Row
    """Another of the prompts, or the same where there is but one."""

    @property
    def key(self) -> tuple[Any, ...]:
        return tuple(self.settings[name] for name in KEY)


def dose_response(
    model: LanguageModel,
    sae: SAE,
    feature: int | Mapping[int, float],
    prompts: Sequence[str],
    concept: PresentIn,
    strengths: Sequence[float],
    *,
    unit: StrengthUnit = "norm",
    seeds: Sequence[int] = (0,),
    controls: int | Sequence[int] = 3,
    index: FeatureIndex | None = None,
    direction: Direction | None = None,
    instruction: str | None = None,
    max_new_tokens: int = 48,
    temperature: float = 0.0,
    chat: bool = True,
    positions: Positions = "all",
    costs: bool = False,
    batch_size: int = 32,
    out: str | Path | None = None,
    progress: bool = True,
) -> SteeringStudy:
    """A SteeringStudy: `feature` and control features clamped at each strength, over all prompts and seeds.

    Several features are a mapping from feature to a weight, which each strength is multiplied by. Texts without an edit
    are always included. `controls` are feature numbers, or how many to pick: of similar density and maximum when
    `index` is given (FeatureIndex.matched_features), else at random; of several features each is matched. `direction`,
    such as `mean_difference` gives, is added at the same strengths (not with unit "max"). `instruction` is a baseline
    that asks in words: the sentence is put behind each prompt and nothing is edited (its nll is given the bare prompt).
    Several seeds need a temperature above 0. `costs=True` computes kl, relevance and drift as well (see
    `SteeringStudy.generations`), which takes about as long again. Texts of different strengths and features run side by
    side, batch_size at a time; each is what `generate` gives for that prompt, seed and edit. Special tokens and
    attention sinks are left unedited, and count in no feature's activation.

    With `out`, a folder, texts are saved as they are generated, and the same call resumes where it was stopped.

    Raises ConfigError, UnknownNameError and MismatchError for settings that do not fit, before anything is run;
    MismatchError when `out` holds another study, FolderInUseError while another process writes there.

    >>> concept = sk.Concept.keywords(["gate"])
    >>> study = sk.dose_response(model, sae, 3, ["the cat", "a mat"], concept, [0.5], controls=1, max_new_tokens=3,
    ...                          progress=False)
    >>> study.to_frame().groupby("condition").size().to_dict()
    {'control': 2, 'feature': 2, 'none': 2}
    """
    prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    strengths, seeds = [float(s) for s in strengths], list(seeds)
    weights = dict(feature) if isinstance(feature, Mapping) else {int(feature): 1.0}
    _check(prompts, strengths, seeds, weights, temperature, batch_size)
    concept.present("")
    chosen = control_features(sae, list(weights), controls, index, seed=seeds[0])

    def edit(features: Sequence[int], strength: float) -> tuple[Edit, ...]:
        values = dict(zip(features, (w * strength for w in weights.values()), strict=True))
        return (clamp(sae, values, unit=unit, positions=positions, index=index),)

    plan: list[tuple[str, int | None, float, tuple[Edit, ...]]] = [("none", None, 0.0, ())]
    plan += [("instruction", None, 0.0, ())] if instruction is not None else []
    if direction is not None:
        plan += [
            ("direction", None, s, (add_direction(direction, s, unit=unit, positions=positions),)) for s in strengths
        ]
    plan += [("feature", next(iter(weights)), s, edit(list(weights), s)) for s in strengths]
    plan += [("control", matched[0], s, edit(matched, s)) for matched in chosen for s in strengths]
    for _, _, _, edits in plan:
        check_edits(model, edits)
    jobs = _jobs(model, plan, prompts, seeds, chat, sae.config.prepend_bos, instruction, max_new_tokens)

    maxima = dict.fromkeys(m for *_, edits in plan for edit in edits if (m := getattr(edit, "maxima", None)))
    described = {
        "model": model.fingerprint,
        "dtype": str(model.dtype),
        "sae": sae.fingerprint,
        "hook_name": sae.config.hook_name,
        "token_filter": resolve_token_filter(model, sae).to_dict(),
        "weights": {str(i): w for i, w in weights.items()},
        "prompts": prompts,
        "read": digest_of_plan({"ids": [[list(job.prompt.ids), list(job.run.ids)] for job in jobs]}),
        "concept": repr(concept),
        "strengths": strengths,
        "unit": unit,
        "maxima": [list(of_features) for of_features in maxima],
        "edits": digest_of_plan({"edits": [[edit.to_dict() for edit in edits] for _, _, _, edits in plan]}),
        "seeds": seeds,
        "controls": [list(matched) for matched in chosen],
        "instruction": instruction,
        "direction": direction.to_dict() if direction else None,
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "chat": chat,
        "positions": positions,
        "costs": costs,
    }
    with ExitStack() as stack:
        log = None
        if out is not None:
            folder = stack.enter_context(output_folder(out, "a steering study", leftovers=parts_of("study.json")))
            log = StudyLog(folder, described)
        records = _run(
            model, sae, jobs, concept, log, list(weights), max_new_tokens, temperature, costs, batch_size, progress
        )
    return SteeringStudy(
        model_name=model.name,
        hook_name=str(sae.config.hook_name),
        feature=next(iter(weights)),
        weights=weights,
        controls=tuple(matched[0] for matched in chosen),
        direction=direction.name if direction else None,
        concept=str(getattr(concept, "name", concept)),
        strengths=tuple(strengths),
        unit=unit,
        positions=positions,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        chat=chat,
        generations=pd.DataFrame(records).astype({"feature": "Int64"}),
    )


def _check(
    prompts: list[str],
    strengths: list[float],
    seeds: list[int],
    weights: Mapping[int, float],
    temperature: float,
    batch_size: int,
) -> None:
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


def _jobs(
    model: LanguageModel,
    plan: Sequence[tuple[str, int | None, float, tuple[Edit, ...]]],
    prompts: Sequence[str],
    seeds: Sequence[int],
    chat: bool,
    prepend_bos: bool | None,
    instruction: str | None,
    max_new_tokens: int,
) -> list[_Job]:
    def rows_of(texts: Sequence[str]) -> list[Row]:
        made = (make_rows(model, texts, seed=seed, chat=chat, prepend_bos=prepend_bos) for seed in seeds)
        return [row for rows in made for row in rows]

    rows = rows_of(prompts)
    asking = [p if instruction is None else f"{p} {instruction}" for p in prompts]
    instructed = rows_of(asking)
    check_room(model, instructed, max_new_tokens)
    jobs = []
    for condition, i, strength, edits in plan:
        for n, row in enumerate(rows):
            settings = {"condition": condition, "feature": i, "strength": strength}
            settings |= {"prompt": prompts[n % len(prompts)], "seed": row.seed}
            other = rows[(n + 1) % len(prompts)]
            run = instructed[n] if condition == "instruction" else row
            jobs.append(_Job(settings, row, replace(run, edits=edits), other))
    return jobs


def _run(
    model: LanguageModel,
    sae: SAE,
    jobs: Sequence[_Job],
    concept: PresentIn,
    log: StudyLog | None,
    edited: Sequence[int],
    max_new_tokens: int,
    temperature: float,
    costs: bool,
    batch_size: int,
    progress: bool,
) -> list[dict[str, Any]]:
    """A record for each job, in their order; those in `log` are not run again."""
    done = log.read() if log is not None else {}
    profiles: dict[tuple[Any, ...], torch.Tensor] = {}
    todo = [job for job in jobs if job.key not in done]
    if costs and todo:  # what the others' drift is measured from
        known = [job for job in jobs if job.settings["condition"] == "none" and job.key in done]
        before = _costs(model, sae, known, [done[job.key]["tokens"] for job in known])
        profiles = {
            (job.settings["prompt"], job.settings["seed"]): of.profile for job, of in zip(known, before, strict=True)
        }
    with tqdm(
        total=len(jobs), initial=len(jobs) - len(todo), unit="text", desc="steering", disable=not progress
    ) as bar:
        for at in range(0, len(todo), batch_size):
            batch = todo[at : at + batch_size]
            written = complete(
                model, [job.run for job in batch], max_new_tokens=max_new_tokens, temperature=temperature
            )
            records = [_record(job, text, concept) for job, text in zip(batch, written, strict=True)]
            tokens = [text.tokens for text in written]
            own = [(job.prompt.ids, new) for job, new in zip(batch, tokens, strict=True)]
            if costs:
                found = _costs(model, sae, batch, tokens)
                others = negative_log_likelihood(
                    model, [(job.other_prompt.ids, new) for job, new in zip(batch, tokens, strict=True)], batch_size
                )
                for job, record, of, other in zip(batch, records, found, others, strict=True):
                    place = job.settings["prompt"], job.settings["seed"]
                    if job.settings["condition"] == "none":
                        profiles[place] = of.profile
                    record |= {"nll": of.nll, "kl": of.kl, "relevance": other - of.nll}
                    own_features = [i for edit in job.run.edits for i in edit.changed_features()]
                    record["drift"] = drift(of.profile, profiles[place], [*edited, *own_features])
            else:
                for record, nll in zip(records, negative_log_likelihood(model, own, batch_size), strict=True):
                    record["nll"] = nll
            if log is not None:
                log.append(records)
            done |= {job.key: record for job, record in zip(batch, records, strict=True)}
            bar.update(len(batch))
    return [done[job.key] for job in jobs]


def _record(job: _Job, text: Generation, concept: PresentIn) -> dict[str, Any]:
    return job.settings | {
        "text": text.text,
        "tokens": list(text.tokens),
        "concept_present": bool(concept.present(text.text)),
        "nll": None,
        "repetition": repetition(text.tokens),
        "n_tokens": len(text.tokens),
        "finish_reason": text.finish_reason,
    }


def _costs(model: LanguageModel, sae: SAE, jobs: Sequence[_Job], tokens: Sequence[Sequence[int]]) -> list[Cost]:
    texts = [
        TextSample(job.prompt.ids, job.run.ids, tuple(new), job.run.edits)
        for job, new in zip(jobs, tokens, strict=True)
    ]
    return [found for at in range(0, len(texts), N_COSTED) for found in cost(model, sae, texts[at : at + N_COSTED])]
