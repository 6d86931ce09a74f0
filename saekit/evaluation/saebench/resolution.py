"""What a score can resolve: its noise between reseeds, and the smallest difference between two SAEs that it can tell.

An evaluation draws at random: which documents a probe is trained on, which tokens are ablated. Run again on the same
SAE with other seeds it gives another score; the standard deviation over such runs is the reseed noise. Two SAEs differ
by more than chance where their scores differ by more than

    sqrt(2) * max(t * reseed noise, half the 95 % interval)

with the t quantile for as many seeds: the noise of a difference of two, by whichever of its two measures is larger.
Both hold some of the same noise (a reseed draws other held-out documents too), so they are not added. Training two SAEs
from other seeds adds noise that this does not see.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from ...errors import ConfigError
from ...statistics import LEVEL, jackknife_bounds
from ...statistics.jackknife import Scale
from .displays import score_comparison_html

N_RESEEDS = 3
"""Further seeds that an evaluation is run with."""


def reseeds(seed: int, n_reseeds: int) -> list[int]:
    """The seed and those of its reseeds; ConfigError for a negative number of them."""
    if isinstance(n_reseeds, bool) or not isinstance(n_reseeds, int) or n_reseeds < 0:
        raise ConfigError("n_reseeds is not a count", got=n_reseeds, accepted="an integer of at least 0")
    return [seed + 1000 * i for i in range(1 + n_reseeds)]


def leave_one_out(n: int) -> Float[np.ndarray, "rows n"]:
    """Weights of n units: first 1 for each, then for each unit 0 for it and 1 for the others."""
    return np.concatenate([np.ones((1, n)), 1 - np.eye(n)])


def interval(
    draws: Float[np.ndarray, " rows"], scale: Scale = "logit", strata: Int[np.ndarray, " n"] | None = None
) -> tuple[float, float, float]:
    """(value, low, high) of a statistic computed with each row of `leave_one_out`."""
    low, high = jackknife_bounds(draws[:1], draws[None, 1:], scale=scale, strata=strata)
    return float(draws[0]), float(low[0]), float(high[0])


def smallest_difference(values: Sequence[float], low: float, high: float) -> tuple[float, float]:
    """(reseed noise, smallest difference that can be told) of the scores of all seeds, the first's interval given.

    Both are nan for one seed; the second also where there is no interval.

    >>> from saekit.evaluation.saebench.resolution import smallest_difference
    >>> [round(v, 3) for v in smallest_difference([0.80, 0.82, 0.81, 0.81], 0.70, 0.90)]
    [0.008, 0.141]
    """
    from scipy.stats import t

    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    if len(known) < 2:
        return math.nan, math.nan
    noise = float(known.std(ddof=1))
    quantile = float(t.ppf((1 + LEVEL) / 2, len(known) - 1))
    half = (high - low) / 2
    return noise, math.nan if math.isnan(half) else math.sqrt(2) * max(quantile * noise, half)


def resolution_text(noise: float, resolves: float) -> str:
    """The two in words."""
    if math.isnan(noise):
        return "reseed noise not measured: pass n_reseeds=3 or more"
    smallest = "unknown: there is no interval" if math.isnan(resolves) else f"{resolves:.3f}"
    return f"reseed noise {noise:.3f}; smallest difference between two SAEs that it can tell {smallest}"


def cell(row: pd.Series, name: str) -> str:
    """A number of a table with its interval, where there is one."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return f"{row[name]:.3f}" + ("" if math.isnan(low) else f" [{low:.3f}, {high:.3f}]")


def headline(
    what: str, rows: pd.DataFrame, column: str, *, unit: str = "documents", higher_is_better: bool = True
) -> dict[str, Any]:
    """What `Scored.headline` gives, of the first row of a table."""
    row = rows.iloc[0]
    known = {"value": "", "low": "_low", "high": "_high", "reseed_sd": "_sd", "smallest_difference": "_resolves"}
    found = {name: float(row[column + end]) for name, end in known.items()}
    return {"what": what, **found, "n_units": int(row["n_units"]), "unit": unit, "higher_is_better": higher_is_better}


