"""Steering as an experiment: a feature clamped at each strength, over prompts and seeds, against its baselines.

The baselines are texts without an edit, matched random features at the same strengths and, optionally, a direction
added at the same strengths and an instruction in the prompt. A feature that steers makes the concept appear where
controls of the same size do not, before the text degenerates. With a folder, a study that was stopped resumes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import pandas as pd
import torch
from tqdm.auto import tqdm

from ..activations import resolve_token_filter
from ..arguments import checks_arguments
from ..models import LanguageModel
from ..models.likelihood import negative_log_likelihood
from ..output_folder import digest_of_plan, output_folder, parts_of
from ..sae import SAE
from .control_features import control_features
from .directions import Direction
from .edits import Edit, Positions
from .fluency import repetition
from .generation import Generation, check_edits, complete
from .make_edits import add_direction, clamp
from .prompt_split import split_prompts
from .readout import Cost, TextSample, cost, drift
from .strength_units import StrengthUnit
from .study import SteeringStudy
from .study_jobs import Arm, Job, check_study, make_jobs
from .study_log import StudyLog

if TYPE_CHECKING:
    from ..index import FeatureIndex

N_COSTED = 8
"""Texts whose costs are read off side by side: their logits lie in memory."""


@runtime_checkable
class PresentIn(Protocol):
    """What a study needs of a concept."""

    def present(self, text: str) -> bool:
        """Whether the text shows the concept."""


@checks_arguments
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
    choose: Sequence[str] | None = None,
    controls: int | Sequence[int] = 20,
    texts_per_control: int = 1,
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
    are always included. A third of the prompts chooses the recommended strength and the others report it, or those in
    `choose` do and all of `prompts` report (`split_prompts`); choose=() when the strength is known beforehand.
    `controls` are feature numbers, or how many to pick: of similar density and maximum when `index` is given
    (FeatureIndex.matched_features), else at random; of several features each is matched. Each control answers
    `texts_per_control` of the reporting prompts, one after another: a claim about features counts features.
    `direction`, such as `mean_difference` gives, is added at the same strengths (not with unit "max"). `instruction` is
    a baseline that asks in words: the sentence is put behind each reporting prompt and nothing is edited (its nll is
    given the bare prompt). Several seeds need a temperature above 0. `costs=True` computes kl, relevance and drift as
    well (see `SteeringStudy.generations`), which takes about as long again. Texts of different strengths and features
    run side by side, batch_size at a time; each is what `generate` gives for that prompt, seed and edit. Special tokens
    and attention sinks are left unedited, and count in no feature's activation.

    With `out`, a folder, texts are saved as they are generated, and the same call resumes where it was stopped.

    Raises ConfigError, DataError, UnknownNameError and MismatchError for settings that do not fit, before anything is
    run; MismatchError when `out` holds another study, FolderInUseError while another process writes there.

    >>> concept = sk.Concept.keywords(["gate"])
    >>> study = sk.dose_response(model, sae, 3, ["the cat", "a mat"], concept, [0.5], controls=4, max_new_tokens=3,
    ...                          progress=False)
    >>> study.to_frame().groupby("condition").size().to_dict()
    {'control': 4, 'feature': 2, 'none': 2}
    """
    prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    strengths, seeds = [float(s) for s in strengths], list(seeds)
    weights = dict(feature) if isinstance(feature, Mapping) else {int(feature): 1.0}
    choose = [choose] if isinstance(choose, str) else choose
    check_study(prompts, strengths, seeds, weights, temperature, batch_size)
    split = split_prompts(prompts, choose)
    concept.present("")
    chosen = control_features(sae, list(weights), controls, index, seed=seeds[0])

    def edit(features: Sequence[int], strength: float) -> tuple[Edit, ...]:
        values = dict(zip(features, (w * strength for w in weights.values()), strict=True))
        return (clamp(sae, values, unit=unit, positions=positions, index=index),)

    first = next(iter(weights))
    arms = [Arm("none", None, 0.0)]
    arms += [Arm("instruction", None, 0.0)] if instruction is not None else []
    if direction is not None:
        for s in strengths:
            arms.append(Arm("direction", None, s, (add_direction(direction, s, unit=unit, positions=positions),)))
    arms += [Arm("feature", first, s, edit(list(weights), s)) for s in strengths]
    arms += [Arm("control", c[0], s, edit(c, s), n) for n, c in enumerate(chosen) for s in strengths]
    for arm in arms:
        check_edits(model, arm.edits)
    jobs = make_jobs(
        model,
        arms,
        split,
        seeds,
        chat=chat,
        prepend_bos=sae.config.prepend_bos,
        instruction=instruction,
        max_new_tokens=max_new_tokens,
        texts_per_control=texts_per_control,
    )
    maxima = dict.fromkeys(m for arm in arms for one in arm.edits if (m := getattr(one, "maxima", None)))
    described = {
        "model": model.fingerprint,
        "dtype": str(model.dtype),
        "sae": sae.fingerprint,
        "hook_name": sae.config.hook_name,
        "token_filter": resolve_token_filter(model, sae).to_dict(),
        "weights": {str(i): w for i, w in weights.items()},
        "choose": list(split.choose),
        "report": list(split.report),
        "read": digest_of_plan({"ids": [[list(job.prompt.ids), list(job.run.ids)] for job in jobs]}),
        "concept": repr(concept),
        "strengths": strengths,
        "unit": unit,
        "maxima": [list(of_features) for of_features in maxima],
        "edits": digest_of_plan({"edits": [[one.to_dict() for one in arm.edits] for arm in arms]}),
        "seeds": seeds,
        "controls": [list(matched) for matched in chosen],
        "texts_per_control": texts_per_control,
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
        feature=first,
        weights=weights,
        controls=tuple(matched[0] for matched in chosen),
        split=split,
        direction=direction.name if direction else None,
        concept=str(getattr(concept, "name", concept)),
        strengths=tuple(strengths),
        unit=unit,
        positions=positions,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        chat=chat,
        generations=pd.DataFrame(records).astype({"feature": "Int64"}),
        name="" if index is None else index.name(first),
    )


def _run(
    model: LanguageModel,
    sae: SAE,
    jobs: Sequence[Job],
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


def _record(job: Job, text: Generation, concept: PresentIn) -> dict[str, Any]:
    return job.settings | {
        "text": text.text,
        "tokens": list(text.tokens),
        "concept_present": bool(concept.present(text.text)),
        "nll": None,
        "repetition": repetition(text.tokens),
        "n_tokens": len(text.tokens),
        "finish_reason": text.finish_reason,
    }


def _costs(model: LanguageModel, sae: SAE, jobs: Sequence[Job], tokens: Sequence[Sequence[int]]) -> list[Cost]:
    texts = [
        TextSample(job.prompt.ids, job.run.ids, tuple(new), job.run.edits)
        for job, new in zip(jobs, tokens, strict=True)
    ]
    return [found for at in range(0, len(texts), N_COSTED) for found in cost(model, sae, texts[at : at + N_COSTED])]
