"""The twenty named concepts that the default SAEs are evaluated by: which feature stands for each, and how well.

A feature is chosen on one half of the documents and reported on the other, beside features of similar density and
maximum; then it is clamped while the model answers unrelated questions. Each concept states in advance what is scored:
tokens where a word or a few mark it, whole documents (by their strongest token) where the text as a whole is an
example.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

import saekit as sk
from saekit.atomic_io import write_json
from saekit.errors import DataError, UnknownNameError

from ..results import fixed, load_results, markdown_table
from . import harvest, mixture

MIN_AUROC, MIN_PRECISION = 0.95, 0.8
"""A concept has a feature when AUROC and top precision exceed these on the half that did not choose it."""
N_CANDIDATES = 10
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


@dataclass(frozen=True)
class NamedConcept:
    """A concept: its examples in text, what shows that an answer mentions it, and what is scored."""

    in_text: sk.Concept
    in_answer: sk.Concept
    unit: Literal["token", "document"] = "token"

    @property
    def name(self) -> str:
        return self.in_text.name

    def holds(self, document: pd.Series) -> bool:
        """Whether a document, a row of text and labels, holds the concept."""
        if self.in_text.kind == "labels":
            return all(document[label] in values for label, values in self.in_text.wanted)
        return self.in_text.present(document["text"])


def word(name: str, pattern: str, in_answer: str | None = None) -> NamedConcept:
    """A concept of the tokens that match; `in_answer` is the pattern for answers where it differs."""
    return NamedConcept(sk.Concept.regex(pattern, name=name), sk.Concept.regex(in_answer or pattern, name=name))


def language(name: str, code: str, function_words: str) -> NamedConcept:
    """A concept of the documents in a language; an answer must hold at least two of its function words."""
    either = rf"\b({function_words})\b"
    return NamedConcept(
        sk.Concept.labels(language=code, name=name), sk.Concept.regex(rf"(?s){either}.*{either}", name=name), "document"
    )


NAMED_CONCEPTS = (
    # At its last word the name has been read; every other bridge, gate and golden thing is a negative.
    word("Golden Gate Bridge", r"(?<=golden gate )bridge", r"golden gate"),
    word("bridges", r"\bbridges?\b"),
    word("Paris", r"\bparis\b|(?<=eiffel )tower", r"\bparis(ian)?\b|eiffel"),
    word("China", r"\bchina\b|\bchinese\b", r"\bchina\b|\bchinese\b|great wall"),
    word("Egypt", r"\begypt(ians?)?\b", r"\begypt(ians?)?\b|\bpyramids?\b|\bpharaohs?\b"),
    word("Japan", r"\bjapan(ese)?\b", r"\bjapan(ese)?\b|\btokyo\b"),
    word("Germany", r"\bgerman(y|s)?\b", r"\bgerman(y|s)?\b|\bberlin\b"),
    word("India", r"\bindians?\b|\bindia\b", r"\bindians?\b|\bindia\b|\bhindus?\b"),
    word("Russia", r"\brussians?\b|\brussia\b", r"\brussians?\b|\brussia\b|\bmoscow\b"),
    NamedConcept(
        sk.Concept.labels(language="python", name="Python code"),
        sk.Concept.regex(r"\bdef \w+\(|\bimport \w+|\bself\.|```python|\bprint\(", name="Python code"),
        "document",
    ),
    word("numbers", r"\d", r"\d"),
    language("French", "fr", "le|les|des|est|une|dans|pour|avec"),
    language("Spanish", "es", "el|los|las|una|por|con|del|para"),
    language("German", "de", "der|das|und|ist|nicht|ein|eine|mit"),
    word("anger", r"\banger\b|\bangry\b|\bangrily\b", r"\banger\b|\bangr(y|ily)\b|\brage\b|\bfur(y|ious)\b"),
    word("love", r"\blov(e|es|ed|ing|ers?)\b"),
    word("fear", r"\bfear(s|ed|ful)?\b|\bafraid\b", r"\bfear(s|ed|ful)?\b|\bafraid\b|\bterr(or|ified)\b|\bscared\b"),
    word("sadness", r"\bsad(ness|ly)?\b|\bsorrow\b|\bgrief\b"),
    word("markup", r"</?[a-z][a-z0-9]*(\s[^<>\n]*)?/?>"),
    word("music", r"\bmusic(al|ians?)?\b", r"\bmusic(al|ians?)?\b|\bsongs?\b|\bmelod(y|ies)\b"),
)


def evidence_cache(folder: Path, sae: sk.SAE, n_tokens: int, matmul_dtype: str | None) -> sk.ActivationCache:
    """The activations of the text that features are evaluated on, where this SAE reads."""
    layer = int(str(sae.config.hook_name).split(".")[1])
    assert sae.config.token_filter is not None
    filters = harvest.token_filters(folder, [layer])
    suffix = "" if sae.config.token_filter == filters[0] else "-other-filter"
    out = folder / f"evidence-{layer}-{n_tokens}{suffix}"
    corpus = mixture.evidence(folder, n_tokens, [concept.holds for concept in NAMED_CONCEPTS])
    return harvest.harvest(corpus, [layer], [sae.config.token_filter], out, matmul_dtype)


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


def halves(
    model: sk.LanguageModel, sae: sk.SAE, cache: sk.ActivationCache, out: Path
) -> tuple[sk.FeatureIndex, sk.FeatureIndex]:
    """Indexes of two halves of the documents: one to choose features on, one to report them on."""
    choose, report = cache.split(0.5, seed=5)
    return (
        sk.build_index(model, sae, choose, out=out / "choose"),
        sk.build_index(model, sae, report, out=out / "report"),
    )


def chosen_feature(index: sk.FeatureIndex, concept: NamedConcept) -> int | None:
    """The best feature by average precision, among those above MIN_AUROC if there are any; None if none fires."""
    try:
        ranked = sk.rank_features(
            index, concept.in_text, unit=concept.unit, n=N_CANDIDATES, split=False, n_permutations=0
        )
    except (DataError, UnknownNameError):  # the concept is not in this half
        return None
    good = ranked[ranked["auroc"] > MIN_AUROC]
    return int((good if len(good) else ranked).index[0]) if len(ranked) else None


def specificity_row(
    index: sk.FeatureIndex, concept: NamedConcept, feature: int, n_permutations: int = 0
) -> dict[str, Any]:
    """The specificity of a feature for a concept, with that of ten matched features beside it.

    On all documents of the index: the feature was chosen on another one.
    """
    result = sk.specificity(
        index, feature, concept.in_text, unit=concept.unit, documents="all", n_permutations=n_permutations
    )
    auroc, top = result.auroc, result.top_precision
    return {
        "feature": feature,
        "unit": concept.unit,
        "n_positive": result.n_positive,
        "n": result.n,
        "n_positive_documents": result.n_positive_documents,
        "auroc": auroc.value,
        "auroc_low": auroc.low,
        "auroc_high": auroc.high,
        "top_precision": top.value,
        "top_precision_low": top.low,
        "top_precision_high": top.high,
        "n_top_firings": int(result.bins["n_firings"].iloc[-1]),
        "precision": result.precision.value,
        "recall": result.recall.value,
        "average_precision": result.average_precision.value,
        "base_rate": result.base_rate.value,
        "controls_auroc": float(result.controls["auroc"].mean()),
        "controls_auroc_best": float(result.controls["auroc"].max()),
        "controls_top_precision": float(result.controls["top_precision"].mean()),
        "controls_recall": float(result.controls["recall"].mean()),
        "reached": bool(auroc.value > MIN_AUROC and top.value > MIN_PRECISION),
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
    model: sk.LanguageModel, sae: sk.SAE, cache: sk.ActivationCache, out: Path, *, steering: bool = True
) -> dict[str, Any]:
    """Every concept's feature and its metrics, added to `out`/concepts.json one by one; finished ones are kept."""
    choose, report = halves(model, sae, cache, out)
    path = out / "concepts.json"
    done = load_results(path)
    if done.get("sae") != sae.fingerprint:
        done = {
            "sae": sae.fingerprint,
            "n_tokens_chosen": choose.n_tokens,
            "n_tokens_reported": report.n_tokens,
            "silent": int((choose.features["silent"] & report.features["silent"]).sum()),
            "concepts": {},
        }
    for concept in NAMED_CONCEPTS:
        row = done["concepts"].setdefault(concept.name, {})
        if "feature" not in row:
            feature = chosen_feature(choose, concept)
            try:
                row |= {"feature": None} if feature is None else specificity_row(report, concept, feature)
            except (DataError, UnknownNameError):
                row["feature"] = None
        if steering and "steering" not in row and row["feature"] is not None and row["controls_auroc"] > 0:
            row["steering"] = steering_row(model, sae, report, concept, row["feature"])
        write_json(path, done)
        print(f"  {concept.name:<20}{line(row)}", flush=True)
    done["n_reached"] = sum(bool(row.get("reached")) for row in done["concepts"].values())
    write_json(path, done)
    print(f"{done['n_reached']} of {len(NAMED_CONCEPTS)} concepts have a feature", flush=True)
    return done


