"""The measures of one feature with their jackknife intervals over documents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..statistics import MIN_UNITS, Estimate, exact_interval, jackknife_estimate
from .leave_one_out import LeaveOneOut
from .sparse_statistics import Floats

UNIT = "documents"
STRATIFIED = ("auroc", "recall", "top_recall")
"""They do not depend on how many documents hold the concept; the others do, and another corpus would have others."""


def estimates(
    points: Mapping[str, float], without: LeaveOneOut, reasons: Mapping[str, str], level: float
) -> dict[str, Estimate]:
    """An estimate of each point, by name; a reason says why a point is undefined.

    What limits an interval is the number of documents that a measure is about: for a precision those where the feature
    fires, for an AUROC those with the concept or those without it, whichever are fewer, for the rest those with it.
    """
    strata = without.holds.astype(np.int64)
    out = {}
    for name, point in points.items():
        left_out, informative, n_units = _informative(name, without)
        if math.isnan(point):
            out[name] = Estimate(point, level=level, reason=reasons.get(name, ""), n_units=n_units, unit=UNIT)
            continue
        found = jackknife_estimate(
            point,
            left_out,
            strata=strata if name in STRATIFIED else None,
            bias_corrected=name == "average_precision",
            informative=informative,
            unit=UNIT,
            level=level,
        )
        out[name] = replace(found, n_units=n_units)
    if without.n_holding >= MIN_UNITS and "recall" in out:
        everywhere, alike = points["recall"] == 1, math.isnan(out["recall"].low)
        for name, floor in (("recall", 0.0), ("auroc", 0.5), ("average_precision", 0.0)):
            known = name in out and not math.isnan(out[name].value) and (out[name].n_units or 0) >= MIN_UNITS
            if known and alike:
                out[name] = _with_exceptions(out[name], floor, without.n_holding, level)
            elif known and everywhere and name == "auroc":
                out[name] = replace(out[name], low=_with_exceptions(out[name], floor, without.n_holding, level).low)
    return out


def _with_exceptions(found: Estimate, floor: float, n_holding: int, level: float) -> Estimate:
    """An estimate whose interval allows for as many exceptions as documents without one do.

    Where the feature fires on the same part of the concept in every document, on all of it or on one token of two,
    what another document would change is not in the variance. 0 of n documents are an exception, which has an exact
    limit; an exception lies anywhere between `floor`, a feature that is silent there, and 1.
    """
    exceptions = exact_interval(0, n_holding, level).high
    low = found.value - exceptions * max(found.value - floor, 0.0)
    high = found.value + exceptions * (1 - found.value)
    ends = (low, high) if math.isnan(found.low) else (min(low, found.low), max(high, found.high))
    return replace(found, low=ends[0], high=ends[1], reason="")


def _informative(name: str, without: LeaveOneOut) -> tuple[Floats, npt.NDArray[np.bool_], int]:
    """What a measure is without each unit, the units that it is about, and how many documents these are."""
    if name in ("top_precision", "top_recall"):
        left_out: Floats = getattr(without, name.replace("top", "bin"))[-1]
        if name == "top_precision":
            return left_out, without.bin_fires[-1], int(without.bin_documents[-1])
        return left_out, without.holds, without.n_holding
    left_out = getattr(without, name)
    if name == "precision":
        return left_out, without.fires, without.n_firing
    if name == "auroc" and without.n_opposing < without.n_holding:
        return left_out, without.opposes, without.n_opposing
    return left_out, without.holds, without.n_holding
