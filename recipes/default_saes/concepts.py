"""The twenty named concepts that the default SAEs are judged by, and how: which feature stands for each, how well.

A feature is chosen on one half of the documents and reported on the other; beside it stand features of like density
and maximum. It is then clamped while unrelated questions are answered. A concept says in advance what is scored: tokens
where a word or a few say it, whole documents (by their strongest token) where the text as a whole is of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

import saekit as sk
from saekit.atomic_io import read_json, write_json
from saekit.errors import DataError, UnknownNameError

from . import harvest, mixture

AUROC, PRECISION = 0.95, 0.8
"""A concept has a feature when both are above these on the half that had no say."""
CANDIDATES = 10
STRENGTH = 0.4
"""Of the residual norm."""
UNRELATED = (
    "Who are you?",
    "How do I tie a knot?",
    "What should I cook tonight?",
    "Tell me about your morning.",
    "Give me advice for a long journey.",
    "Describe a small room.",
)


@dataclass(frozen=True)
class Named:
    """A concept: where it is meant in a text, what is scored, and what shows that an answer brings it up."""

    meant: sk.Concept
    said: sk.Concept
    unit: Literal["token", "document"] = "token"

    @property
    def name(self) -> str:
        return self.meant.name

    def holds(self, document: pd.Series) -> bool:
        """Whether a document, a row of text and labels, holds the concept."""
        if self.meant.kind == "labels":
            return all(document[label] in values for label, values in self.meant.wanted)
        return self.meant.present(document["text"])


def word(name: str, pattern: str, said: str | None = None) -> Named:
    """A concept of the tokens that match; `said` is for answers where that is not the same."""
    return Named(sk.Concept.regex(pattern, name=name), sk.Concept.regex(said or pattern, name=name))


def language(name: str, code: str, said: str) -> Named:
    """A concept of the documents in a language; the answer must hold at least two of its function words."""
    either = rf"\b({said})\b"
    return Named(
        sk.Concept.labels(language=code, name=name), sk.Concept.regex(rf"(?s){either}.*{either}", name=name), "document"
    )


NAMED = (
    # The name has been read at its last word; every other bridge, gate and golden thing is a negative.
    word("Golden Gate Bridge", r"(?<=golden gate )bridge", r"golden gate"),
    word("bridges", r"\bbridges?\b"),
    word("Paris", r"\bparis\b|(?<=eiffel )tower", r"\bparis(ian)?\b|eiffel"),
    word("China", r"\bchina\b|\bchinese\b", r"\bchina\b|\bchinese\b|great wall"),
    word("Egypt", r"\begypt(ians?)?\b", r"\begypt(ians?)?\b|\bpyramids?\b|\bpharaohs?\b"),
    word("Japan", r"\bjapan(ese)?\b", r"\bjapan(ese)?\b|\btokyo\b"),
    word("Germany", r"\bgerman(y|s)?\b", r"\bgerman(y|s)?\b|\bberlin\b"),
    word("India", r"\bindians?\b|\bindia\b", r"\bindians?\b|\bindia\b|\bhindus?\b"),
    word("Russia", r"\brussians?\b|\brussia\b", r"\brussians?\b|\brussia\b|\bmoscow\b"),
    Named(
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


def evidence_cache(folder: Path, sae: sk.SAE, n_tokens: int, products: str | None) -> sk.ActivationCache:
    """The activations of the text that features are judged on, where this SAE reads."""
    layer = int(str(sae.config.hook_name).split(".")[1])
    assert sae.config.token_filter is not None
    rule = "" if sae.config.token_filter == harvest.token_filters(folder, [layer])[0] else "-other-rule"
    out = folder / f"evidence-{layer}-{n_tokens}{rule}"
    corpus = mixture.evidence(folder, n_tokens, [concept.holds for concept in NAMED])
    return harvest.harvest(corpus, [layer], [sae.config.token_filter], out, products)


def as_stored(sae: sk.SAE, folder: Path) -> sk.SAE:
    """The SAE as it is packaged: saved in float16 and loaded again."""
    return sk.load_sae(sae.half().save(folder))


def judging_folder(folder: Path, sae: sk.SAE, cache: sk.ActivationCache) -> Path:
    """Where what is found out about an SAE on this evidence lies."""
    return folder / f"judged-{sae.fingerprint}-{cache.digest[:6]}"


def halves(
    model: sk.LanguageModel, sae: sk.SAE, cache: sk.ActivationCache, out: Path
) -> tuple[sk.FeatureIndex, sk.FeatureIndex]:
    """An index of either half of the documents: one to choose features on, one to report them on."""
    choose, report = cache.split(0.5, seed=5)
    return (
        sk.build_index(model, sae, choose, out=out / "choose"),
        sk.build_index(model, sae, report, out=out / "report"),
    )


def chosen_feature(index: sk.FeatureIndex, concept: Named) -> int | None:
    """The feature that ranks first by average precision, of those with the wanted AUROC if there are any."""
    try:
        ranked = sk.rank_features(index, concept.meant, unit=concept.unit, by="average_precision", n=CANDIDATES)
    except (DataError, UnknownNameError):  # the concept is not in this half
        return None
    good = ranked[ranked["auroc"] > AUROC]
    return int((good if len(good) else ranked).index[0]) if len(ranked) else None


def specificity_row(index: sk.FeatureIndex, concept: Named, feature: int, n_bootstrap: int = 500) -> dict[str, Any]:
    """The figures of a feature for a concept, with those of ten matched features beside them."""
    result = sk.specificity(index, feature, concept.meant, unit=concept.unit, n_bootstrap=n_bootstrap)
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
        "n_top_firings": int(result.intervals["n_firings"].iloc[-1]),
        "precision": result.precision.value,
        "recall": result.recall.value,
        "average_precision": result.average_precision.value,
        "base_rate": result.base_rate.value,
        "controls_auroc": float(result.controls["auroc"].mean()),
        "controls_auroc_best": float(result.controls["auroc"].max()),
        "controls_top_precision": float(result.controls["top_precision"].mean()),
        "controls_recall": float(result.controls["recall"].mean()),
        "reached": bool(auroc.value > AUROC and top.value > PRECISION),
    }


def steering_row(
    model: sk.LanguageModel, sae: sk.SAE, index: sk.FeatureIndex, concept: Named, feature: int, controls: int = 3
) -> dict[str, Any]:
    """Shares of answers that bring the concept up: under the clamp, under that of matched features, and as they are."""
    study = sk.dose_response(
        model,
        sae,
        feature,
        UNRELATED,
        concept.said,
        [STRENGTH],
        controls=controls,
        index=index,
        max_new_tokens=24,
        progress=False,
    )
    rows = study.summary.set_index("condition")
    return {
        "strength": STRENGTH,
        "n_texts": int(rows.at["feature", "n_texts"]),
        "rate": float(rows.at["feature", "rate"]),
        "rate_none": float(rows.at["none", "rate"]),
        "rate_controls": float(rows.at["control", "rate"]) if controls else None,
        "nll_increase": float(rows.at["feature", "nll_increase"]),
    }


def judge(
    model: sk.LanguageModel, sae: sk.SAE, cache: sk.ActivationCache, out: Path, *, steering: bool = True
) -> dict[str, Any]:
    """Every concept's feature and its figures, written to OUT/concepts.json one by one; done ones are passed over."""
    choose, report = halves(model, sae, cache, out)
    path = out / "concepts.json"
    done: dict[str, Any] = read_json(path) if path.exists() else {}
    if done.get("sae") != sae.fingerprint:
        done = {
            "sae": sae.fingerprint,
            "n_tokens_chosen": choose.n_tokens,
            "n_tokens_reported": report.n_tokens,
            "silent": int((choose.features["dead"] & report.features["dead"]).sum()),
            "concepts": {},
        }
    for concept in NAMED:
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
    print(f"{done['n_reached']} of {len(NAMED)} concepts have a feature", flush=True)
    return done


