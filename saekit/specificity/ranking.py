"""The features that separate a concept best: chosen on half of the documents, shown on the other half."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from ..arguments import checks_arguments
from ..errors import ConfigError
from ..index.records import N_ACTIVATION_BINS
from .concepts import Concept
from .controls import f1_at, feature_statistics, feature_table
from .estimates import estimates
from .examples import ClassifiedExamples, Unit, classified_examples
from .leave_one_out import leave_one_out
from .measurement import among, check_counts
from .permutation import permutation_test
from .split import split_documents

if TYPE_CHECKING:
    from ..index import FeatureIndex

By = Literal["average_precision", "auroc", "f1", "precision"]

N_WITH_INTERVALS = 50
"""Rows that have intervals, from the first."""
SHOWN = ("auroc", "average_precision", "f1", "precision", "recall")


@checks_arguments
def rank_features(
    index: FeatureIndex,
    concept: Concept,
    *,
    unit: Unit = "token",
    by: By = "average_precision",
    n: int = 20,
    min_firings: int = 5,
    split: bool = True,
    n_permutations: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """The n features that separate a concept best, a row each, best first on the documents that choose.

    Documents are split in two halves, the same as in `specificity`: features are ranked on one, by the column
    `choose_` + `by` ("average_precision", "auroc", "f1" or "precision"), and every other figure is of the other half,
    where it is what `specificity` gives. Thresholds of F1 are chosen on the first half too. The first 50 rows have
    jackknife intervals (_low, _high): of a precision over n_firing_documents, of the rest over n_positive_documents;
    none from fewer than five. p_value is corrected for the search over all features: the fraction of `n_permutations`
    permuted labels for which the best feature of all is as good, by document and on all documents; nan with 0
    permutations. `table.attrs` says in words which documents were used (documents), the p value of "some feature fires
    for this" (p_any), and the best AUROC by document of any feature for permuted labels (best_auroc_mean,
    best_auroc_95).

    Features that fire on fewer than `min_firings` tokens (or documents), or on less than half as many of the half that
    chooses, are left out. Ties go to the feature with more matches, and of several
    that separate the concept perfectly on half of a small corpus to the one with the widest gap, in activation, below
    the threshold of its best F1. A concept that stands in a single text cannot be
    split: features are then ranked on all documents, and figures are nan. split=False ranks and shows on all documents,
    for those who report on another index: its figures are too good.

    >>> index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)
    >>> table = sk.rank_features(index, sk.Concept.regex("bridge"), n=3, n_permutations=19)
    >>> list(table.choose_average_precision) == sorted(table.choose_average_precision, reverse=True)
    True
    >>> table.attrs["documents"]
    'chosen on 20 of 40 documents, 4 of them with the concept; shown on the other 20, 4 of them with it'
    """
    if by not in ("average_precision", "auroc", "f1", "precision"):
        raise ConfigError("cannot rank by that", got=by, accepted="average_precision, auroc, f1 or precision")
    check_counts(n=n, min_firings=min_firings)
    if not 0 < level < 1:
        raise ConfigError("the level of an interval is not a fraction", got=level, accepted="between 0 and 1")
    whole = classified_examples(index, concept, unit)
    halves = split_documents(index, concept)
    choose = whole.among(among(whole, halves, "choose")) if split else whole
    test = permutation_test(index, concept, unit, n_permutations=n_permutations, seed=seed)
    n_firings = np.concatenate([np.diff(start) for _, start, _, _ in whole.blocks(range(index.d_sae))])
    ranked = pd.concat(
        [
            feature_table(features, feature_statistics(choose, start, example, value), start, value)
            for features, start, example, value in choose.blocks(range(index.d_sae))
        ]
    )
    enough = (n_firings[ranked.index] >= max(min_firings, 1)) & (ranked["n_firings"] >= max(min_firings // 2, 1))
    ranked = ranked[enough & ranked[by].notna()]
    ranked = ranked.sort_values([by, "n_matches", "gap"], ascending=False, kind="stable").head(n)
    features = [int(f) for f in ranked.index]
    report = whole.among(among(whole, halves, "report")) if split else whole
    if halves.possible or not split:
        table = _reported(report, features, ranked["f1_threshold"].to_numpy(), level)
    else:
        table = ranked[["n_firings", "n_matches", "max"]].assign(**dict.fromkeys(SHOWN, np.nan))
    table.insert(0, f"choose_{by}", ranked[by])
    table.insert(1, "p_value", test.p_values[features])
    table["f1_threshold"] = ranked["f1_threshold"]
    for name, place in (("name", 0), ("promoted", len(table.columns) + 1)):
        if (known := index.features.get(name)) is not None:
            table.insert(min(place, len(table.columns)), name, known.loc[table.index])
    table.attrs = {
        "documents": _described(choose, report)
        if split and halves.possible
        else halves.described("report" if split else "all"),
        "few": halves.few,
        "p_any": test.p_any,
        "p_reason": test.reason,
        "best_auroc_mean": test.best_mean,
        "best_auroc_95": test.best_95,
        "n_features_searched": test.n_features,
        "n_permutations": test.n_permutations,
    }
    return table


def _reported(examples: ClassifiedExamples, features: list[int], threshold: np.ndarray, level: float) -> pd.DataFrame:
    """The features' figures on the examples, with intervals in the first rows."""
    frames, rows, done = [], [], 0
    names = ["n_firings", "n_matches", "max", *SHOWN]
    if not features:
        columns = [*names, *(f"{m}_{end}" for m in SHOWN for end in ("low", "high"))]
        return pd.DataFrame(columns=[*columns, "n_positive_documents", "n_firing_documents"], dtype=float).rename_axis(
            "feature"
        )
    for some, start, example, value in examples.blocks(features):
        frame = feature_table(some, feature_statistics(examples, start, example, value), start, value)
        frame["f1"] = f1_at(examples, start, example, value, threshold[done : done + len(some)])
        frames.append(frame[names])
        for i in range(min(len(some), N_WITH_INTERVALS - done)):
            at = slice(start[i], start[i + 1])
            firings = examples.firings(example[at], value[at])
            without = leave_one_out(firings, np.zeros(0), N_ACTIVATION_BINS, threshold[done + i])
            found = estimates({m: float(frame[m].iloc[i]) for m in SHOWN}, without, {}, level)
            row = {f"{m}_{end}": getattr(found[m], end) for m in SHOWN for end in ("low", "high")}
            rows.append(row | {"n_positive_documents": without.n_holding, "n_firing_documents": without.n_firing})
        done += len(some)
    table = pd.concat(frames)
    intervals = pd.DataFrame(rows, index=table.index[: len(rows)])
    return table.join(intervals)


def _described(choose: ClassifiedExamples, report: ClassifiedExamples) -> str:
    """Which documents chose, and which are shown."""
    counts = [(len(e.document_numbers), len(np.unique(e.document[e.match]))) for e in (choose, report)]
    (n, with_concept), (n_report, report_with_concept) = counts
    return (
        f"chosen on {n:,} of {n + n_report:,} documents, {with_concept:,} of them with the concept; shown on the other "
        f"{n_report:,}, {report_with_concept:,} of them with it"
    )
