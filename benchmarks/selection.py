"""Whether the search for a feature can be fooled: random labels, real concepts, and what the test costs.

Random labels are drawn of some of the documents of an index, and the feature that `rank_features` puts first is
reported as a user would see it: how often it is called specific (corrected p below 0.05), how often some feature is,
the mean AUROC on the documents that chose it and on the others. With exact p values the second rate is 10 in 201 on
average for 200 permutations (the largest p below 0.05 is 10 / 201), and 400 draws have a binomial standard deviation of
1.1 percentage points about it. The first cannot be larger.

Real concepts are the values of the documents' labels and words of their texts, all of which enough documents hold: the
average precision, on the reporting half, of the feature chosen on the other half against that of the feature chosen on
all documents, which has seen the reporting half too.

    python benchmarks/selection.py [--index FOLDER] [--documents 100] [--draws 400] [--positive 5]

Without --index, one is built of the first shuffled documents of the demo corpus with the packaged SAE of 16,384
features, which takes a minute or two. Prints a table and one JSON line.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import saekit as sk
from saekit.specificity import permutation
from saekit.specificity.split import split_documents
from saekit.statistics import MIN_UNITS, clustered_mean, clustered_proportion

WORDS = ("bridge", "city", "water", "love", "time", "people", "he", "she", "not", "world", "years", "built", "you", "I")
LABELS = ("style", "group", "topic")


def build(n_documents: int, out: Path) -> sk.FeatureIndex:
    """An index of the 16k features over shuffled documents of the demo corpus."""
    model, sae = sk.load_model(), sk.load_sae("smollm2-135m-instruct/16k")
    return sk.build_index(model, sae, sk.load_corpus("demo").shuffle(0).take(n_documents), out=out)


def with_label(index: sk.FeatureIndex, holds: np.ndarray) -> sk.Concept:
    """A concept of some documents, put on them as a label of this session."""
    index.documents["drawn"] = holds
    return sk.Concept.labels(drawn=True)


def forget(index: sk.FeatureIndex) -> None:
    """Drops what is remembered of concepts, since the label of random draws changes beneath them."""
    from saekit.specificity import concepts

    concepts._MASKS.pop(index, None)
    permutation._TESTS.pop(index, None)


def random_labels(index: sk.FeatureIndex, n_draws: int, n_positive: int, unit: str, seed: int) -> dict[str, Any]:
    """What the first feature looks like for random labels."""
    rng = np.random.default_rng(seed)
    rows = []
    for draw in range(n_draws):
        holds = np.zeros(len(index.documents), dtype=bool)
        holds[rng.permutation(len(holds))[:n_positive]] = True
        concept = with_label(index, holds)
        forget(index)
        table = sk.rank_features(index, concept, unit=unit, n=1, by="auroc", seed=draw)  # type: ignore[arg-type]
        first = table.iloc[0]
        rows.append((first["choose_auroc"], first["auroc"], first["p_value"], table.attrs["p_any"]))
        if (draw + 1) % 50 == 0:
            print(f"{draw + 1} of {n_draws} random labels", flush=True)
    index.documents.pop("drawn")
    choose, report, p, p_any = np.array(rows).T
    return {
        "called_specific": clustered_proportion(p < permutation.ALPHA, np.ones(n_draws), unit="draws"),
        "some_feature": clustered_proportion(p_any < permutation.ALPHA, np.ones(n_draws), unit="draws"),
        "auroc_choosing": clustered_mean(list(choose[:, None]), unit="draws"),
        "auroc_reported": clustered_mean(list(report[:, None]), unit="draws"),
    }


def concepts(index: sk.FeatureIndex) -> list[tuple[sk.Concept, str]]:
    """The real concepts of an index, with what each is scored by, that enough documents hold and lack."""
    found: list[tuple[sk.Concept, str]] = []
    for label in LABELS:
        found += [(sk.Concept.labels({label: v}), "document") for v in sorted(index.documents[label].unique())]
    found += [(sk.Concept.keywords([word]), unit) for word in WORDS for unit in ("token", "document")]
    enough = []
    for concept, unit in found:
        try:
            split = split_documents(index, concept)
        except sk.errors.SaekitError:
            continue
        if split.n_distinct >= 2 * MIN_UNITS and (~split.holds).sum() >= 2 * MIN_UNITS:
            enough.append((concept, unit))
    return enough


def real_concepts(index: sk.FeatureIndex) -> pd.DataFrame:
    """A row per concept: the reported average precision of the feature chosen either way."""
    rows = []
    for concept, unit in concepts(index):
        half = sk.rank_features(index, concept, unit=unit, n=1)  # type: ignore[arg-type]
        whole = sk.rank_features(index, concept, unit=unit, n=1, split=False)  # type: ignore[arg-type]
        feature, other = int(half.index[0]), int(whole.index[0])
        reported = sk.specificity(index, other, concept, unit=unit, n_controls=0)  # type: ignore[arg-type]
        rows.append(
            {
                "concept": concept.name,
                "unit": unit,
                "documents": int(split_documents(index, concept).n_distinct),
                "feature": feature,
                "chosen_on_all": other,
                "ap_choosing": half["choose_average_precision"].iloc[0],
                "ap": half["average_precision"].iloc[0],
                "ap_of_chosen_on_all": reported.average_precision.value,
                "p": half["p_value"].iloc[0],
            }
        )
    table = pd.DataFrame(rows)
    table["lost"] = table["ap_of_chosen_on_all"] - table["ap"]
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path, help="a finished index with the labels of the demo corpus")
    parser.add_argument("--documents", type=int, default=100)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--positive", type=int, default=5, help="documents of a random label")
    parser.add_argument("--unit", choices=("token", "document"), default="document")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        index = sk.load_index(args.index) if args.index else build(args.documents, Path(folder) / "index")
        print(index)
        concept = sk.Concept.labels(style="chat")
        sk.rank_features(index, concept, unit=args.unit, n_permutations=0)  # files are read once
        forget(index)
        began = time.perf_counter()
        sk.rank_features(index, concept, unit=args.unit, n_permutations=200)
        seconds = time.perf_counter() - began
        print(f"\na ranking of {index.d_sae:,} features with 200 permutations: {seconds:.2f} s\n")
        real = real_concepts(index)
        print(real.round(3).to_string(index=False))
        lost = clustered_mean(list(real["lost"].to_numpy()[:, None]), unit="concepts")
        called = clustered_proportion(real["p"] < permutation.ALPHA, np.ones(len(real)), unit="concepts")
        print(f"\naverage precision lost by choosing on half: {lost:.3f}; called specific: {called:.3f}\n", flush=True)
        drawn = random_labels(index, args.draws, args.positive, args.unit, args.seed)
        for name, estimate in drawn.items():
            print(f"random labels, {name}: {estimate:.3f}")
    out = {
        "benchmark": "selection",
        "documents": index.n_documents,
        "d_sae": index.d_sae,
        "draws": args.draws,
        "positive": args.positive,
        "unit": args.unit,
        "ranking_seconds": round(seconds, 2),
        "average_precision_lost": lost.row(),
        "real_called_specific": called.row(),
        **{name: estimate.row() for name, estimate in drawn.items()},
    }
    print(json.dumps(out))


if __name__ == "__main__":
    main()
