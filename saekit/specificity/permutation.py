"""How well the best of all features does for permuted labels, and so how surprising a feature is.

Each document is one unit: it holds the concept or not, and a feature's score on it is its strongest activation there.
The labels are permuted over the documents, and the largest AUROC of all features is kept from each permutation: the
single-step max statistic, whose p values are right for a feature that was searched for among all of them, on the same
documents too. AUROC is a sum of ranks, so a block of permutations is one product of the matrix of ranks, features by
documents, which is sparse because the silent documents of a feature are one tie, with the labels.

The AUROC is compared as it is. Divided by its standard deviation under permutation it lets features that fire in two
documents decide what is surprising: for 5 of 100 documents these reach 6 standard deviations by luck, and a feature
that ranks all five first among 95 others where it fires as well reaches 3.8.

Source: Westfall and Young, Resampling-Based Multiple Testing (1993), 2.3 to 2.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from scipy import sparse

from ..errors import ConfigError
from ..statistics import MIN_UNITS, max_statistic_p, percentile_bounds, permuted_labels
from .concepts import Concept
from .displays import feature_test_html
from .examples import Activations, ClassifiedExamples, Unit, classified_examples
from .sparse_statistics import Floats, Ints
from .split import Mask

if TYPE_CHECKING:
    from ..index import FeatureIndex

ALPHA = 0.05
"""A feature is called specific where its corrected p value is below this."""
BLOCK_CELLS = 8_000_000
"""AUROCs of a block of features and permutations."""

_TESTS: WeakKeyDictionary[Any, dict[tuple[Any, ...], PermutationTest]] = WeakKeyDictionary()


@dataclass(frozen=True, kw_only=True, eq=False)
class PermutationTest:
    """The AUROC by document of every feature, and what the best of all reaches for permuted labels."""

    auroc: Floats
    """[d_sae], from each document's strongest activation; nan for features that never fire."""
    p_values: Floats
    """[d_sae], corrected for the search over all features; nan where there is none."""
    best: Floats
    """[n_permutations], the largest AUROC of all features under each permutation."""
    n_features: int
    """Features that fire, and were searched."""
    n_documents: int
    """Different texts."""
    n_positive: int
    """Those with the concept."""
    reason: str = ""
    """Why there is no p value, where there is none."""

    @property
    def n_permutations(self) -> int:
        return len(self.best)

    @property
    def p_any(self) -> float:
        """The p value of "some feature fires for this concept"."""
        return math.nan if np.isnan(self.p_values).all() else float(np.nanmin(self.p_values))

    @property
    def best_mean(self) -> float:
        """The mean over permutations of the best AUROC of all features."""
        return float(self.best.mean()) if len(self.best) else math.nan

    @property
    def best_95(self) -> float:
        """Its 95th percentile."""
        return float(percentile_bounds(self.best, 0.9)[1]) if len(self.best) else math.nan

    def of(self, feature: int) -> FeatureTest:
        """What the test says of one feature."""
        reason = self.reason or ("" if not math.isnan(self.auroc[feature]) else f"feature {feature} never fires")
        return FeatureTest(
            auroc=float(self.auroc[feature]),
            p_value=float(self.p_values[feature]),
            best_mean=self.best_mean,
            best_95=self.best_95,
            n_features=self.n_features,
            n_permutations=self.n_permutations,
            n_documents=self.n_documents,
            n_positive=self.n_positive,
            reason=reason,
        )


@dataclass(frozen=True, kw_only=True)
class FeatureTest:
    """One feature against the best of all features under permuted labels, by document, on all documents."""

    auroc: float
    """Of the strongest activation in each document."""
    p_value: float
    """Corrected for the search over all features; at least 1 / (n_permutations + 1), nan where there is none."""
    best_mean: float
    """The mean over permutations of the best AUROC of all features."""
    best_95: float
    """Its 95th percentile."""
    n_features: int
    n_permutations: int
    n_documents: int
    n_positive: int
    reason: str = ""

    @property
    def specific(self) -> bool:
        """Whether the corrected p value is below 0.05."""
        return self.p_value < ALPHA

    @property
    def p(self) -> str:
        """The p value in words that claim no more than the number of permutations allows."""
        if math.isnan(self.p_value):
            return f"no p value: {self.reason}"
        least = self.p_value <= 1 / (self.n_permutations + 1)
        return f"p {'≤' if least else '='} {self.p_value:.3f}"

    def __str__(self) -> str:
        if math.isnan(self.p_value):
            return self.p
        verdict = "specific" if self.specific else f"not specific at {ALPHA}"
        return (
            f"by document AUROC {self.auroc:.3f}; the best of all {self.n_features:,} features reaches "
            f"{self.best_mean:.3f} on average for shuffled labels, 95th percentile {self.best_95:.3f}: {self.p}, "
            f"{verdict}"
        )

    _repr_html_ = feature_test_html


