"""Whether names hold on other text, and whether a feature is found by what it is called.

Fractions: features of the packaged SAE of 16,384, sampled by density (the same number from each tenth of those whose
name states a fraction), named on one index. What is stated, the part of the activation on the name's words in the
documents that the name was not made from, is compared with that part on another index, of other documents.

Concepts: for the twenty of the SAE's card, whether the best feature by average precision, which the card names, is
among the first three of a search by name and of one by text, for what a person would type. Labels of the card are set
aside, as they give the answer away, and counted apart; so are the concepts that the card could measure on the demo
corpus, of which these indexes are. The baseline is a search by promoted token, and what the three tokens that a feature
promotes most carry.

    python benchmarks/names.py [--index FOLDER --other-index FOLDER] [--features 200]

Indexes are built of the first 500 and of 300 further documents of the demo corpus in shuffled order, which takes a
quarter of an hour, unless they are given. Prints tables and one JSON line.
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
from benchmarks.selection import build
from recipes.default_saes.concepts import NAMED_CONCEPTS
from saekit.errors import UnknownNameError
from saekit.index.name_rules import carried, rule_of
from saekit.index.names import MIN_DOCUMENTS, name_features
from saekit.index.sparse import Sparse
from saekit.json_files import read_json
from saekit.sae.formats.packaged import PRETRAINED
from saekit.statistics import clustered_mean

CARD = PRETRAINED / "smollm2-135m-instruct" / "16k" / "card.json"
N_STRATA = 10
N_FIRST = 3
IN_TEXT = {
    **{"French": " les ", "Spanish": " los ", "German": " und ", "numbers": "1", "bridges": "bridge"},
    **{"Python code": "def ", "markup": "<"},
}
"""What is looked for in text where that is not what is typed."""


def fractions(index: sk.FeatureIndex, other: sk.FeatureIndex, n: int, seed: int = 0) -> dict[str, Any]:
    """What names state against what they carry on the other index."""
    table = name_features(index.by_feature, index.named_text)
    live = table["kind"] != "silent"
    there = carried(other.by_feature, other.named_text, rule_of(table, other.named_text))
    density = index.features["density"].to_numpy()
    enough = table["fraction"].notna() & (other.features["n_documents"] >= MIN_DOCUMENTS)
    candidates = np.flatnonzero(enough)
    strata = np.array_split(candidates[np.argsort(density[candidates], kind="stable")], N_STRATA)
    rng = np.random.default_rng(seed)
    sample = np.concatenate([rng.choice(s, min(len(s), n // N_STRATA), replace=False) for s in strata])
    stated, found = table["fraction"].to_numpy()[sample], there[sample]
    rows = []
    for name, chosen in {"all": sample, **dict(table.loc[sample].groupby("kind").groups)}.items():
        at = np.isin(sample, chosen)
        rows.append(_difference(str(name), stated[at], found[at]))
    for name, some in (("sparsest half", sample[: len(sample) // 2]), ("densest half", sample[len(sample) // 2 :])):
        at = np.isin(sample, some)
        rows.append(_difference(name, stated[at], found[at]))
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    promoted = [[token.strip().casefold() for token in tokens[:3]] for tokens in index.features["promoted"]]
    tokens = pd.DataFrame({"words": promoted, "lead": [[]] * len(promoted), "by": "word"})
    by_promoted = carried(other.by_feature, other.named_text, rule_of(tokens, other.named_text))[sample]
    print(f"the three tokens that each promotes most carry {by_promoted.mean():.3f}")
    kinds = table["kind"][live].value_counts(normalize=True).round(3).to_dict()
    return {
        "kinds_of_live": kinds,
        "n_live": int(live.sum()),
        "n_stating": int(table["fraction"].notna().sum()),
        "n_on_both": len(candidates),
        "promoted_carry": round(float(by_promoted.mean()), 4),
        **{key: round(float(value), 4) for key, value in rows[0].items() if key != "names"},
    }


def times(index: sk.FeatureIndex) -> dict[str, Any]:
    """Processor time of finding the words of the text, and of naming once, twice and four times the features."""
    columns, opened, rows = index.by_feature, sk.load_index(index.path), []
    _ = opened.by_feature, opened.windows
    started = time.process_time()
    text = opened.named_text
    words = time.process_time() - started
    for n in (1, 2, 4):
        start = np.concatenate([columns.start[:1], *(columns.start[1:] + k * columns.start[-1] for k in range(n))])
        several = Sparse(start, np.tile(columns.column, n), np.tile(columns.value, n))
        started = time.process_time()
        name_features(several, text)
        rows.append({"features": several.n_rows, "firings": len(several.column), "s": time.process_time() - started})
    print(f"\nwords of {index.n_tokens:,} tokens: {words:.2f} s of processor time; names:")
    print(pd.DataFrame(rows).round(2).to_string(index=False))
    return {"words_cpu_s": round(words, 2), "naming_cpu_s": {r["features"]: round(r["s"], 2) for r in rows}}


def _difference(name: str, stated: np.ndarray, found: np.ndarray) -> dict[str, Any]:
    signed = clustered_mean((found - stated)[:, None], unit="features")
    absolute = clustered_mean(np.abs(found - stated)[:, None], unit="features")
    return {
        "names": name,
        "n": len(stated),
        "stated": stated.mean(),
        "found": found.mean(),
        "absolute": absolute.value,
        "absolute_low": absolute.low,
        "absolute_high": absolute.high,
        "signed": signed.value,
        "signed_low": signed.low,
        "signed_high": signed.high,
    }


def concepts(index: sk.FeatureIndex) -> dict[str, Any]:
    """For each concept of the card, at which place its best feature comes by name, text and promoted token."""
    card, rows = read_json(CARD)["concepts"], []
    for concept in NAMED_CONCEPTS:
        typed, feature = concept.name, int(card[concept.name]["feature"])
        fires = int(index.features["n_firings"][feature])
        row: dict[str, Any] = {"concept": concept.name, "feature": feature, "called": index.name(feature)}
        row |= {"firings": fires, "measured on": card[typed]["text"], "name": _place(index, feature, name=typed)}
        row["text"] = _place(index, feature, text=IN_TEXT.get(concept.name, typed))
        rows.append(row | {"promoted": _promoted_place(index, feature, typed)})
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format=lambda v: f"{v:.0f}"))
    first = {how: table[how] <= N_FIRST for how in ("name", "text", "promoted")}
    here = table["measured on"] == "demo"
    return {
        "n": len(table),
        "by_name": int(first["name"].sum()),
        "by_text": int(first["text"].sum()),
        "by_name_or_text": int((first["name"] | first["text"]).sum()),
        "by_promoted": int(first["promoted"].sum()),
        "n_in_demo": int(here.sum()),
        "in_demo_by_name_or_text": int((here & (first["name"] | first["text"])).sum()),
    }


def _place(index: sk.FeatureIndex, feature: int, **question: str) -> float:
    """At which place a search has a feature, from 1; nan where it does not."""
    found = index.search(**question, n=index.d_sae)["feature"].tolist()  # type: ignore[arg-type]
    return found.index(feature) + 1 if feature in found else float("nan")


def _promoted_place(index: sk.FeatureIndex, feature: int, token: str) -> float:
    try:
        return _place(index, feature, token=token)
    except UnknownNameError:
        return float("nan")


def without_labels(index: sk.FeatureIndex) -> sk.FeatureIndex:
    """The index, opened anew, without the labels of the card."""
    opened = sk.load_index(index.path)
    opened._labels._card = []
    return opened


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path)
    parser.add_argument("--other-index", type=Path)
    parser.add_argument("--features", type=int, default=200)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        index = sk.load_index(args.index) if args.index else build(0, 500, Path(folder) / "index")
        other = sk.load_index(args.other_index) if args.other_index else build(500, 800, Path(folder) / "other")
        result: dict[str, Any] = {"n_tokens": index.n_tokens, "other_n_tokens": other.n_tokens}
        result["fractions"] = fractions(index, other, args.features)
        result["times"] = times(index)
        print("\nplaces of the best features by automatic name, text and promoted token")
        result["concepts"] = concepts(without_labels(index))
        print("\nthe same with the labels of the card")
        result["concepts_with_labels"] = concepts(sk.load_index(index.path))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
