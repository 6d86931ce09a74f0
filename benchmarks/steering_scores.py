"""Which score tells whether clamping a feature makes its concept appear: four of them against what the model says.

    python benchmarks/steering_scores.py [--sae smollm2-135m-instruct/16k] [--strength 0.35] [--candidates 2]
                                         [--prompts 6] [--tokens 24] [--concepts 10] [--out FOLDER]

For each of ten concepts, or the first few, the features that fire for it and those that write its words
(`steering_features`) are clamped while the model answers questions that mention none of the concepts, greedily; a
feature's success is the fraction of its answers that show the concept. Beside it, how often an answer holds one of the
feature's own top logit-lens tokens, which is what an output score is about. Spearman's correlation with success over
features:

    word effect         `word_effects`: change of the concept's words' log-probability under the clamp, in nats
    output score        `output_scores`, Arad et al. 2025
    input score         `input_scores`, Arad et al. 2025; features with ten contexts or more
    average precision   how well the feature separates the concept, `rank_features`; features with five firings or more

The unit is the feature: delete-one jackknife t intervals, also of the difference between word effect and output score.
Prints a table and one JSON line. With --out, answers are kept in the folder and a stopped run resumes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from train_step import machine

import saekit as sk
from saekit.statistics import Estimate, jackknife_estimate
from saekit.steering.output_scores import N_LENS_TOKENS, lens_tokens
from saekit.steering.questions import REPORTING_QUESTIONS

CONCEPTS = {
    "golden_gate_bridge": (sk.Concept.regex(r"golden gate|\bbridges?\b", name="bridges"), (" bridge", " Bridge")),
    "bread": (sk.Concept.regex(r"\bbreads?\b|\bbak(e|ed|er|ing)\b", name="bread"), (" bread", " baking")),
    "japan": (sk.Concept.regex(r"\bjapan(ese)?\b|\btokyo\b", name="Japan"), (" Japan", " Japanese")),
    "ancient_egypt": (sk.Concept.regex(r"\begypt(ians?)?\b|\bpyramids?\b", name="Egypt"), (" Egypt", " pyramid")),
    "gold_mining": (sk.Concept.regex(r"\bgold(en)?\b", name="gold"), (" gold", " Gold")),
    "trains": (sk.Concept.regex(r"\btrains?\b|\brail(way|road)s?\b", name="trains"), (" train", " railway")),
    "robots": (sk.Concept.regex(r"\brobot(s|ic|ics)?\b", name="robots"), (" robot", " robots")),
    "fear": (sk.Concept.regex(r"\bfear(s|ed|ful)?\b|\bafraid\b", name="fear"), (" fear", " afraid")),
    "law": (sk.Concept.regex(r"\blaws?\b|\blawyers?\b|\blegal\b", name="law"), (" law", " legal")),
    "forests": (sk.Concept.regex(r"\bforests?\b|\btrees?\b", name="forests"), (" forest", " trees")),
}
"""By topic of the demo corpus: what an answer must show, and its words as next tokens."""
N_DOCUMENTS = 10
"""Of each topic."""
OUTCOMES = ("success", "own words")
SCORES = ("word effect", "output score", "input score", "average precision")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sae", default="smollm2-135m-instruct/16k")
    parser.add_argument("--strength", type=float, default=0.35)
    parser.add_argument("--candidates", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--concepts", type=int, default=len(CONCEPTS))
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    out = asked.out or Path(tempfile.mkdtemp())
    model, sae = sk.load_model(), sk.load_sae(asked.sae)
    index = indexed(model, sae, out / "index")
    unmentioned = [q for q in REPORTING_QUESTIONS if not any(c.present(q) for c, _ in CONCEPTS.values())]
    frames = []
    for topic, (concept, words) in list(CONCEPTS.items())[: asked.concepts]:
        found = sk.steering_features(model, sae, index, concept, words, n=asked.candidates, progress=False)
        first, *rest = (int(i) for i in found.index)
        study = sk.dose_response(
            model, sae, first, unmentioned[: asked.prompts], concept, [asked.strength], choose=(), controls=rest,
            texts_per_control=asked.prompts, max_new_tokens=asked.tokens, out=out / topic, progress=False,
        )  # fmt: skip
        frames.append(scored(model, sae, index, found, study).assign(concept=concept.name))
        print(frames[-1].round(3).to_string(), flush=True)
    table = pd.concat(frames).reset_index()
    of_scores = {against: {score: with_success(table, score, against) for score in SCORES} for against in OUTCOMES}
    both = ["word effect", "output score", "success"]
    difference = correlation(
        table, lambda t: rank_correlation(t[both[0]], t["success"]) - rank_correlation(t[both[1]], t["success"]), both
    )
    print(pd.DataFrame({against: {s: str(e) for s, e in of.items()} for against, of in of_scores.items()}).to_string())
    print("word effect minus output score, with success:", difference)
    print("features that show their concept:", int((table["success"] > 0).sum()), "of", len(table))
    print(
        json.dumps(
            {
                "benchmark": "steering_scores",
                "sae": asked.sae,
                "strength": asked.strength,
                "n_features": len(table),
                "n_concepts": len(frames),
                "n_prompts": asked.prompts,
                "n_tokens": asked.tokens,
                "unsteered": float(table["unsteered"].mean()),
                "spearman": {a: {s: e.row() for s, e in of.items()} for a, of in of_scores.items()},
                "difference": difference.row(),
                "features": table.round(4).to_dict("records"),
                **machine("cpu"),
            },
            default=str,
        )
    )


def indexed(model: sk.LanguageModel, sae: sk.SAE, folder: Path) -> sk.FeatureIndex:
    """The index of documents about the concepts."""
    if folder.exists():
        return sk.load_index(folder)
    corpus = sk.load_corpus("demo")
    chosen = [d for topic in CONCEPTS for d in corpus.where(topic=topic).take(N_DOCUMENTS)]
    return sk.build_index(
        model, sae, sk.load_corpus([{"text": d.text, **d.labels} for d in chosen]), out=folder, progress=False
    )


def scored(
    model: sk.LanguageModel, sae: sk.SAE, index: sk.FeatureIndex, found: pd.DataFrame, study: sk.SteeringStudy
) -> pd.DataFrame:
    """A row per candidate: the four scores, and what clamping it does."""
    features = [int(i) for i in found.index]
    texts = study.to_frame()
    steered = texts[texts["condition"] != "none"]
    own = dict(zip(features, map(set, lens_tokens(model, sae, features, N_LENS_TOKENS).tolist()), strict=True))
    pairs = zip(steered["feature"].tolist(), steered["tokens"].tolist(), strict=True)
    says = steered.assign(own=[bool(own[int(feature)] & set(tokens)) for feature, tokens in pairs])
    rates = says.groupby("feature")[["concept_present", "own"]].mean()
    return pd.DataFrame(
        {
            "word effect": found["output"],
            "output score": sk.output_scores(model, sae, features)["score"],
            "input score": sk.input_scores(model, sae, index, features)["score"],
            "average precision": found["input"],
            "success": rates["concept_present"],
            "own words": rates["own"],
            "unsteered": float(texts[texts["condition"] == "none"]["concept_present"].mean()),
        }
    ).loc[features]


def rank_correlation(a: pd.Series, b: pd.Series) -> float:
    return float(spearmanr(a, b).statistic) if a.nunique() > 1 and b.nunique() > 1 else float("nan")


def with_success(table: pd.DataFrame, score: str, against: str) -> Estimate:
    return correlation(table, lambda t: rank_correlation(t[score], t[against]), [score, against])


def correlation(table: pd.DataFrame, statistic: Callable[[pd.DataFrame], float], needed: list[str]) -> Estimate:
    """A statistic of the features for which all that it needs is known, with its interval over features."""
    known = table.dropna(subset=needed).reset_index(drop=True)
    without = np.array([statistic(known.drop(index=i)) for i in known.index])
    return jackknife_estimate(statistic(known), without, scale="identity", unit="features", reason="no variation")


if __name__ == "__main__":
    main()