def line(row: dict[str, Any]) -> str:
    if row["feature"] is None:
        return "not in this text, or no feature fires"
    steered = row.get("steering")
    said = f"; said {steered['rate']:.0%}, controls {steered['rate_controls']:.0%}" if steered else ""
    return (
        f"{'yes' if row['reached'] else 'no':<4}feature {row['feature']:<6} AUROC {row['auroc']:.3f} (controls "
        f"{row['controls_auroc']:.2f}), top precision {row['top_precision']:.2f} of {row['n_top_firings']}{said}"
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
                "AUROC": f"{row['auroc']:.3f} [{row['auroc_low']:.3f}, {row['auroc_high']:.3f}]",
                "matched": f"{row['controls_auroc']:.2f} ({row['controls_auroc_best']:.2f})",
                "top precision": f"{row['top_precision']:.2f} of {row['n_top_firings']}",
                "matched ": f"{row['controls_top_precision']:.2f}",
                "recall": f"{row['recall']:.2f}",
                "reached": "yes" if row["reached"] else "no",
                "said": f"{s['rate']:.0%}" if s else "",
                "matched  ": f"{s['rate_controls']:.0%}" if s else "",
                "unsteered": f"{s['rate_none']:.0%}" if s else "",
            }
        )
    frame = pd.DataFrame(rows).fillna("")
    return markdown(frame)


def markdown(frame: pd.DataFrame) -> str:
    head = "| " + " | ".join(str(c).strip() for c in frame.columns) + " |"
    body = ["| " + " | ".join(map(str, row)) + " |" for row in frame.itertuples(index=False)]
    return "\n".join([head, "|" + "---|" * len(frame.columns), *body])
