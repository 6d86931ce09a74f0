"""Specificity of one feature, and the ranking of all of them, for a concept.

Works from the index's sparse activations alone: no model is run and nothing dense is made. A feature is scored by its
activation, silent examples scoring zero.

Sources: the specificity rubric of Templeton et al., Scaling Monosemanticity (2024), made a measurement; definitions of
the statistics in `sparse_statistics`, of the intervals in `resampling`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from ..errors import ConfigError, check_feature
from ..index.records import N_ACTIVATION_BINS
from ..statistics import Estimate, percentile_bounds
from .concepts import Concept
from .evidence import by_label, evidence_contexts
from .examples import Activations, ClassifiedExamples, Unit, activation_bin_of, classified_examples
from .resampling import Resamples, resample
from .result import MEASURES, SpecificityResult
from .sparse_statistics import Floats, Ints, Statistics, statistics

if TYPE_CHECKING:
    from ..index import FeatureIndex

By = Literal["average_precision", "auroc", "f1", "precision"]

N_CURVE = 120
"""Points of the precision-recall curve, at most; dense at the top of the ranking."""
MAX_UNDEFINED = 0.5
"""Fraction of resamples that may leave a statistic undefined while it still gets an interval."""
CONTROL_CURVE = ["feature", "threshold", "n_firings", "precision", "recall"]
FEW_DOCUMENTS = 10
"""Below this many documents with the concept an interval over documents is coarse, and a note says so."""


def specificity(
    index: FeatureIndex,
    feature: int,
    concept: Concept,
    *,
    unit: Unit = "token",
    n_bootstrap: int = 1000,
    n_controls: int = 10,
    level: float = 0.95,
    seed: int = 0,
) -> SpecificityResult:
    """How well the activation of one feature separates a concept from everything else in the index.

    Scores every kept token (unit "token") or every document by its strongest token (unit "document"). Intervals are
    percentile bootstraps over documents; n_bootstrap=0 leaves them out. `n_controls` matched features, of similar
    density and maximum, get the same metrics. Undefined numbers are nan and say why. Raises UnknownNameError for the
    feature, a label or a value, DataError for a concept that the corpus does not hold.

    >>> index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)
    >>> result = sk.specificity(index, 3, sk.Concept.regex("bridge"), n_bootstrap=100)
    >>> 0 <= result.auroc.low <= result.auroc.value <= result.auroc.high <= 1
    True
    """
    feature = check_feature(feature, index.d_sae)
    _check(n_bootstrap=n_bootstrap, n_controls=n_controls)
    if not 0 < level < 1:
        raise ConfigError("the level of an interval is not a fraction", got=level, accepted="between 0 and 1")
    examples = classified_examples(index, concept, unit)
    example, value, position = examples.scored(feature)
    stats = _statistics(examples, np.array([0, len(example)]), example, value)
    thresholds = _thresholds(value)
    firings = examples.firings(example, value)
    resamples = (
        resample(firings, thresholds, N_ACTIVATION_BINS, n_bootstrap=n_bootstrap, seed=seed) if n_bootstrap else None
    )
    curve = _curve(examples, example, value, thresholds, resamples, level)
    bins = _bins(examples, example, value, resamples, level)
    why = _undefined(examples, feature, len(example), index)
    with_concept = int((firings.positives > 0).sum())
    controls = _controls(examples, feature, n_controls if len(example) else 0, seed)

    def estimate(name: str, point: float, samples: Floats | None) -> Estimate:
        if math.isnan(point):
            return Estimate(value=point, level=level, reason=why.get(name, ""))
        if samples is None:
            return Estimate(value=point, level=level, reason="no interval was asked for")
        low, high = percentile_bounds(samples, level, max_undefined=MAX_UNDEFINED)
        undefined = int(np.isnan(samples).sum())
        reason = f"{undefined:,} of {n_bootstrap:,} resamples leave it undefined" if undefined else ""
        return Estimate(value=point, low=float(low), high=float(high), level=level, reason=reason)

    def drawn(name: str, row: int | None = None) -> Floats | None:
        if resamples is None:
            return None
        samples: Floats = getattr(resamples, name)
        return samples if row is None else samples[row]

    top = _top(examples, example, value)
    return SpecificityResult(
        feature=feature,
        concept=concept,
        unit=unit,
        level=level,
        n_bootstrap=n_bootstrap,
        n=examples.n,
        n_positive=examples.n_positive,
        n_documents=len(examples.document_numbers),
        n_positive_documents=with_concept,
        n_firings=int(stats.n_firings[0]),
        n_matches=int(stats.n_matches[0]),
        max_activation=float(value.max(initial=0)),
        base_rate=estimate("base_rate", examples.n_positive / examples.n, drawn("base_rate")),
        auroc=estimate("auroc", float(stats.auroc[0]), drawn("auroc")),
        average_precision=estimate("average_precision", float(stats.average_precision[0]), drawn("average_precision")),
        f1=estimate("f1", float(stats.f1[0]), drawn("f1")),
        f1_threshold=float(stats.f1_threshold[0]),
        precision=estimate(
            "precision", float(stats.precision[0]), drawn("curve_precision", -1) if len(example) else None
        ),
        recall=estimate("recall", float(stats.recall[0]), drawn("curve_recall", -1) if len(example) else None),
        top_precision=estimate("top_precision", top[0], drawn("bin_precision", -1)),
        top_recall=estimate("top_recall", top[1], drawn("bin_recall", -1)),
        curve=curve,
        bins=bins.assign(controls_fraction=controls.fraction),
        by_label=by_label(examples, example, value),
        evidence=evidence_contexts(examples, feature, example, value, position, seed),
        controls=controls.table,
        control_curves=controls.curves,
        notes=tuple(_notes(examples, example, with_concept, n_controls, len(controls.table))),
    )


def rank_features(
    index: FeatureIndex,
    concept: Concept,
    *,
    unit: Unit = "token",
    by: By = "average_precision",
    n: int = 20,
    min_firings: int = 5,
) -> pd.DataFrame:
    """The n features that separate a concept best, from one scan over all: a row each, best first, without intervals.

    The numbers are those of `specificity`. Features that fire on fewer than `min_firings` tokens (or documents) are
    left out. `by` is "average_precision", "auroc", "f1" or "precision". Ties go to the feature with more matches.

    >>> index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)
    >>> table = sk.rank_features(index, sk.Concept.regex("bridge"), n=3)
    >>> list(table.average_precision) == sorted(table.average_precision, reverse=True)
    True
    """
    if by not in ("average_precision", "auroc", "f1", "precision"):
        raise ConfigError("cannot rank by that", got=by, accepted="average_precision, auroc, f1 or precision")
    _check(n=n, min_firings=min_firings)
    examples = classified_examples(index, concept, unit)
    frames = []
    for features, start, example, value in examples.blocks(range(index.d_sae)):
        stats = _statistics(examples, start, example, value)
        frames.append(_table(features, stats, start, value))
    table = pd.concat(frames)
    table = table[(table["n_firings"] >= max(min_firings, 1)) & table[by].notna()]
    table = table.sort_values([by, "n_matches"], ascending=False, kind="stable").head(n)
    promoted = index.features.get("promoted")
    return table if promoted is None else table.assign(promoted=promoted.loc[table.index])


def _statistics(examples: ClassifiedExamples, start: Ints, example: Ints, value: Activations) -> Statistics:
    return statistics(start, value, examples.match[example], examples.n_positive, examples.n - examples.n_positive)


def _table(features: Sequence[int], stats: Statistics, start: Ints, value: Activations) -> pd.DataFrame:
    highest = np.zeros(len(features))
    alive = np.diff(start) > 0
    highest[alive] = np.maximum.reduceat(value, start[:-1][alive]) if alive.any() else 0.0
    names = ("n_firings", "n_matches", "auroc", "average_precision", "f1", "f1_threshold", "precision", "recall")
    frame = pd.DataFrame({name: getattr(stats, name) for name in names}, index=pd.Index(features, name="feature"))
    frame.insert(2, "max", highest)
    return frame


def _thresholds(value: Activations) -> Floats:
    """Distinct activations, descending: all of them, or some spread over the ranks that end at the smallest."""
    distinct = np.unique(value)[::-1].astype(np.float64)
    if len(distinct) <= N_CURVE:
        return distinct
    half = N_CURVE // 2
    ranks = np.concatenate([np.geomspace(1, len(distinct), half), np.linspace(1, len(distinct), half)])
    return distinct[np.unique(ranks.round().astype(np.int64)) - 1]


def _curve(
    examples: ClassifiedExamples,
    example: Ints,
    value: Activations,
    thresholds: Floats,
    resamples: Resamples | None,
    level: float,
) -> pd.DataFrame:
    order = np.argsort(-value, kind="stable")
    n = np.searchsorted(-value[order], -thresholds, side="right")
    hits = np.concatenate([[0], np.cumsum(examples.match[example][order])])[n]
    frame = pd.DataFrame({"threshold": thresholds, "n_firings": n, "precision": hits / np.maximum(n, 1)})
    frame["recall"] = hits / examples.n_positive if examples.n_positive else np.nan
    for name in ("precision", "recall"):
        samples = None if resamples is None else getattr(resamples, f"curve_{name}")
        frame[f"{name}_low"], frame[f"{name}_high"] = _bounds(samples, len(n), level)
    return frame


def _bins(
    examples: ClassifiedExamples, example: Ints, value: Activations, resamples: Resamples | None, level: float
) -> pd.DataFrame:
    of = activation_bin_of(value)
    match, n = examples.match[example], np.bincount(of, minlength=N_ACTIVATION_BINS)
    hits = np.bincount(of[match], minlength=N_ACTIVATION_BINS)
    pairs = np.unique(of * len(examples.document_numbers) + examples.document[example]) // len(
        examples.document_numbers
    )
    edges = np.linspace(0, float(value.max(initial=0)), N_ACTIVATION_BINS + 1)
    low, high = _bounds(None if resamples is None else resamples.bin_precision, N_ACTIVATION_BINS, level)
    return pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "n_firings": n,
            "n_matches": hits,
            "n_documents": np.bincount(pairs, minlength=N_ACTIVATION_BINS),
            "fraction": np.where(n > 0, hits / np.maximum(n, 1), np.nan),
            "fraction_low": low,
            "fraction_high": high,
        },
        index=pd.RangeIndex(N_ACTIVATION_BINS, name="bin"),
    )


def _bounds(samples: Floats | None, n: int, level: float) -> tuple[Floats, Floats]:
    """The interval of each row of samples [n, n_bootstrap]; nan without samples."""
    if samples is None or not n:
        return np.full(n, np.nan), np.full(n, np.nan)
    return percentile_bounds(samples, level, max_undefined=MAX_UNDEFINED)


def _top(examples: ClassifiedExamples, example: Ints, value: Activations) -> tuple[float, float]:
    """Precision and recall of the firings in the highest activation bin alone."""
    chosen = examples.match[example][activation_bin_of(value) == N_ACTIVATION_BINS - 1]
    if not len(chosen):
        return math.nan, math.nan
    return float(chosen.mean()), float(chosen.sum() / examples.n_positive) if examples.n_positive else math.nan


class Controls(NamedTuple):
    """Matched features: their metrics, curves, and pooled fraction of firings on the concept by activation bin."""

    table: pd.DataFrame
    curves: pd.DataFrame
    fraction: Floats


def _controls(examples: ClassifiedExamples, feature: int, n: int, seed: int) -> Controls:
    n_live = int((np.diff(examples.index.by_feature.start) > 0).sum())
    n = min(n, n_live - 1)
    features = [int(f) for f in examples.index.matched_features(feature, n=n, seed=seed)] if n > 0 else []
    if not features:
        columns = ["n_firings", "n_matches", "max", *MEASURES]
        table = pd.DataFrame(columns=columns, index=pd.Index([], name="feature"), dtype=float)
        return Controls(table, pd.DataFrame(columns=CONTROL_CURVE, dtype=float), np.full(N_ACTIVATION_BINS, np.nan))
    frames, curves, bins = [], [], []
    for some, start, example, value in examples.blocks(features):
        frame = _table(some, _statistics(examples, start, example, value), start, value)
        each = [(example[a:b], value[a:b]) for a, b in pairwise(start)]
        tops = np.array([_top(examples, i, v) for i, v in each])
        frames.append(frame.assign(top_precision=tops[:, 0], top_recall=tops[:, 1]))
        for control, (i, v) in zip(some, each, strict=True):
            curves.append(_curve(examples, i, v, _thresholds(v), None, 0.0)[CONTROL_CURVE[1:]].assign(feature=control))
            bins.append(_bins(examples, i, v, None, 0.0)[["n_firings", "n_matches"]])
    together = sum(bins[1:], bins[0])
    fraction = (together["n_matches"] / together["n_firings"].where(together["n_firings"] > 0)).to_numpy()
    return Controls(table=pd.concat(frames), curves=pd.concat(curves)[CONTROL_CURVE], fraction=fraction)


def _undefined(examples: ClassifiedExamples, feature: int, n_firings: int, index: FeatureIndex) -> dict[str, str]:
    """Why each measure is undefined, where it is."""
    if not n_firings:
        return dict.fromkeys(MEASURES, f"feature {feature} never fires on this corpus")
    if not examples.n_positive:
        return dict.fromkeys(MEASURES, f"no scored {examples.unit} belongs to the concept")
    return {"auroc": f"every scored {examples.unit} belongs to the concept"}


def _notes(examples: ClassifiedExamples, example: Ints, with_concept: int, n_asked: int, n_controls: int) -> list[str]:
    notes = []
    if len(example) and n_controls < n_asked:
        notes.append(
            f"only {n_controls} other features fire on this corpus: fewer controls than the {n_asked} asked for"
        )
    if with_concept < FEW_DOCUMENTS:
        documents = "one document" if with_concept == 1 else f"{with_concept} documents"
        notes.append(f"the concept is in {documents} only: the intervals are coarse")
    off = example[~examples.match[example]]
    if examples.unit == "token" and len(off):
        holds = np.zeros(len(examples.document_numbers), dtype=bool)
        holds[examples.document[examples.match]] = True
        near = float(holds[examples.document[off]].mean())
        notes.append(f"{near:.0%} of the firings off the concept are in documents that hold it elsewhere")
    return notes


def _check(**counts: Any) -> None:
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
            raise ConfigError(f"{name} is not a count", got=value, accepted="an integer of at least 0")
