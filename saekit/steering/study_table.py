"""The table of a steering study: every figure with its interval, and what the interval counts.

Texts to one prompt are alike, and so are texts under one control feature. Intervals are over prompts, or over features
where a figure is about control features: rates with the effective number of texts (`clustered_proportion`), means with
the jackknife (`clustered_mean`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pandas as pd

from ..statistics import Estimate, clustered_mean, clustered_proportion
from ..statistics.jackknife import Scale

CONDITIONS = ("none", "instruction", "direction", "feature", "control")
"""In the order they are shown."""
COSTS = ("kl", "relevance", "drift")
MEANS = ("nll", "nll_increase", "repetition", *COSTS)


def summarise(generations: pd.DataFrame, prompts: Collection[str]) -> pd.DataFrame:
    """One row per condition and strength, over the texts to these prompts."""
    rows = []
    for (condition, strength), texts in arms(generations, prompts):
        found = estimates(condition, texts)
        row: dict[str, Any] = {
            "condition": condition,
            "strength": strength,
            "n_texts": len(texts),
            "n_units": found["rate"].n_units,
            "unit": found["rate"].unit,
        }
        for name, estimate in found.items():
            row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        rows.append(row)
    return pd.DataFrame(rows)


def arms(generations: pd.DataFrame, prompts: Collection[str]) -> Iterable[tuple[tuple[str, float], pd.DataFrame]]:
    """The texts of each condition and strength to these prompts, with what each costs beside the unsteered one."""
    here = generations[generations["prompt"].isin(list(prompts))]
    unsteered = here[here["condition"] == "none"].set_index(["prompt", "seed"])["nll"]
    pair = pd.MultiIndex.from_frame(here[["prompt", "seed"]])
    here = here.assign(nll_increase=here["nll"].to_numpy() - unsteered.reindex(pair).to_numpy())
    for condition in CONDITIONS:
        chosen = here[here["condition"] == condition]
        for strength in dict.fromkeys(chosen["strength"]):
            yield (condition, float(strength)), chosen[chosen["strength"] == strength]


def estimates(condition: str, texts: pd.DataFrame) -> dict[str, Estimate]:
    """The rate of the concept and the means, over prompts; over features where the texts are the controls'."""
    by, unit = ("feature", "features") if condition == "control" else ("prompt", "prompts")
    groups = [group for _, group in texts.groupby(by, sort=False)]
    hits = [int(group["concept_present"].sum()) for group in groups]
    found = {"rate": clustered_proportion(hits, [len(group) for group in groups], unit=unit)}
    for name in MEANS:
        if name in texts:
            values = [group[name].to_numpy(float) for group in groups]
            scale: Scale = "logit" if name == "repetition" else "identity"  # a fraction has no limit below 0
            found[name] = clustered_mean(values, scale=scale, unit=unit)
    return found
