"""Which feature stands for each named concept, and how well: what `concepts`, `compare` and the cards report.

A feature is chosen on one half of a text's documents and reported on the other, the halves of `sk.rank_features` and
`sk.specificity`, beside features of similar density and maximum and beside the best of all features for permuted
labels; then, where it is asked for, it is clamped while the model answers unrelated questions. Where there are several
texts, a concept is measured in the first that has enough documents of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

import saekit as sk
from saekit.atomic_io import write_json
from saekit.errors import DataError, UnknownNameError
from saekit.statistics import MIN_UNITS, Estimate

from ..results import fixed, load_results, markdown_table, without_nan
from . import concepts, harvest, mixture
from .concepts import NamedConcept

MIN_AUROC, MIN_PRECISION = 0.95, 0.8
"""A concept has a feature when AUROC and top precision exceed these on the documents that did not choose it, of which
at least MIN_UNITS hold the concept."""
MIN_DOCUMENTS = 2 * MIN_UNITS
"""Documents with the concept that both halves need for an interval."""
N_CANDIDATES, N_PERMUTATIONS = 10, 200
STRENGTH = 0.4
"""Fraction of the residual norm."""
UNRELATED_QUESTIONS = (
    "Who are you?",
    "How do I tie a knot?",
    "What should I cook tonight?",
    "Tell me about your morning.",
    "Give me advice for a long journey.",
    "Describe a small room.",
)

Indexes = Mapping[str, sk.FeatureIndex]
"""An SAE's index of each text, by the text's name, in the order in which they are preferred."""


def evidence_cache(folder: Path, sae: sk.SAE, n_tokens: int, matmul_dtype: str | None) -> sk.ActivationCache:
    """The activations of the text that trained SAEs are judged on, where this SAE reads."""
    layer = layer_of(sae)
    assert sae.config.token_filter is not None
    filters = harvest.token_filters(folder, [layer])
    suffix = "" if sae.config.token_filter == filters[0] else "-other-filter"
    out = folder / f"evidence-{layer}-{n_tokens}{suffix}"
    corpus = mixture.evidence(folder, n_tokens, [concept.holds for concept in concepts.NAMED_CONCEPTS])
    return harvest.harvest(corpus, [layer], [sae.config.token_filter], out, matmul_dtype)


def layer_of(sae: sk.SAE) -> int:
    """The layer after which the SAE reads."""
    return int(str(sae.config.hook_name).split(".")[1])


def as_stored(sae: sk.SAE, folder: Path) -> sk.SAE:
    """The SAE as it is packaged: saved in float16 and loaded again."""
    return sk.load_sae(sae.half().save(folder))


def for_judging(
    folder: Path, sae: Path, n_evidence: int, matmul_dtype: str | None
) -> tuple[sk.LanguageModel, sk.SAE, sk.ActivationCache, Path]:
    """The model, the trained SAE as it would be packaged, the evidence's activations, and the folder of results."""
    with tempfile.TemporaryDirectory() as place:
        stored = as_stored(sk.load_sae(sae), Path(place) / "sae")
    cache = evidence_cache(folder, stored, n_evidence, matmul_dtype)
    return sk.load_model(), stored, cache, judging_folder(folder, stored, cache)


def judging_folder(folder: Path, sae: sk.SAE, cache: sk.ActivationCache) -> Path:
    """The folder of results for an SAE on this evidence."""
    return folder / f"judged-{sae.fingerprint}-{cache.digest[:6]}"


def evidence_index(
    model: sk.LanguageModel, sae: sk.SAE, cache: sk.ActivationCache, out: Path
) -> dict[str, sk.FeatureIndex]:
    """The index of the evidence, the only text that trained SAEs are judged on."""
    return {"evidence": sk.build_index(model, sae, cache, out=out / "index")}


def text_of(indexes: Indexes, concept: NamedConcept) -> str:
    """The first text with MIN_DOCUMENTS documents of the concept; if none has so many, that with the most."""
    n = {name: n_documents(index, concept) for name, index in indexes.items()}
    return next((name for name, count in n.items() if count >= MIN_DOCUMENTS), max(n, key=lambda name: n[name]))


