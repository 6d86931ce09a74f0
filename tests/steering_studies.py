"""Steering studies made by hand, a row for each text."""

from __future__ import annotations

from typing import Any

import pandas as pd

import saekit as sk
from conftest import HOOK


def row_of(condition: str, strength: float, prompt: str, shown: bool, feature: int | None = 3) -> dict[str, Any]:
    return {
        "condition": condition,
        "feature": None if condition == "none" else feature,
        "strength": strength,
        "prompt": prompt,
        "seed": 0,
        "text": "",
        "concept_present": shown,
        "nll": 1.0,
        "repetition": 0.0,
    }


def study_from(rows: list[dict[str, Any]], **fields: Any) -> sk.SteeringStudy:
    given: dict[str, Any] = {"controls": ()} | fields
    return sk.SteeringStudy(
        model_name="m",
        hook_name=HOOK,
        feature=3,
        weights={3: 1.0},
        direction=None,
        concept="c",
        unit="norm",
        positions="all",
        temperature=0.0,
        max_new_tokens=8,
        chat=True,
        generations=pd.DataFrame(rows),
        **given,
    )