class Scored(Protocol):
    """A result with a score of its own."""

    @property
    def sae(self) -> str: ...

    def headline(self, at: int | None = None) -> dict[str, Any]:
        """what, value, low, high, n_units, reseed_sd, smallest_difference, and whether higher is better."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreComparison:
    """Scores of several SAEs, ranked as far as they can be told apart. Prints as a table."""

    what: str
    """The score."""
    frame: pd.DataFrame
    """One row for each SAE; see `compare_scores`."""

    def to_frame(self) -> pd.DataFrame:
        """One row for each SAE."""
        return self.frame.copy()

    def plot(self) -> Any:
        """The scores with their intervals, and the smallest difference that can be told, as a plotly figure."""
        from .plots import plot_score_comparison

        return plot_score_comparison(self)

    def __repr__(self) -> str:
        lines = [self.what]
        for name, row in self.frame.iterrows():
            bounds = "no interval" if math.isnan(row["low"]) else f"[{row['low']:.3f}, {row['high']:.3f}]"
            place = f"rank {row['rank']}" if not pd.isna(row["rank"]) else "not ranked"
            line = f"  {name}: {row['value']:.3f} {bounds}, {row['n_units']} {row['unit']}; {place}"
            if row["cannot_tell_apart"]:
                line += ", cannot tell apart from " + ", ".join(row["cannot_tell_apart"])
            lines.append(line)
        return "\n".join(lines)

    __str__ = __repr__
    _repr_html_ = score_comparison_html


def compare_scores(results: Sequence[Scored], *, at: int | None = None) -> ScoreComparison:
    """SAEs by one score of this package, with ranks only where the score can tell them from all others.

    `results` are those of one function for several SAEs; `at` is the number of features (k or n) where the score
    depends on it, the first of the result's by default. The frame has value, low, high, n_units, unit, reseed_sd,
    smallest_difference, rank and cannot_tell_apart, the names of the SAEs whose score differs by no more than the
    smallest difference. ConfigError for fewer than two results, or for results of different functions.

    >>> saes = [sae, sk.SAE(sae.config)]
    >>> results = sk.sparse_probing(model, saes, corpus, label="topic", ks=(1,), length=16, progress=False)
    >>> sk.compare_scores(results).frame["cannot_tell_apart"].map(len).tolist()
    [1, 1]
    """
    kinds = {type(r).__name__ for r in results}
    if len(results) < 2 or len(kinds) > 1:
        raise ConfigError(
            "not scores of one kind to be compared",
            got=f"{len(results)} results: {', '.join(sorted(kinds)) or 'none'}",
            accepted="two or more results of one function",
        )
    lines = [r.headline(at) for r in results]
    plain = [r.sae for r in results]
    names = [name if plain.count(name) == 1 else f"{i}: {name}" for i, name in enumerate(plain)]
    value = np.array([line["value"] for line in lines])
    resolves = np.array([line["smallest_difference"] for line in lines])
    apart = np.abs(value[:, None] - value) > np.sqrt((resolves[:, None] ** 2 + resolves**2) / 2)
    np.fill_diagonal(apart, True)
    sign = -1 if lines[0]["higher_is_better"] else 1
    order = np.argsort(np.argsort(sign * value, kind="stable"), kind="stable") + 1
    frame = pd.DataFrame(lines, index=pd.Index(names, name="sae")).drop(columns=["what", "higher_is_better"])
    frame["rank"] = pd.array([int(o) if a.all() else pd.NA for o, a in zip(order, apart, strict=True)], dtype="Int64")
    frame["cannot_tell_apart"] = [tuple(names[j] for j in np.flatnonzero(~row)) for row in apart]
    return ScoreComparison(what=str(lines[0]["what"]), frame=frame)