def n_documents(index: sk.FeatureIndex, concept: NamedConcept) -> int:
    """Documents of the index that hold the concept."""
    try:
        return int(concept.in_text.document_mask(index).sum())
    except (DataError, UnknownNameError):  # the concept is not in this text
        return 0


def chosen_feature(index: sk.FeatureIndex, concept: NamedConcept) -> int | None:
    """The best feature by average precision, among those above MIN_AUROC if there are any; None if none fires.

    Both on the documents that choose.
    """
    try:
        ranked = sk.rank_features(index, concept.in_text, unit=concept.unit, n=N_CANDIDATES, n_permutations=0)
    except (DataError, UnknownNameError):  # the concept is not in this text
        return None
    candidates = [int(feature) for feature in ranked.index]
    for feature in candidates:
        seen = sk.specificity(
            index, feature, concept.in_text, unit=concept.unit, documents="choose", n_controls=0, n_permutations=0
        )
        if seen.auroc.value > MIN_AUROC:
            return feature
    return candidates[0] if candidates else None


def specificity_row(
    index: sk.FeatureIndex, concept: NamedConcept, feature: int, n_permutations: int = N_PERMUTATIONS
) -> dict[str, Any]:
    """The specificity of a feature for a concept on the documents that did not choose it, with ten matched features."""
    result = sk.specificity(index, feature, concept.in_text, unit=concept.unit, n_permutations=n_permutations)
    controls = result.controls
    return {
        "feature": feature,
        "unit": concept.unit,
        "documents": result.documents,
        "n_positive": result.n_positive,
        "n": result.n,
        "n_positive_documents": result.n_positive_documents,
        "n_documents": result.n_documents,
        **_flat("auroc", result.auroc),
        **_flat("average_precision", result.average_precision),
        **_flat("top_precision", result.top_precision),
        "n_top_firings": int(result.bins["n_firings"].iloc[-1]),
        **_flat("precision", result.precision),
        **_flat("recall", result.recall),
        "base_rate": result.base_rate.value,
        "n_controls": len(controls),
        "controls_auroc": float(controls["auroc"].mean()),
        "controls_auroc_best": float(controls["auroc"].max()),
        "controls_top_precision": float(controls["top_precision"].mean()),
        "controls_recall": float(controls["recall"].mean()),
        "p_value": result.p_value,
        "n_searched": result.test.n_features,
        "n_permutations": result.test.n_permutations,
        "reached": bool(
            result.auroc.value > MIN_AUROC
            and result.top_precision.value > MIN_PRECISION
            and result.n_positive_documents >= MIN_UNITS
        ),
    }


def _flat(name: str, estimate: Estimate) -> dict[str, Any]:
    """An estimate as values beside each other; `_n` is the number of documents that its interval is over."""
    return {
        name: estimate.value,
        f"{name}_low": estimate.low,
        f"{name}_high": estimate.high,
        f"{name}_n": estimate.n_units,
    }


def steering_row(
    model: sk.LanguageModel,
    sae: sk.SAE,
    index: sk.FeatureIndex,
    concept: NamedConcept,
    feature: int,
    controls: int = 20,
) -> dict[str, Any]:
    """Fractions of answers that mention the concept: with the feature clamped, with matched ones, and unedited."""
    study = sk.dose_response(
        model,
        sae,
        feature,
        UNRELATED_QUESTIONS,
        concept.in_answer,
        [STRENGTH],
        choose=(),
        controls=controls,
        index=index,
        max_new_tokens=24,
        progress=False,
    )
    rows: dict[Any, dict[Any, Any]] = study.summary.set_index("condition").to_dict("index")
    return {
        "strength": STRENGTH,
        "n_texts": int(rows["feature"]["n_texts"]),
        "rate": float(rows["feature"]["rate"]),
        "rate_none": float(rows["none"]["rate"]),
        "rate_controls": float(rows["control"]["rate"]) if controls else None,
        "n_controls": controls,
        "nll_increase": float(rows["feature"]["nll_increase"]),
    }


