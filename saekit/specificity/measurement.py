"""The specificity of one feature for a concept: exact statistics, intervals, matched features and evidence.

A feature is reported on the half of the documents that `rank_features` does not choose on; see `split`. How surprising
it is, among all features and on all documents, is asked of `permutation`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arguments import checks_arguments
from ..errors import ConfigError, check_feature
from ..index.records import N_ACTIVATION_BINS
from .concepts import Concept
from .controls import f1_at, feature_statistics, matched_controls
from .estimates import estimates
from .evidence import by_label, evidence_contexts
from .examples import ClassifiedExamples, Unit, classified_examples
from .leave_one_out import leave_one_out
from .measures import MEASURES
from .permutation import permutation_test
from .result import SpecificityResult
from .sparse_statistics import Ints
from .split import Documents, DocumentSplit, Mask, rows_of, split_documents
from .tables import bin_table, curve_table, curve_thresholds, top_bin

if TYPE_CHECKING:
    from ..index import FeatureIndex


@checks_arguments
def specificity(
    index: FeatureIndex,
    feature: int,
    concept: Concept,
    *,
    unit: Unit = "token",
    documents: Documents = "report",
    n_controls: int = 10,
    n_permutations: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> SpecificityResult:
    """How well the activation of one feature separates a concept from everything else in the index.

    Scores every kept token (unit "token") or every document by its strongest token (unit "document"), of the half of
    the documents that `rank_features` does not choose on; documents="all" is for a feature that was fixed in advance,
    and "choose" shows what the choice saw. Intervals are jackknife t intervals over documents, none from fewer than
    five. `n_controls` matched features, of similar density and maximum, get the same metrics. `test` compares the
    feature with the best of all features for `n_permutations` permuted labels, on all documents; 0 leaves it out.
    `seed` is of matched features, sampled contexts and permutations. Undefined numbers are nan and say why. Raises
    UnknownNameError for the feature, a label or a value, DataError for a concept that the corpus does not hold.

    >>> index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)
    >>> often = int(index.features["density"].idxmax())
    >>> result = sk.specificity(index, often, sk.Concept.regex("the"), n_permutations=19)
    >>> result.auroc.n_units, 0 <= result.auroc.low <= result.auroc.value <= result.auroc.high <= 1
    (12, True)
    """
    feature = check_feature(feature, index.d_sae)
    check_counts(n_controls=n_controls)
    if not 0 < level < 1:
        raise ConfigError("the level of an interval is not a fraction", got=level, accepted="between 0 and 1")
    whole = classified_examples(index, concept, unit)
    split = split_documents(index, concept)
    examples = whole.among(among(whole, split, documents))
    test = permutation_test(index, concept, unit, n_permutations=n_permutations, seed=seed)
    example, value, position = examples.scored(feature)
    start = np.array([0, len(example)])
    stats = feature_statistics(examples, start, example, value)
    threshold, chosen_here = _f1_threshold(whole, split, documents, feature, float(stats.f1_threshold[0]))
    thresholds = curve_thresholds(value)
    without = leave_one_out(examples.firings(example, value), thresholds, N_ACTIVATION_BINS, threshold)
    top = top_bin(examples, example, value)
    points = {
        "base_rate": examples.n_positive / examples.n if examples.n else math.nan,
        "auroc": float(stats.auroc[0]),
        "average_precision": float(stats.average_precision[0]),
        "f1": float(f1_at(examples, start, example, value, np.array([threshold]))[0]),
        "precision": float(stats.precision[0]),
        "recall": float(stats.recall[0]),
        "top_precision": top[0],
        "top_recall": top[1],
    }
    controls = matched_controls(examples, feature, n_controls if len(example) else 0, seed)
    _, n_documents = examples.text_of_document
    names = index.features.get("name")
    return SpecificityResult(
        feature=feature,
        name="" if names is None else str(names[feature]),
        concept=concept,
        unit=unit,
        level=level,
        documents=documents if split.possible else "all",
        protocol=split.described(documents),
        n=examples.n,
        n_positive=examples.n_positive,
        n_documents=n_documents,
        n_positive_documents=without.n_holding,
        n_firings=int(stats.n_firings[0]),
        n_matches=int(stats.n_matches[0]),
        max_activation=float(value.max(initial=0)),
        **estimates(points, without, _undefined(examples, feature, whole), level),
        f1_threshold=threshold,
        test=test.of(feature),
        curve=curve_table(examples, example, value, thresholds, without, level),
        bins=bin_table(examples, example, value, without, level).assign(controls_fraction=controls.fraction),
        by_label=by_label(examples, example, value),
        evidence=evidence_contexts(examples, feature, example, value, position, seed),
        controls=controls.table,
        control_curves=controls.curves,
        notes=tuple(_notes(examples, example, split, threshold, chosen_here, n_controls, len(controls.table))),
    )


def among(examples: ClassifiedExamples, split: DocumentSplit, documents: Documents) -> Mask:
    """Which documents of the examples [n_documents] those of one kind are."""
    chosen: Mask = split.mask(documents)[rows_of(examples.index, examples.document_numbers)]
    return chosen


def _f1_threshold(
    whole: ClassifiedExamples, split: DocumentSplit, documents: Documents, feature: int, here: float
) -> tuple[float, bool]:
    """The activation that the F1 is taken at, and whether it was chosen on the documents that are reported."""
    if documents != "report" or not split.possible:
        return here, not math.isnan(here)
    choose = whole.among(among(whole, split, "choose"))
    example, value, _ = choose.scored(feature)
    stats = feature_statistics(choose, np.array([0, len(example)]), example, value)
    return float(stats.f1_threshold[0]), False


def _undefined(examples: ClassifiedExamples, feature: int, whole: ClassifiedExamples) -> dict[str, str]:
    """Why each measure is undefined, where it is."""
    if not len(whole.scored(feature)[0]):
        return dict.fromkeys(MEASURES, f"feature {feature} never fires on this corpus")
    if not len(examples.scored(feature)[0]):
        return dict.fromkeys(MEASURES, f"feature {feature} never fires on these documents")
    if not examples.n_positive:
        return dict.fromkeys(MEASURES, f"no scored {examples.unit} belongs to the concept")
    return {"auroc": f"every scored {examples.unit} belongs to the concept"}


def _notes(
    examples: ClassifiedExamples,
    example: Ints,
    split: DocumentSplit,
    f1_threshold: float,
    f1_chosen_here: bool,
    n_asked: int,
    n_controls: int,
) -> list[str]:
    notes = [split.few] if split.few else []
    if len(example) and n_controls < n_asked:
        notes.append(
            f"only {n_controls} other features fire on this corpus: fewer controls than the {n_asked} asked for"
        )
    copies = len(examples.document_numbers) - examples.text_of_document[1]
    if copies:
        notes.append(
            f"{copies:,} of the documents {'is a copy' if copies == 1 else 'are copies'} of another, and one document "
            "with it in every interval"
        )
    if math.isnan(f1_threshold) and len(example) and examples.n_positive:
        notes.append("F1 has no threshold: the feature fires on no example of the concept where one is chosen")
    if f1_chosen_here:
        notes.append("the threshold of F1 is the best one on these very documents")
    off = example[~examples.match[example]]
    if examples.unit == "token" and len(off):
        holds = np.zeros(len(examples.document_numbers), dtype=bool)
        holds[examples.document[examples.match]] = True
        near = float(holds[examples.document[off]].mean())
        notes.append(f"{near:.0%} of the firings off the concept are in documents that hold it elsewhere")
    return notes


def check_counts(**counts: Any) -> None:
    """ConfigError for the first that is no integer of at least 0."""
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
            raise ConfigError(f"{name} is not a count", got=value, accepted="an integer of at least 0")
