"""The HTML displays of a concept, of how well a feature stands for it, and of the evidence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..display import (
    Bars,
    Block,
    Intervals,
    Numbers,
    Words,
    chips,
    details,
    document,
    excerpt,
    facts,
    note,
    number,
    percent,
    sentence,
    shown,
    spans,
    table,
    words,
)
from .measures import MEASURES

if TYPE_CHECKING:
    from ..index.records import Context
    from .concepts import Concept
    from .permutation import FeatureTest
    from .result import EvidenceContext, SpecificityResult

N_CONTEXTS = 5
"""Contexts of each kind that are shown."""


@shown
def specificity_html(r: SpecificityResult) -> str:
    """The measures beside matched features, the p value, the activation range, and contexts that open."""
    rate = percent(float(r.base_rate))
    fires = f"fires on {r.n_firings:,} {r.unit}s, {r.n_matches:,} of them of the concept"
    return document(
        f"Feature {r.feature} for {r.concept.name!r}",
        f"on {r.protocol}",
        words(
            f"{r.n_positive:,} of {r.n:,} {r.unit}s belong to the concept ({rate}), in {r.n_positive_documents:,} of "
            f"{r.n_documents:,} documents; the feature {fires}."
        ),
        _measures(r),
        note(f"For a feature that was chosen among many: {r.test}."),
        *(note(text, warn=True) for text in map(sentence, r.notes)),
        details("By activation", _bins(r), opened=True),
        details("Where its activation goes", *_labels(r)),
        _contexts("Strongest on the concept", r.true_positives, r),
        _contexts("Strongest off the concept", r.false_positives, r),
        _contexts("Silent on the concept", r.misses, r),
    )


def _measures(r: SpecificityResult) -> Block | None:
    if not r.n_firings:
        return note("The feature never fires here: there is nothing to measure.")
    found = [getattr(r, name) for name in MEASURES]
    columns: list[Words | Numbers] = [
        Words("", list(MEASURES.values())),
        Intervals(
            "value",
            [e.value for e in found],
            low=[e.low for e in found],
            high=[e.high for e in found],
            reasons=[e.reason for e in found],
            axis=(0.0, 1.0),
        ),
        Numbers("documents", [e.n_units for e in found]),
    ]
    if n := len(r.controls):
        columns.append(Numbers(f"{n} matched, mean", [float(r.controls[name].mean()) for name in MEASURES]))
        columns.append(Numbers("best", [float(r.controls[name].max()) for name in MEASURES]))
    return table(columns)


def _bins(r: SpecificityResult) -> Block | None:
    if not r.n_firings:
        return None
    rows = r.bins.iloc[::-1]
    fraction = Intervals(
        "on the concept",
        list(rows["fraction"]),
        low=list(rows["fraction_low"]),
        high=list(rows["fraction_high"]),
        percent=True,
        axis=(0.0, 1.0),
    )
    counts = [Numbers("firings", list(rows["n_firings"])), Numbers("documents", list(rows["n_documents"]))]
    return table(
        [Words("activation", spans(list(rows["low"]), list(rows["high"]))), *counts, fraction], all_at=".bins has all"
    )


def _labels(r: SpecificityResult) -> list[Block | None]:
    blocks = []
    for label, rows in r.by_label[r.by_label["n_firings"] > 0].groupby("label", sort=False):
        rows = rows.head(8)
        share = Bars("of its activation", list(rows["activation_fraction"]), percent=True, top=1.0, activation=True)
        precision = Numbers("precision", list(rows["precision"]), percent=True)
        blocks.append(table([Words(str(label), list(rows["value"])), share, precision], all_at=".by_label has all"))
    return blocks


def _contexts(title: str, contexts: list[Context], r: SpecificityResult) -> Block | None:
    some = contexts[:N_CONTEXTS]
    texts = [excerpt(c.tokens, c.acts, top=r.max_activation, centre=c.centre) for c in some]
    more = f", {len(some)} of {len(contexts)}" if len(contexts) > len(some) else ""
    body = table([Words("", texts), Numbers("activation", [c.activation for c in some])]) if some else None
    return details(f"{title}{more}", body)


@shown
def concept_html(concept: Concept) -> str:
    """What it looks for."""
    values = {key: list(found) for key, found in concept.wanted}
    return document(
        f"Concept {concept.name!r}",
        repr(concept).partition(": ")[2] if concept.kind != "labels" else "tokens of documents with these labels",
        chips(concept.words, limit=40) if concept.kind == "keywords" else None,
        facts(values) if values else None,
        facts({"pattern": concept.pattern}) if concept.kind == "regex" else None,
    )


@shown
def feature_test_html(test: FeatureTest) -> str:
    """The p value, and what the feature is compared with."""
    return document(
        "Test of one feature",
        test.p,
        facts(
            {
                "AUROC by document": test.auroc,
                "best of all features for permuted labels, mean": test.best_mean,
                "the same, 95th percentile": test.best_95,
                "features searched": test.n_features,
                "permutations": test.n_permutations,
                "documents": f"{test.n_documents:,}, {test.n_positive:,} of them with the concept",
            }
        ),
        note("Specific: the corrected p value is below 0.05.") if test.specific else None,
    )


@shown
def evidence_html(e: EvidenceContext) -> str:
    """The context, and whether it belongs to the concept."""
    activation = "" if math.isnan(e.context.activation) else f", activation {number(e.context.activation)}"
    kind = f"{e.group}, {'of' if e.matches else 'not of'} the concept{activation}"
    return document("Evidence", kind, excerpt(e.context.tokens, e.context.acts, centre=e.context.centre))
