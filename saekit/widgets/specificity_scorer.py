"""What a specificity panel asks of an index: a preview, the ranking, its test, and one feature's scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from ..errors import DataError
from ..specificity import SpecificityResult, specificity
from ..specificity.concept_marks import placed
from ..specificity.concepts import Concept
from ..specificity.document_content import document_of
from ..specificity.examples import ClassifiedExamples, classified_examples
from ..specificity.measurement import among
from ..specificity.permutation import PermutationTest, permutation_test
from ..specificity.ranking import ranked_features
from ..specificity.sparse_statistics import statistics
from ..specificity.split import split_documents
from ..statistics import MIN_UNITS
from .specificity_views import contexts_of, labels_of, preview_of, scores_of
from .token_highlight import names_of

if TYPE_CHECKING:
    from ..index import FeatureIndex

N_CONTROLS = 10
Watch = Callable[[], None]


class Scored(NamedTuple):
    """One feature on the documents that report."""

    scores: dict[str, Any]
    threshold: float
    """The activation with the best F1 on the documents that choose; 0 where there is none."""
    examples: ClassifiedExamples


class Scorer:
    """A concept and a feature of one index, in figures. Everything that takes long can be called off by its watcher."""

    def __init__(self, index: FeatureIndex) -> None:
        self.index = index
        self.labels = labels_of(index)

    def prepare(self) -> None:
        """Reads and imports what the first question would wait for, by asking one: for a token of some documents."""
        kept = np.asarray(self.index.kept)
        _, first = np.unique(document_of(self.index)[kept], return_index=True)
        some = [int(p) for p in kept[first[: 4 * MIN_UNITS]] if document_of(self.index)[p] >= 0]
        self.index.token_strings(kept[:1])
        if some:
            question = Concept.examples(self.index, dict.fromkeys(some, True))
            table = self.ranked(question, "token", "average_precision", 1, lambda: None)
            self.names([int(feature) for feature in table.index])

    def marked(self, concept: Concept, marks: list[dict[str, Any]]) -> Concept:
        """The concept with the panel's marks."""
        tokens = {m["at"]: m["counts"] for m in marks if m["unit"] == "token"}
        documents = {m["at"]: m["counts"] for m in marks if m["unit"] == "document"}
        return concept.marked(self.index, tokens, documents=documents) if marks else concept

    def placed(self, concept: Concept) -> list[dict[str, Any]]:
        """The marks of a concept as those of the panel; MismatchError where the index does not hold their documents."""
        found = placed(self.index, concept.marks)
        return [
            {"at": at, "unit": unit, "counts": counts}
            for unit, places in (("token", found.tokens), ("document", found.documents))
            for at, counts in sorted(places.items())
        ]

    def preview(self, concept: Concept, unit: Any) -> dict[str, Any]:
        """What the concept holds for; `nothing` says why where it holds for nothing that is scored."""
        found = preview_of(self.index, concept, unit)
        try:
            concept.token_mask(self.index) if unit == "token" else concept.document_mask(self.index)
        except DataError as e:
            found["nothing"] = e.what + (f". {e.fix[0].upper()}{e.fix[1:]}." if e.fix else ".")
        return found

    def ranked(self, concept: Concept, unit: Any, by: Any, n: int, watch: Watch) -> pd.DataFrame:
        """The ranking without its test."""
        return ranked_features(self.index, concept, unit=unit, by=by, n=n, watch=watch)

    def test(self, concept: Concept, unit: Any, watch: Callable[[float], None]) -> PermutationTest:
        """The test that `specificity` and `rank_features` make."""
        return permutation_test(self.index, concept, unit, n_permutations=200, seed=0, watch=watch)

    def scored(self, feature: int, concept: Concept, unit: Any) -> Scored:
        """The feature's activations on the documents that report, beside those of matched features."""
        whole, halves = classified_examples(self.index, concept, unit), split_documents(self.index, concept, unit)
        examples = whole.among(among(whole, halves, "report"))
        choose = whole.among(among(whole, halves, "choose"))
        example, value, _ = choose.scored(feature)
        match = choose.match[example]
        found = statistics(np.array([0, len(example)]), value, match, choose.n_positive, choose.n - choose.n_positive)
        threshold = float(found.f1_threshold[0])
        return Scored(
            scores_of(examples, feature, self._controls(feature)), threshold if threshold > 0 else 0.0, examples
        )

    def names(self, features: list[int]) -> dict[str, str]:
        """Short names of features, by number as text."""
        return names_of(self.index, features)

    def contexts(self, scored: Scored) -> list[dict[str, Any]]:
        """Contexts to read and to mark."""
        return contexts_of(scored.examples, int(scored.scores["feature"]))

    def result(self, feature: int, concept: Concept, unit: Any) -> SpecificityResult:
        """What `specificity` says."""
        return specificity(self.index, feature, concept, unit=unit)

    def _controls(self, feature: int) -> list[int]:
        """The features that `specificity` matches with this one."""
        start = self.index.by_feature.start
        n = min(N_CONTROLS, int((np.diff(start) > 0).sum()) - 1) if start[feature + 1] > start[feature] else 0
        return [int(f) for f in self.index.matched_features(feature, n=n, seed=0)] if n > 0 else []
