"""What a specificity panel shows, as plain values and bytes: of an index, a concept and a feature."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..index.feature_records import make_context
from ..specificity.concept_grammar import write_label
from ..specificity.concept_masks import documents_with
from ..specificity.concepts import Concept
from ..specificity.document_content import document_of
from ..specificity.examples import ClassifiedExamples
from ..specificity.measures import MEASURES
from ..specificity.result import SpecificityResult
from .base import pack, shown
from .feature_card import context_data

if TYPE_CHECKING:
    from ..index import FeatureIndex

N_SNIPPETS = 4
N_CONTEXTS = 60
"""Contexts of each kind: false alarms, hits, misses."""
PER_DOCUMENT = 3
"""Contexts of a document that come before those of others have been shown."""
MAX_POINTS = 50_000
"""Thresholds that are sent at most; beyond, some of them spread over the ranks, each with its exact counts."""
N_GRID = 64
"""Thresholds of the band."""
BEFORE, AFTER = 24, 14
MAX_VALUES = 200
Ints = npt.NDArray[np.int64]


def preview_of(index: FeatureIndex, concept: Concept, unit: str) -> dict[str, Any]:
    """How many tokens and documents a concept holds for, and a few places."""
    flat, document, kept = concept.flat_mask(index), document_of(index), np.asarray(index.kept)
    at, numbers = kept[flat[kept]], np.asarray(index.documents.index)
    holding = np.unique(document[at]) if unit == "token" else numbers[documents_with(concept, index)]
    holding = holding[np.isin(holding, document[document >= 0])]
    some = holding[np.unique(np.linspace(0, len(holding) - 1, min(N_SNIPPETS, len(holding))).astype(int))]
    return {
        "concept": concept.name,
        "unit": unit,
        "n_tokens": len(at),
        "n_documents": len(holding),
        "snippets": [_snippet(index, flat, document, int(n)) for n in some],
        "nothing": "",
    }


def labels_of(index: FeatureIndex) -> dict[str, list[dict[str, Any]]]:
    """The labels that documents can be picked by: for each value what is shown, what is written, and how many."""
    out: dict[str, list[dict[str, Any]]] = {}
    for label in index.documents.columns:
        known = index.documents[label].dropna()
        if not known.head(100).map(lambda v: isinstance(v, (str, bool, int, float, np.generic))).all():
            continue
        counts = known.value_counts()
        values = [v.item() if hasattr(v, "item") else v for v in counts.index]
        if 2 <= len(counts) <= MAX_VALUES and all(isinstance(v, (str, bool, int, float)) for v in values):
            out[str(label)] = [
                {"shown": shown(str(v)), "written": write_label(str(label), [v]), "n": int(n)}
                for v, n in zip(values, counts, strict=True)
            ]
    return out


def scores_of(examples: ClassifiedExamples, feature: int, controls: list[int]) -> dict[str, Any]:
    """The activations of a feature, strongest first, with the firings and hits at and above each, as bytes."""
    example, value, _ = examples.scored(feature)
    order = np.argsort(-value, kind="stable")
    value, hit = value[order], np.cumsum(examples.match[example][order])
    last = np.flatnonzero(np.append(value[1:] != value[:-1], True)) if len(value) else np.zeros(0, dtype=np.int64)
    if len(last) > MAX_POINTS:
        last = last[np.unique(np.linspace(0, len(last) - 1, MAX_POINTS).astype(np.int64))]
    return {
        "feature": feature,
        "unit": examples.unit,
        "n": examples.n,
        "n_positive": examples.n_positive,
        "max": float(value.max(initial=0)),
        "value": pack(value[last], "float32"),
        "n_firings": pack(last + 1, "int32"),
        "n_hits": pack(hit[last], "int32"),
        "band": _band(examples, controls, float(value.max(initial=0))),
    }


def contexts_of(examples: ClassifiedExamples, feature: int) -> list[dict[str, Any]]:
    """False alarms, strongest first; hits, weakest first; and places of the concept where the feature is silent, those
    first whose token it mostly fires on."""
    index = examples.index
    firings = index.firings(feature)
    example, value, position = examples.scored(feature)
    match = examples.match[example]
    silent = examples.match.copy()
    silent[example] = False
    missed = np.flatnonzero(silent)
    groups = (
        ("false alarm", example[~match], position[~match], -value[~match]),
        ("hit", example[match], position[match], value[match]),
        ("miss", missed, examples.position[missed], -_usual(examples, example[match], missed)),
    )
    out = []
    for group, of, places, key in groups:
        chosen = _first(key, examples.document[of])
        for i in chosen.tolist():
            context = make_context(index, int(places[i]), firings, BEFORE, AFTER)
            at = int(places[i]) if examples.unit == "token" else context.document
            out.append({**context_data(context), "at": at, "unit": examples.unit, "group": group})
    return out


def rows_of(table: pd.DataFrame, by: str) -> list[dict[str, Any]]:
    """The ranking, a row a feature, as the front end draws it."""
    columns = ["average_precision", "auroc", "f1", "precision", "recall"]
    ends = [f"{name}_{end}" for name in columns for end in ("low", "high")]
    wanted = [c for c in [*columns, *ends, "p_value", "n_firings", "n_matches", "max"] if c in table]
    wanted += [c for c in ("n_positive_documents", "n_firing_documents") if c in table]
    return [
        {"feature": int(feature), "choose": number(row[f"choose_{by}"]), **{c: number(row[c]) for c in wanted}}
        for feature, row in zip(table.index, table.to_dict("records"), strict=True)
    ]


def measures_of(result: SpecificityResult) -> dict[str, Any]:
    """A result's figures as the front end draws them."""
    frame = result.to_frame()
    rows = [
        {
            "name": str(name),
            "label": MEASURES.get(str(name), "base rate"),
            **{c: number(row[c]) for c in ("value", "low", "high", "n_units", "controls_mean", "controls_best")},
            "reason": row["reason"],
        }
        for name, row in zip(frame.index, frame.to_dict("records"), strict=True)
    ]
    return {
        "feature": result.feature,
        "concept": result.concept.name,
        "unit": result.unit,
        "level": result.level,
        "rows": rows,
        "protocol": result.protocol,
        "test": str(result.test),
        "p": result.test.p,
        "notes": list(result.notes),
        "n_controls": len(result.controls),
        "n": result.n,
        "n_positive": result.n_positive,
        "n_documents": result.n_documents,
        "n_positive_documents": result.n_positive_documents,
    }