def permutation_test(
    index: FeatureIndex, concept: Concept, unit: Unit = "token", *, n_permutations: int = 200, seed: int = 0
) -> PermutationTest:
    """The test of every feature of an index for a concept. Remembered as long as the index lives.

    A document holds a concept scored by token where an indexed token of it does. Texts that stand in the corpus several
    times count once. No p value, and a reason, where fewer than `MIN_UNITS` documents are without the concept: by
    document nothing can then be told.

    >>> from saekit.specificity.permutation import permutation_test
    >>> index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)
    >>> test = permutation_test(index, sk.Concept.regex("bridge"), n_permutations=19)
    >>> bool(0.05 <= test.p_any <= 1), test.best.shape
    (True, (19,))
    """
    if isinstance(n_permutations, bool) or not isinstance(n_permutations, (int, np.integer)) or n_permutations < 0:
        raise ConfigError("n_permutations is not a count", got=n_permutations, accepted="an integer of at least 0")
    known = _TESTS.setdefault(index, {})
    key = (concept, unit, int(n_permutations), seed)
    if key not in known:
        known[key] = _test(index, concept, unit, int(n_permutations), seed)
    return known[key]


def _test(index: FeatureIndex, concept: Concept, unit: Unit, n_permutations: int, seed: int) -> PermutationTest:
    examples, holds = _distinct(index, concept, unit)
    n, n_positive = len(holds), int(holds.sum())
    rng = np.random.default_rng(seed)
    labels = np.concatenate([holds[None], *permuted_labels(holds, n_permutations, rng)]).astype(np.float64)
    best = np.full(len(labels), -np.inf)
    auroc = np.full(index.d_sae, np.nan)
    for features, start, example, value in examples.blocks(range(index.d_sae)):
        for some in _pieces(start, max(1, BLOCK_CELLS // len(labels))):
            found = _aurocs(start[some.start : some.stop + 1], example, value, labels, n_positive)
            fires = np.diff(start[some.start : some.stop + 1]) > 0
            if not fires.any():
                continue
            auroc[np.asarray(features)[some][fires]] = found[fires, 0]
            best = np.maximum(best, found[fires].max(axis=0))
    reason = ""
    if n - n_positive < MIN_UNITS:
        without = "no document is" if n == n_positive else f"only {n - n_positive} of {n} documents are"
        reason = f"{without} without the concept, and the test compares documents"
    elif not n_positive:
        reason = "no document holds the concept"
    elif not n_permutations:
        reason = "no permutation was asked for"
    elif np.isnan(auroc).all():
        reason = "no feature fires"
    null = best[1:] if not reason else np.zeros(0)
    return PermutationTest(
        auroc=auroc,
        p_values=np.full(index.d_sae, np.nan) if reason else max_statistic_p(auroc, null),
        best=null,
        n_features=int((~np.isnan(auroc)).sum()),
        n_documents=n,
        n_positive=n_positive,
        reason=reason,
    )


def _distinct(index: FeatureIndex, concept: Concept, unit: Unit) -> tuple[ClassifiedExamples, Mask]:
    """Each different text as one example, scored by its strongest token, and whether it holds the concept."""
    examples = classified_examples(index, concept, unit)
    holds = np.zeros(len(examples.document_numbers), dtype=bool)
    holds[examples.document[examples.match]] = True
    by_document = examples.by_document(holds)
    _, first, of = np.unique(by_document.content, return_index=True, return_inverse=True)
    any_holds = np.bincount(of, holds) > 0
    chosen = np.zeros(len(holds), dtype=bool)
    chosen[first] = True
    return by_document.among(chosen), any_holds[of[chosen]]


def _pieces(start: Ints, n: int) -> list[slice]:
    return [slice(i, min(i + n, len(start) - 1)) for i in range(0, len(start) - 1, n)]


def _aurocs(start: Ints, example: Ints, value: Activations, labels: Floats, n_positive: int) -> Floats:
    """The AUROC of some features for each row of labels [n_features, n_labels]; ties count one half."""
    n = labels.shape[1]
    begin, end = int(start[0]), int(start[-1])
    counts = np.diff(start)
    feature = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((value[begin:end], feature))
    score, of = value[begin:end][order], feature[order]
    rank = np.arange(len(score)) - (start[:-1] - begin)[of] + (n - counts)[of] + 1.0
    new = np.ones(len(score), dtype=bool)
    new[1:] = (score[1:] != score[:-1]) | (of[1:] != of[:-1])
    tie = np.cumsum(new) - 1
    rank = (np.bincount(tie, rank) / np.bincount(tie))[tie] if len(rank) else rank
    silent = (n - counts + 1) / 2  # the mean rank of the documents where a feature is silent
    above = sparse.csr_array((rank - silent[of], example[begin:end][order], start - begin), shape=(len(counts), n))
    sums = np.asarray(above @ labels.T) + n_positive * silent[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = (sums - n_positive * (n_positive + 1) / 2) / (n_positive * (n - n_positive))
    return found
