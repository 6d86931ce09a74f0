"""Whether the search for a feature can be fooled: random labels, real concepts, and what the test costs.

Random labels are drawn of some of the documents of an index, and the feature that `rank_features` puts first is
reported as a user would see it: how often it is called specific (corrected p below 0.05), how often some feature is,
the mean AUROC on the documents that chose it and on the others. With exact p values the second rate is 10 in 201 on
average for 200 permutations (the largest p below 0.05 is 10 / 201), and 400 draws have a binomial standard deviation of
1.1 percentage points about it. The first cannot be larger.

Real concepts are the values of the documents' labels and the commonest words of their texts, all of which at least ten
documents hold and ten lack. What is lost by choosing on half of the documents: the average precision of the feature
chosen on half of them against that of the feature chosen on all, both on other documents, which neither choice saw. The
mean is over several samples of documents: which words are common depends on the sample.

    python benchmarks/selection.py [--documents 100] [--samples 3] [--other 300] [--draws 400] [--positive 5]
        [--unit token] [--index FOLDER ... --other-index FOLDER ...]

Indexes are built of the demo corpus in shuffled order with the packaged SAE of 16,384 features, which takes a few
minutes, unless they are given, one of the other documents for each. Random labels are of the first. Prints tables and
one JSON line.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import saekit as sk
from saekit.errors import DataError
from saekit.specificity import permutation
from saekit.specificity.split import split_documents
from saekit.statistics import MIN_UNITS, clustered_mean, clustered_proportion

LABELS = ("style", "group", "topic")
N_WORDS = 40


def build(first: int, last: int, out: Path) -> sk.FeatureIndex:
    """An index of the 16k features over documents first to last of the shuffled demo corpus."""
    model, sae = sk.load_model(), sk.load_sae("smollm2-135m-instruct/16k")
    documents = list(sk.load_corpus("demo").shuffle(0).take(last))[first:]
    corpus = sk.load_corpus([{"text": d.text, **d.labels} for d in documents], name=f"demo, {first} to {last}")
    return sk.build_index(model, sae, corpus, out=out)


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
    counts = Counter(word for _, _, run in index.texts() for word in set(re.findall(r"\b[a-z]{4,}\b", run.text)))
    words = sorted(counts, key=lambda word: (-counts[word], word))
    found += [(sk.Concept.keywords([word]), unit) for word in words[: 4 * N_WORDS] for unit in ("token", "document")]
    enough = []
    for concept, unit in found:
        split = split_documents(index, concept)
        if split.n_distinct >= 2 * MIN_UNITS and (~split.holds).sum() >= 2 * MIN_UNITS:
            enough.append((concept, unit))
    n_labels = sum(concept.kind == "labels" for concept, _ in enough)
    return enough[: n_labels + 2 * N_WORDS]


def average_precision(index: sk.FeatureIndex, feature: int, concept: sk.Concept, unit: str) -> float:
    """On all documents of an index; that of a feature which never fires is the base rate."""
    options: dict[str, Any] = {"documents": "all", "n_controls": 0, "n_permutations": 0}
    result = sk.specificity(index, feature, concept, unit=unit, **options)  # type: ignore[arg-type]
    return result.average_precision.value if result.n_firings else result.base_rate.value


def real_concepts(index: sk.FeatureIndex, other: sk.FeatureIndex) -> pd.DataFrame:
    """A row per concept: the average precision, on other documents, of the feature chosen either way."""
    rows = []
    for concept, unit in concepts(index):
        half = sk.rank_features(index, concept, unit=unit, n=1)  # type: ignore[arg-type]
        whole = sk.rank_features(index, concept, unit=unit, n=1, split=False, n_permutations=0)  # type: ignore[arg-type]
        features = int(half.index[0]), int(whole.index[0])
        try:
            ap, ap_all = (average_precision(other, feature, concept, unit) for feature in features)
        except DataError:  # the other documents lack it
            continue
        rows.append(
            {
                "concept": concept.name,
                "unit": unit,
                "documents": split_documents(index, concept).n_distinct,
                "feature": features[0],
                "chosen_on_all": features[1],
                "ap_choosing": half["choose_average_precision"].iloc[0],
                "ap_reported": half["average_precision"].iloc[0],
                "ap_elsewhere": ap,
                "ap_all_elsewhere": ap_all,
                "p": half["p_value"].iloc[0],
                "lost": ap_all - ap,
            }
        )
    return pd.DataFrame(rows)


def indexes_of(args: argparse.Namespace, folder: Path) -> tuple[list[sk.FeatureIndex], list[sk.FeatureIndex]]:
    """The indexes that features are chosen on, and for each the one of documents that neither choice saw."""
    if args.index:
        return [sk.load_index(p) for p in args.index], [sk.load_index(p) for p in args.other_index]
    n = args.documents
    samples = [build(i * n, (i + 1) * n, folder / f"{i}") for i in range(args.samples)]
    other = build(args.samples * n, args.samples * n + args.other, folder / "other")
    return samples, [other] * args.samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path, nargs="+", help="finished indexes with the labels of the demo corpus")
    parser.add_argument("--other-index", type=Path, nargs="+", help="for each, one of other documents of it")
    parser.add_argument("--other", type=int, default=300, help="documents that neither choice saw")
    parser.add_argument("--documents", type=int, default=100)
    parser.add_argument("--samples", type=int, default=3, help="of so many documents")
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--positive", type=int, default=5, help="documents of a random label")
    parser.add_argument("--unit", choices=("token", "document"), default="document")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        indexes, others = indexes_of(args, Path(folder))
        index = indexes[0]
        print(index)
        concept = sk.Concept.labels(style="chat")
        sk.rank_features(index, concept, unit=args.unit, n_permutations=0)  # files are read once
        forget(index)
        began = time.perf_counter()
        sk.rank_features(index, concept, unit=args.unit, n_permutations=200)
        seconds = time.perf_counter() - began
        print(f"\na ranking of {index.d_sae:,} features with 200 permutations: {seconds:.2f} s\n")
        samples = [real_concepts(*pair) for pair in zip(indexes, others, strict=True)]
        for sample in samples:
            print(sample.round(3).to_string(index=False), f"\nlost: {sample['lost'].mean():.4f}\n", flush=True)
        real = pd.concat(samples)
        lost = clustered_mean(list(real["lost"].to_numpy()[:, None]), unit="concepts")
        specific = clustered_mean(list(real["lost"].to_numpy()[real["p"] < permutation.ALPHA, None]), unit="concepts")
        gained = real["ap_choosing"].mean() - real["ap_reported"].mean()
        called = clustered_proportion(real["p"] < permutation.ALPHA, np.ones(len(real)), unit="concepts")
        print(f"\naverage precision lost by choosing on half: {lost:.3f}; median {real['lost'].median():.3f}")
        print(f"the same where the feature is called specific: {specific:.3f}")
        print(f"average precision that choosing flatters by: {gained:.3f}; called specific: {called:.3f}\n", flush=True)
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
        "lost_by_sample": [round(float(sample["lost"].mean()), 4) for sample in samples],
        "average_precision_lost": lost.row(),
        "average_precision_lost_where_specific": specific.row(),
        "real_called_specific": called.row(),
        **{name: estimate.row() for name, estimate in drawn.items()},
    }
    print(json.dumps(out))


if __name__ == "__main__":
    main()