def number(value: Any) -> float | int | None:
    """A finite number with six digits, None for any other."""
    if isinstance(value, (int, np.integer)):
        return int(value)
    value = float(value)
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) < 1e15 else float(f"{value:.6g}")


def _snippet(index: FeatureIndex, flat: npt.NDArray[np.bool_], document: Ints, number: int) -> dict[str, Any]:
    """A place in a document: its first stretch of the concept, or its beginning."""
    here = np.flatnonzero(document == number)
    of = here[flat[here]]
    centre = int(of[0] if len(of) else here[0])
    window = centre // index.length
    first = max(window * index.length, centre - 8)
    last = min(window * index.length + int(index.windows.lengths[window]), centre + 16)
    places = np.arange(first, last)
    places = places[document[places] == number]
    return {
        "document": number,
        "tokens": index.token_strings(places),
        "of": [bool(b) for b in flat[places]],
        "labels": {str(k): shown(str(v)) for k, v in index.documents.loc[number].items() if v is not None},
    }


def _band(examples: ClassifiedExamples, controls: list[int], highest: float) -> dict[str, Any]:
    """Precision and recall of matched features along the threshold: mean, lowest and highest of them."""
    if not controls or not highest:
        return {"n": 0}
    grid = highest * np.arange(N_GRID) / (N_GRID - 1)
    grid[0] = np.nextafter(np.float32(0), np.float32(1))
    precision, recall = np.full((2, len(controls), N_GRID), np.nan)
    done = 0
    for some, start, example, value in examples.blocks(controls):
        for i in range(len(some)):
            at = slice(int(start[i]), int(start[i + 1]))
            order = np.argsort(-value[at], kind="stable")
            n = np.searchsorted(-value[at][order].astype(np.float64), -grid, side="right")
            hits = np.concatenate([[0], np.cumsum(examples.match[example[at]][order])])[n]
            precision[done + i] = np.where(n > 0, hits / np.maximum(n, 1), np.nan)
            if examples.n_positive:
                recall[done + i] = hits / examples.n_positive
        done += len(some)
    out: dict[str, Any] = {"n": len(controls), "threshold": pack(grid, "float32")}
    for name, curves in (("precision", precision), ("recall", recall)):
        known = ~np.isnan(curves)
        n = known.sum(0)
        mean = np.where(known, curves, 0).sum(0) / np.where(n > 0, n, np.nan)
        low = np.where(n > 0, np.where(known, curves, np.inf).min(0), np.nan)
        high = np.where(n > 0, np.where(known, curves, -np.inf).max(0), np.nan)
        out |= {f"{name}_{part}": pack(v, "float32") for part, v in (("mean", mean), ("low", low), ("high", high))}
    return out


def _usual(examples: ClassifiedExamples, fires: Ints, missed: Ints) -> npt.NDArray[np.float64]:
    """For each missed example, the fraction of the concept's examples with the same token that the feature fires on."""
    if not len(missed):
        return np.zeros(0)
    tokens = np.asarray(examples.index.windows.tokens).reshape(-1)[examples.position]
    positive = np.flatnonzero(examples.match)
    _, of = np.unique(tokens[positive], return_inverse=True)
    place = np.full(examples.n, -1)
    place[positive] = of
    n, hits = np.bincount(of), np.bincount(place[fires], minlength=int(of.max()) + 1)
    fraction: npt.NDArray[np.float64] = (hits / np.maximum(n, 1))[place[missed]]
    return fraction


def _first(key: npt.NDArray[Any], document: Ints) -> Ints:
    """The first examples by their key, only some of each document before all documents have had their turn."""
    order = np.argsort(key, kind="stable")[: 50 * N_CONTEXTS]
    seen: dict[int, int] = {}
    turn = np.zeros(len(order), dtype=np.int64)
    for i, number in enumerate(document[order].tolist()):
        seen[number] = seen.get(number, 0) + 1
        turn[i] = (seen[number] - 1) // PER_DOCUMENT
    chosen: Ints = order[np.argsort(turn, kind="stable")][:N_CONTEXTS]
    return chosen