def line(row: dict[str, Any]) -> str:
    """A concept's result in one line."""
    if row["feature"] is None:
        return "not in this text, or no feature fires"
    steered = row.get("steering")
    mentions = f"; mentioned in {steered['rate']:.0%}, controls {steered['rate_controls']:.0%}" if steered else ""
    return (
        f"{'yes' if row['reached'] else 'no':<4}feature {row['feature']:<6} AUROC {row['auroc']:.3f} (controls "
        f"{row['controls_auroc']:.2f}), top precision {row['top_precision']:.2f} of {row['n_top_firings']}{mentions}"
    )


def table(done: dict[str, Any]) -> str:
    """The concepts as a Markdown table."""
    rows = []
    for name, row in done["concepts"].items():
        if row["feature"] is None:
            rows.append({"concept": name})
            continue
        s = row.get("steering", {})
        rows.append(
            {
                "concept": name,
                "scored": f"{row['n_positive']:,} {row['unit']}s",
                "feature": str(row["feature"]),
                "AUROC": f"{fixed(row['auroc'], 3)} [{fixed(row['auroc_low'], 3)}, {fixed(row['auroc_high'], 3)}]",
                "matched": f"{fixed(row['controls_auroc'])} ({fixed(row['controls_auroc_best'])})",
                "top precision": f"{fixed(row['top_precision'])} of {row['n_top_firings']}",
                "matched ": fixed(row["controls_top_precision"]),
                "recall": fixed(row["recall"]),
                "reached": "yes" if row["reached"] else "no",
                "mentioned": f"{s['rate']:.0%}" if s else "",
                "matched  ": f"{s['rate_controls']:.0%}" if s else "",
                "unsteered": f"{s['rate_none']:.0%}" if s else "",
            }
        )
    return markdown_table(pd.DataFrame(rows).fillna(""))
