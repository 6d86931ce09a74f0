"""Which feature makes the model mention the Golden Gate Bridge, or at least a bridge, and how reliably.

Candidates fire for bridges or promote the words for them. They are screened by what the model answers to six questions
while each is clamped, and the best are reported on twenty other questions, beside twenty matched features at the same
strength with one answer each, because a feature that fires for a concept need not cause it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

import saekit as sk
from saekit.atomic_io import write_json
from saekit.steering.questions import REPORTING_QUESTIONS, SCREENING_QUESTIONS

from ..results import load_results

BRIDGE = sk.Concept.regex(r"golden gate|\bbridges?\b", name="a bridge")
WORDS = (" bridge", " Bridge", " bridges", " Golden", " Gate")
"""Next tokens of a model that writes about the bridge."""
MAX_NLL_INCREASE, MAX_REPETITION = 1.5, 0.15
"""A text counts as readable up to this negative log-likelihood above the unsteered text's, in nats per token, and up to
this fraction of repeated 4-grams; one sentence repeated once within forty tokens exceeds it."""
N_CANDIDATES = 20


def search(
    model: sk.LanguageModel,
    sae: sk.SAE,
    index: sk.FeatureIndex,
    path: Path,
    *,
    n_screened: int,
    strengths: tuple[float, ...],
    n_final: int,
    max_new_tokens: int,
) -> dict[str, Any]:
    """Candidates, screening and final studies, added to `path` step by step; finished steps are kept.

    Strengths are fractions of the residual norm.
    """
    done = load_results(path)
    plan = {"sae": sae.fingerprint, "strengths": list(strengths), "max_new_tokens": max_new_tokens}
    if done.get("plan") != plan:
        table = sk.steering_features(model, sae, index, BRIDGE, WORDS, n=N_CANDIDATES)
        done = {
            "plan": plan,
            "candidates": table.round(4).reset_index().to_dict("records"),
            "screening": {},
            "final": {},
        }
        print(table.head(n_screened).round(3).to_string(), flush=True)
    for row in done["candidates"][:n_screened]:
        if (feature := str(row["feature"])) not in done["screening"]:
            study = sk.dose_response(
                model,
                sae,
                int(feature),
                SCREENING_QUESTIONS,
                BRIDGE,
                strengths,
                controls=0,
                max_new_tokens=24,
                progress=False,
            )
            done["screening"][feature] = {
                "strength": readable(study),
                "recommended": study.recommended,
                "texts": records(texts(study)),
                "summary": study.summary.round(4).to_dict("records"),
            }
            print(study, flush=True)
            write_json(path, done)
    for feature in best(done)[:n_final]:
        if feature not in done["final"]:
            strength = done["screening"][feature]["strength"]
            study = sk.dose_response(
                model,
                sae,
                int(feature),
                REPORTING_QUESTIONS,
                BRIDGE,
                [strength],
                choose=(),
                index=index,
                max_new_tokens=max_new_tokens,
                progress=False,
            )
            done["final"][feature] = account(study, strength)
            print(report(feature, done["final"][feature]), flush=True)
            write_json(path, done)
    write_json(path, done)
    return done


def readable(study: sk.SteeringStudy) -> float | None:
    """The strength with the highest rate at which the text is readable; of equal ones the smallest.

    `SteeringStudy.recommended` bounds repetition by the unsteered text's instead, and prefers gentler strengths.
    """
    rows = study.summary[study.summary["condition"] == "feature"]
    fluent = (rows["nll_increase"] <= MAX_NLL_INCREASE) & (rows["repetition"] <= MAX_REPETITION)
    rows = rows[fluent & (rows["rate"] > 0)]
    best_first = rows.sort_values("rate", ascending=False, kind="stable")
    return float(best_first["strength"].iloc[0]) if len(rows) else None


def best(done: dict[str, Any]) -> list[str]:
    """The screened features with a readable strength, by their rate at it."""

    def rate(feature: str) -> float:
        at = done["screening"][feature]["strength"]
        rows = done["screening"][feature]["summary"]
        return max(float(row["rate"]) for row in rows if row["condition"] == "feature" and row["strength"] == at)

    usable = [f for f, screened in done["screening"].items() if screened["strength"] is not None]
    return sorted(usable, key=rate, reverse=True)


def texts(study: sk.SteeringStudy) -> pd.DataFrame:
    """The study's texts, and whether each names the Golden Gate."""
    columns = ["condition", "feature", "strength", "prompt", "text", "concept_present", "nll", "repetition"]
    frame = study.to_frame()[columns]
    return frame.assign(golden_gate=frame["text"].str.contains("golden gate", case=False)).round(4)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as JSON values."""
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{str(key): value for key, value in row.items()} for row in rows]


def counts(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """How many texts of each group mention a bridge and the Golden Gate, and how fluent the texts are on average."""
    groups = frame.groupby(by, sort=False)
    table = pd.DataFrame(
        {
            "n": groups.size(),
            "bridge": groups["concept_present"].sum(),
            "golden_gate": groups["golden_gate"].sum(),
            "nll": groups["nll"].mean(),
            "repetition": groups["repetition"].mean(),
        }
    )
    return table.astype(float).round(4)


def account(study: sk.SteeringStudy, strength: float) -> dict[str, Any]:
    """The study as JSON values: counts by condition and by control, the summary, and the texts."""
    frame = texts(study)
    controls = frame[frame["condition"] == "control"].groupby("feature")["concept_present"].sum()
    by_condition = counts(frame, ["condition"]).reset_index()
    return {
        "strength": strength,
        "counts": {row.pop("condition"): row for row in records(by_condition)},
        "summary": study.summary.round(4).to_dict("records"),
        "texts": records(frame),
        "controls": dict(zip(controls.index.astype(int).tolist(), controls.tolist(), strict=True)),
    }


def report(feature: str, found: dict[str, Any]) -> str:
    """What clamping a feature did, in lines."""
    lines = [
        f"feature {feature} clamped at {found['strength']:g} of the residual norm, {len(REPORTING_QUESTIONS)} questions"
    ]
    for condition, c in found["counts"].items():
        lines.append(
            f"  {condition:<9}{c['bridge']:.0f} of {c['n']:.0f} mention a bridge, {c['golden_gate']:.0f} the Golden "
            f"Gate; nll {c['nll']:.2f}, repetition {c['repetition']:.2f}"
        )
    for row in [r for r in found["texts"] if r["condition"] == "feature"][:4]:
        lines.append(f"    {row['prompt']} - {' '.join(row['text'].split())[:110]}")
    return "\n".join(lines)