def judge(
    model: sk.LanguageModel, sae: sk.SAE, indexes: Indexes, path: Path, *, steering: bool = True
) -> dict[str, Any]:
    """Every concept's feature and its metrics, added to the file `path` one by one; finished ones are kept."""
    done = load_results(path)
    texts = {name: {"n_tokens": i.n_tokens, "n_documents": len(i.documents)} for name, i in indexes.items()}
    if (done.get("sae"), done.get("texts")) != (sae.fingerprint, texts):
        silent = pd.concat([index.features["silent"] for index in indexes.values()], axis=1).all(axis=1)
        done = {"sae": sae.fingerprint, "texts": texts, "silent": int(silent.sum()), "concepts": {}}
    for concept in concepts.NAMED_CONCEPTS:
        row = done["concepts"].setdefault(concept.name, {})
        if "feature" not in row:
            row["text"] = text_of(indexes, concept)
            feature = chosen_feature(indexes[row["text"]], concept)
            row |= {"feature": None} if feature is None else specificity_row(indexes[row["text"]], concept, feature)
        if steering and "steering" not in row and row["feature"] is not None and row["controls_auroc"] > 0:
            row["steering"] = steering_row(model, sae, indexes[row["text"]], concept, row["feature"])
        write_json(path, without_nan(done))
        print(f"  {concept.name:<20}{line(row)}", flush=True)
    done["n_reached"] = sum(bool(row.get("reached")) for row in done["concepts"].values())
    done["n_measured"] = sum(row["feature"] is not None for row in done["concepts"].values())
    write_json(path, without_nan(done))
    print(f"{done['n_reached']} of {done['n_measured']} concepts have a feature", flush=True)
    return done


def line(row: dict[str, Any]) -> str:
    """A concept's result in one line."""
    if row["feature"] is None:
        return "not in this text, or no feature fires"
    steered = row.get("steering")
    mentions = f"; mentioned in {steered['rate']:.0%}, controls {steered['rate_controls']:.0%}" if steered else ""
    return (
        f"{'yes' if row['reached'] else 'no':<4}feature {row['feature']:<6} AUROC {interval(row, 'auroc', 3)} "
        f"(controls {fixed(row['controls_auroc'])}), top precision {interval(row, 'top_precision')}{mentions}"
    )


def interval(row: dict[str, Any], name: str, digits: int = 2) -> str:
    """A measure of a row with its interval and the number of documents that it is over."""
    value, low, high = (row[key] for key in (name, f"{name}_low", f"{name}_high"))
    if fixed(value) == "-":
        return "-"
    ends = "" if fixed(low) == "-" else f" [{fixed(low, digits)}, {fixed(high, digits)}]"
    n = row[f"{name}_n"]
    return f"{fixed(value, digits)}{ends}, {n:,} document{'' if n == 1 else 's'}"


def table(done: dict[str, Any]) -> str:
    """The concepts as a Markdown table."""
    rows = []
    for name, row in done["concepts"].items():
        if row["feature"] is None:
            rows.append({"concept": name, "scored": "too rare in this text"})
            continue
        p, s, n_top = row["p_value"], row.get("steering"), row["n_top_firings"]
        rows.append(
            {
                "concept": name,
                "text": row["text"],
                "scored": f"{row['n_positive']:,} of {row['n']:,} {row['unit']}s",
                "feature": str(row["feature"]),
                "AUROC": interval(row, "auroc", 3),
                "matched": f"{fixed(row['controls_auroc'])} ({fixed(row['controls_auroc_best'])})",
                "average precision": interval(row, "average_precision"),
                "top precision": f"{interval(row, 'top_precision')}; {n_top:,} firing{'s' * (n_top != 1)}",
                "matched ": fixed(row["controls_top_precision"]),
                "recall": fixed(row["recall"]),
                "p": "-" if fixed(p) == "-" else f"{'≤ ' * (p <= 1 / (row['n_permutations'] + 1))}{p:.3f}",
                "reached": "yes" if row["reached"] else "no",
            }
            | ({"mentioned": f"{s['rate']:.0%}", "matched  ": f"{s['rate_controls']:.0%}"} if s else {})
            | ({"unsteered": f"{s['rate_none']:.0%}"} if s else {})
        )
    frame = pd.DataFrame(rows).fillna("")
    one_text = frame.get("text", pd.Series(dtype=str)).replace("", None).nunique() <= 1
    return markdown_table(frame.drop(columns="text") if one_text and "text" in frame else frame)
