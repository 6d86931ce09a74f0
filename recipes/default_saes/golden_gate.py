"""Which feature makes the model bring up the Golden Gate Bridge, or a bridge at least, and how surely.

Candidates fire for bridges, or write of them, and raise their words when clamped. They are screened by what the model
says under their clamp on the demo's six questions, and the best are run on twenty others that had no say in the choice,
beside matched features at the same strength. Firing is not causing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

import saekit as sk
from saekit.atomic_io import read_json, write_json
from saekit.steering.questions import REPORTING_QUESTIONS, SCREENING_QUESTIONS

BRIDGE = sk.Concept.regex(r"golden gate|\bbridges?\b", name="a bridge")
WORDS = (" bridge", " Bridge", " bridges", " Golden", " Gate")
"""Next tokens of a model that writes about the bridge."""
STRENGTHS = (0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6)
"""Shares of the residual norm."""
READABLE_NLL, READABLE_REPETITION = 1.5, 0.15
"""A text is called readable up to this much negative log-likelihood above the unsteered text's, in nats a token, and up
to this share of repeated 4-grams, of which one sentence said twice in forty tokens has more."""
N_CANDIDATES, N_SCREENED = 20, 10


def search(
    model: sk.LanguageModel,
    sae: sk.SAE,
    index: sk.FeatureIndex,
    path: Path,
    *,
    n_screened: int = N_SCREENED,
    strengths: tuple[float, ...] = STRENGTHS,
    n_final: int = 2,
    max_new_tokens: int = 40,
) -> dict[str, Any]:
    """The search's account, written to `path` step by step; steps that are there are passed over."""
    done: dict[str, Any] = read_json(path) if path.exists() else {}
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
                "texts": texts(study),
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
                controls=5,
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
    """The strength that brings up a bridge most often while the text is readable; of equal ones the smallest."""
    rows = study.summary[study.summary["condition"] == "feature"]
    rows = rows[
        (rows["nll_increase"] <= READABLE_NLL) & (rows["repetition"] <= READABLE_REPETITION) & (rows["rate"] > 0)
    ]
    return float(rows.loc[rows["rate"].idxmax(), "strength"]) if len(rows) else None


def best(done: dict[str, Any]) -> list[str]:
    """The screened features with a strength at which the text is readable, by how often it brought up a bridge."""

    def rate(feature: str) -> float:
        at = done["screening"][feature]["strength"]
        rows = done["screening"][feature]["summary"]
        return max(row["rate"] for row in rows if row["condition"] == "feature" and row["strength"] == at)

    usable = [f for f, screened in done["screening"].items() if screened["strength"] is not None]
    return sorted(usable, key=rate, reverse=True)


def texts(study: sk.SteeringStudy) -> list[dict[str, Any]]:
    frame = study.to_frame()
    columns = ["condition", "feature", "strength", "prompt", "text", "concept_present", "nll", "repetition"]
    frame = frame[columns].assign(golden_gate=frame["text"].str.contains("golden gate", case=False))
    return frame.round(4).astype(object).where(frame.notna(), None).to_dict("records")


def account(study: sk.SteeringStudy, strength: float) -> dict[str, Any]:
    """Counts by condition, how readable the answers are, and the answers."""
    rows = pd.DataFrame(texts(study))
    groups = rows.groupby("condition", sort=False)
    counts = pd.DataFrame(
        {
            "n": groups.size(),
            "bridge": groups["concept_present"].sum(),
            "golden_gate": groups["golden_gate"].sum(),
            "nll": groups["nll"].mean(),
            "repetition": groups["repetition"].mean(),
        }
    )
    by_control = rows[rows["condition"] == "control"].groupby("feature")["concept_present"].sum()
    return {
        "strength": strength,
        "counts": counts.astype(float).round(4).to_dict("index"),
        "summary": study.summary.round(4).to_dict("records"),
        "texts": rows.to_dict("records"),
        "controls": {int(f): int(n) for f, n in by_control.items()},
    }


def report(feature: str, found: dict[str, Any]) -> str:
    lines = [
        f"feature {feature} clamped at {found['strength']:g} of the residual norm, {len(REPORTING_QUESTIONS)} questions"
    ]
    for condition, c in found["counts"].items():
        lines.append(
            f"  {condition:<9}{c['bridge']:.0f} of {c['n']:.0f} bring up a bridge, {c['golden_gate']:.0f} the Golden "
            f"Gate; nll {c['nll']:.2f}, repetition {c['repetition']:.2f}"
        )
    for row in [r for r in found["texts"] if r["condition"] == "feature"][:4]:
        lines.append(f"    {row['prompt']} - {' '.join(row['text'].split())[:110]}")
    return "\n".join(lines)
